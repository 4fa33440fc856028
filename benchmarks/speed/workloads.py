"""Random incomplete batches, and the same graphs as PyTorch Geometric takes them.

Letters: ``B`` samples, ``M`` modalities, ``T`` tokens, ``N`` nodes, ``E`` edges, ``D``
width.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmgraph import Batch, Modality, Schema
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph

WIDTH = 128
HEADS = 4
BATCH = 256
EDGE_TENSORS = 6.8  # [E, D] floats that a step of HGTConv holds at its peak, measured
LIMIT_GB = 12.0


@dataclass(frozen=True)
class Workload:
    """M modalities of T tokens each, of which some are missing.

    Attributes:
        modalities: ``M``.
        tokens: ``T``.
        missing: Share of (sample, modality) pairs that are missing, exactly.
        batch: ``B``.
        width: ``D``.
        note: What differs from the full size, and why.
    """

    modalities: int
    tokens: int
    missing: float
    batch: int = BATCH
    width: int = WIDTH
    note: str = ""

    @property
    def name(self) -> str:
        """A short name, such as ``M4 T8 0.5 B256``."""
        return f"M{self.modalities} T{self.tokens} {self.missing:g} B{self.batch}"

    @cached_property
    def schema(self) -> Schema:
        """Every modality and a fusion node receive from all modalities."""
        return Schema.complete(
            Modality(f"m{i}", self.width, kind="embedding", tokens="ragged")
            for i in range(self.modalities)
        )

    @property
    def expected_edges(self) -> float:
        """Edges to expect: pairs of nodes of a sample, and one to fuse for each."""
        nodes = self.modalities * self.tokens * (1 - self.missing)
        spread = self.modalities * self.missing * (1 - self.missing) * self.tokens**2
        return self.batch * (nodes**2 + spread + nodes)

    def reference_gb(self) -> float:
        """Estimate the peak memory of a step of HGTConv in GB."""
        return self.expected_edges * self.width * 4 * EDGE_TENSORS / 1e9

    def within(self, limit_gb: float) -> "Workload":
        """Halve the batch until HGTConv's step is expected to fit."""
        smaller = self
        while smaller.reference_gb() > limit_gb and smaller.batch > 1:
            smaller = Workload(
                self.modalities,
                self.tokens,
                self.missing,
                smaller.batch // 2,
                self.width,
                f"batch below {self.batch}: PyG would need "
                f"{self.reference_gb():.0f} GB (estimated), limit {limit_gb:g}",
            )
        return smaller

    def present(self, seed: int = 0) -> Tensor:
        """Draw ``[B, M]`` Bool with exactly the share that is missing."""
        generator = torch.Generator().manual_seed(seed)
        cells = self.batch * self.modalities
        present = torch.ones(cells, dtype=torch.bool)
        order = torch.randperm(cells, generator=generator)
        present[order[: round(self.missing * cells)]] = False
        return present.view(self.batch, self.modalities)

    def make_batch(self, seed: int = 0) -> Batch:
        """Return node states as a batch: ``x[m] [N_m, D]``, leaves with gradients."""
        generator = torch.Generator().manual_seed(seed + 1)
        present = self.present(seed)
        x, sample = {}, {}
        for i, name in enumerate(self.schema.modality_names):
            owner = torch.nonzero(present[:, i])[:, 0].repeat_interleave(self.tokens)
            rows = torch.randn(len(owner), self.width, generator=generator)
            x[name], sample[name] = rows.requires_grad_(), owner
        return Batch(self.batch, x, sample)


def typed_edges(workload: Workload, batch: Batch) -> dict[tuple[str, str, str], Tensor]:
    """Return ``edge_index [2, E]`` of every relation, as PyTorch Geometric takes it."""
    each = torch.arange(batch.num_samples)
    nodes = {name: NodeSet(s, batch.num_samples) for name, s in batch.sample.items()}
    nodes["fuse"] = NodeSet(each, batch.num_samples)
    graph = Graph(nodes, batch.num_samples)
    edges = {}
    for relation in workload.schema.relations:
        first = [graph.rows[n].start for n in (relation.source, relation.target)]
        edges[relation.edge_type] = graph.edges(relation) - torch.tensor([first]).T
    return edges


def multiply_adds(workload: Workload, batch: Batch, num_edges: int) -> int:
    """Count those of one forward pass without feed-forward, exactly.

    Queries and outputs of all nodes, keys and values of the nodes that send, and two
    products of width ``D`` an edge. The null sink has no content: it costs none.
    """
    senders = sum(len(s) for s in batch.sample.values())
    nodes = senders + batch.num_samples
    projections = (2 * nodes + 2 * senders) * workload.width**2
    return projections + 2 * num_edges * workload.width
