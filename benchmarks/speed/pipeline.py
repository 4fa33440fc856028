"""A complete training epoch: batching, encoders, one layer, readout, head, optimizer.

Single-vector modalities, some of them missing; every modality receives from every other
one, and the readout is the mean over node types. PyTorch Geometric uses one HeteroData
per sample, prepared in advance, in its DataLoader; a missing modality is a node type
without nodes. Its encoders are one Linear each, and HGTConv has no feed-forward block.
mmgraph is built in two ways: with its defaults (standardization and two maps as
encoders, a feed-forward block), and with the same parts as the other model.

Letters: ``B`` samples, ``M`` modalities, ``C`` channels, ``D`` width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.loader import DataLoader
from torch_geometric.nn import HGTConv

from mmgraph import Classification, FusionModel, Modality, MultimodalData, Schema
from mmgraph.nn import EmbeddingEncoder
from mmgraph.ops import segment_mean
from mmgraph.schema import Relation
from speed.workloads import HEADS, WIDTH

PYG, LIKE_PYG = "PyG", "mmgraph with one map as encoder, without feed-forward"
MISSING = 0.3
NUM_CLASSES = 2


@dataclass(frozen=True)
class Task:
    """A random task on incomplete vectors.

    Attributes:
        modalities: ``M``.
        samples: Their number.
        batch: ``B``.
        channels: ``C``.
        width: ``D``.
        setting: "full", or "defaults": those of the estimators.
    """

    modalities: int
    samples: int = 2048
    batch: int = 256
    channels: int = 32
    width: int = WIDTH
    setting: str = "full"

    @property
    def name(self) -> str:
        """A short name, such as ``M4 0.3 B256 D128``."""
        return f"M{self.modalities} {MISSING:g} B{self.batch} D{self.width}"

    @property
    def by_default(self) -> "Task":
        """The same at the batch and width of the estimators."""
        return replace(self, batch=64, width=32, setting="defaults")

    @property
    def schema(self) -> Schema:
        """Every modality receives from every other one; all are read out."""
        names = [f"m{i}" for i in range(self.modalities)]
        modalities = [Modality(name, self.channels) for name in names]
        return Schema(modalities, relations=[Relation("*", "*")])

    def make_data(self, seed: int = 0) -> MultimodalData:
        """Draw samples, each modality missing with probability ``MISSING``."""
        rng = np.random.default_rng(seed)
        shape = (self.samples, self.channels)
        schema = self.schema
        return MultimodalData.from_arrays(
            {
                name: rng.normal(size=shape).astype(np.float32)
                for name in schema.modality_names
            },
            y=rng.integers(0, NUM_CLASSES, self.samples),
            present=rng.random((self.samples, self.modalities)) >= MISSING,
            schema=schema,
        )


def make_graphs(task: Task, data: MultimodalData) -> list[HeteroData]:
    """Return one graph a sample, edges included, as PyTorch Geometric trains on."""
    edge = torch.zeros(2, 1, dtype=torch.long)
    none = torch.zeros(2, 0, dtype=torch.long)
    assert data.y is not None
    graphs = []
    for i in range(len(data)):
        graph = HeteroData()
        there = {}
        for name, column in data.columns.items():
            first, last = column.offsets[i : i + 2]
            graph[name].x = torch.from_numpy(column.values[first:last].copy())
            there[name] = last > first
        for source, relation, target in task.schema.edge_types:
            both = there[source] and there[target]
            graph[source, relation, target].edge_index = edge if both else none
        graph.y = torch.tensor([int(data.y[i])])
        graphs.append(graph)
    return graphs


class HGTClassifier(nn.Module):
    """Linear encoders, one HGTConv, the mean over present node types, a head."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        schema = task.schema
        self.encoders = nn.ModuleDict(
            {m: nn.Linear(task.channels, task.width) for m in schema.modality_names}
        )
        metadata = (list(schema.node_types), list(schema.edge_types))
        self.conv = HGTConv(task.width, task.width, metadata, heads=HEADS)
        self.head = nn.Linear(task.width, NUM_CLASSES)

    def forward(self, data: HeteroData) -> Tensor:
        """Return logits ``[B, K]``."""
        x_dict = {m: F.gelu(f(data[m].x)) for m, f in self.encoders.items()}
        out = self.conv(x_dict, data.edge_index_dict)
        state = torch.cat([out[m] for m in x_dict])
        owner = torch.cat([data[m].batch for m in x_dict])
        # single vectors: the mean over nodes is the mean over node types
        logits: Tensor = self.head(segment_mean(state, owner, data.num_graphs))
        return logits


def our_model(
    task: Task, data: MultimodalData, *, like_pyg: bool = False
) -> FusionModel:
    """Return a one-layer model, its scaling fitted.

    Args:
        task: Its schema and width.
        data: What the scaling is fitted on.
        like_pyg: Of the parts that :class:`HGTClassifier` has: encoders of one map, and
            no feed-forward map. Otherwise as users get it.
    """
    simple = {m: EmbeddingEncoder(task.channels, task.width) for m in data.modalities}
    model = FusionModel(
        task.schema,
        Classification(NUM_CLASSES),
        hidden_channels=task.width,
        num_layers=1,
        num_heads=HEADS,
        feed_forward="none" if like_pyg else "typed",
        encoders=simple if like_pyg else None,
    )
    model.fit_scaling(data.batch())
    return model


def our_epoch(
    task: Task, data: MultimodalData, *, like_pyg: bool = False
) -> Callable[[], float]:
    """Return a function that trains one epoch from ``data``; see :func:`our_model`."""
    model = our_model(task, data, like_pyg=like_pyg)

    def batches() -> Iterator[tuple[Any, Tensor]]:
        for rows in torch.randperm(len(data)).split(task.batch):
            batch = data.batch(rows.numpy())
            assert batch.y is not None
            yield batch, batch.y

    return _epoch(model, lambda batch: model(batch).logits, batches)


def pyg_epoch(task: Task, data: MultimodalData) -> Callable[[], float]:
    """Return a function that trains one epoch from a list of graphs."""
    model = HGTClassifier(task)
    graphs = make_graphs(task, data)
    loader = DataLoader(graphs, batch_size=task.batch, shuffle=True)

    def batches() -> Iterator[tuple[Any, Tensor]]:
        for batch in loader:
            yield batch, batch.y

    return _epoch(model, model, batches)


def _epoch(
    model: nn.Module,
    predict: Callable[[Any], Tensor],
    batches: Callable[[], Iterator[tuple[Any, Tensor]]],
) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)

    def epoch() -> float:
        total = 0.0
        for batch, y in batches():
            optimiser.zero_grad()
            loss = F.cross_entropy(predict(batch), y)
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        return total

    return epoch
