"""Small ensemble of graph networks on two modalities, and its training data."""

from dataclasses import fields

import torch
from torch import Tensor

from mmgraph import Batch, Classification, FusionModel, Modality, Schema
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.train import TrainingSet

NUM, MEMBERS = 200, 2


def build(**options) -> tuple[FusionModel, EvidencePool]:
    """Return an ensemble of two members, and a pool with initial weights."""
    schema = Schema.star([Modality("a", 2), Modality("b", 2)])
    graph = FusionModel(
        schema,
        Classification(2),
        hidden_channels=16,
        num_heads=2,
        evidence_channels=2,
        members=MEMBERS,
        **options,
    )
    return graph, EvidencePool(2, 1, 2).requires_grad_(False)


def make(law: str = "product") -> TrainingSet:
    """Labels that are the sign of a product across modalities, or noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, NUM, 2, generator=generator)
    noise = torch.randn(NUM, generator=generator)
    sign = x[0, :, 0] * x[1, :, 0] if law == "product" else noise
    numbers = torch.arange(NUM)
    member_weights = torch.ones(MEMBERS, NUM)
    for e in range(MEMBERS):
        member_weights[e, numbers % 5 == e] = 0

    def batch_of(indices: Tensor) -> Batch:
        rows = torch.arange(len(indices))
        return Batch(
            len(indices),
            {"a": x[0, indices], "b": x[1, indices]},
            {"a": rows, "b": rows},
        )

    parts = {
        "batch_of": batch_of,
        "present": torch.ones(NUM, 2, dtype=torch.bool),
        "evidence": torch.zeros(NUM, 2, 1, 2),
        "y": (sign > 0).long(),
        "member_weights": member_weights,
        "groups": numbers,
    }
    return TrainingSet(
        **{f.name: parts[f.name] for f in fields(TrainingSet) if f.name in parts}
    )
