"""Readouts: one state per sample from the states of its nodes.

Letters: ``N`` nodes, ``B`` samples, ``D`` width, ``C`` width of the result, ``H``
heads. Receive-only nodes, such as placeholder nodes, are not read. A sample without
nodes to read has the state zero, so that its prediction is the bias of the head.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmgraph.graph.graph import Graph
from mmgraph.nn.fusion import FusionOperator, MaxFusion, MeanFusion
from mmgraph.nn.linear import Linear, parameter, standardize
from mmgraph.ops import (
    filled_slots,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

__all__ = [
    "AttentionReadout",
    "FuseReadout",
    "FusionReadout",
    "MaxReadout",
    "MeanReadout",
]


class FuseReadout(nn.Module):
    """Concatenation of the latent nodes of each sample.

    Args:
        types: Latent node types.
        channels: ``D``.
        num_nodes: Latent nodes per sample, over all ``types``.
        members: Unused; part of the common signature of readouts.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> nodes = {"fuse": NodeSet(torch.tensor([0, 1]), num_samples=2)}
        >>> graph = Graph(nodes, num_samples=2)
        >>> nn.FuseReadout(["fuse"], channels=8)(torch.randn(2, 8), graph).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        num_nodes: int = 1,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.types = tuple(types)
        self.out_channels = channels * num_nodes

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return the states ``[..., B, num_nodes D]`` of samples."""
        if not graph.num_samples:  # unflatten cannot infer the nodes per sample
            return h.new_zeros(*h.shape[:-2], 0, self.out_channels)
        rows = graph.split(h, graph.nodes)
        parts = [
            rows[name].unflatten(-2, (graph.num_samples, -1)) for name in self.types
        ]
        return standardize(torch.cat(parts, dim=-2)).flatten(-2)


class _Pool(nn.Module):
    """Common parts of the readouts that pool nodes of several types.

    Args:
        types: Node types that are read.
        channels: ``D``.
        num_nodes: Unused; part of the common signature of readouts.
        members: Ensemble members computed together, or None for a single model.
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        num_nodes: int = 1,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.types = tuple(types)
        self.out_channels = channels

    def read(self, h: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return normalized states and the sample of each node, ``B`` if not read."""
        states = graph.reorder(h, tuple(graph.nodes), self.types)
        samples = [graph.nodes[name].sends_to for name in self.types]
        return standardize(states), torch.cat(samples)


class FusionReadout(_Pool):
    """Fusion operator on one state per node type.

    The state of a type is the mean, or the maximum, of the nodes of that type in the
    sample; a type without nodes is a missing modality of the operator.

    Args:
        types: Node types that are read; the modalities of the operator.
        channels: ``D``.
        operator: Operator on ``len(types)`` states of width ``D``, such as
            :class:`GatedFusion`.
        reduce: Reduction of the nodes of each type.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> nodes = {"a": NodeSet(torch.tensor([0, 0, 1]), num_samples=2),
        ...          "b": NodeSet(torch.tensor([1]), num_samples=2)}
        >>> fuse = nn.ProductFusion(num_modalities=2, channels=8)
        >>> readout = nn.FusionReadout(["a", "b"], channels=8, operator=fuse)
        >>> readout(torch.randn(4, 8), Graph(nodes, num_samples=2)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        operator: FusionOperator,
        reduce: Literal["mean", "max"] = "mean",
    ) -> None:
        super().__init__(types, channels)
        self.operator, self.reduce = operator, reduce
        self.out_channels = operator.out_channels

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return sample states ``[..., B, C]`` of node states ``[..., N, D]``."""
        states, _ = self.read(h, graph)
        count, rows = len(self.types), graph.num_samples + 1
        # one cell per sample and type; those of the last row are not read
        cell = torch.cat(
            [
                graph.nodes[name].sends_to * count + i
                for i, name in enumerate(self.types)
            ]
        )
        pool = segment_mean if self.reduce == "mean" else segment_max
        u = pool(states, cell, rows * count).unflatten(-2, (rows, count))
        present = filled_slots(cell, rows * count).view(rows, count)
        return self.operator(u[..., :-1, :, :], present[:-1])


class MeanReadout(FusionReadout):
    """Mean over node types of the mean over the nodes of each type.

    Each present type has the same weight, whatever its number of nodes:
    :class:`FusionReadout` with :class:`MeanFusion`.

    Args:
        types: Node types that are read.
        channels: ``D``.
        num_nodes: Unused; part of the common signature of readouts.
        members: Unused; part of the common signature of readouts.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> nodes = {"a": NodeSet(torch.tensor([0, 0, 1]), num_samples=2)}
        >>> readout = nn.MeanReadout(["a"], channels=8)
        >>> readout(torch.randn(3, 8), Graph(nodes, num_samples=2)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        num_nodes: int = 1,
        members: int | None = None,
    ) -> None:
        operator = MeanFusion(len(types), channels, members=members)
        super().__init__(types, channels, operator=operator)


class MaxReadout(FusionReadout):
    """Maximum over all nodes of a sample, channel by channel.

    :class:`FusionReadout` with :class:`MaxFusion` of the maximum of each type.

    Args:
        types: Node types that are read.
        channels: ``D``.
        num_nodes: Unused; part of the common signature of readouts.
        members: Unused; part of the common signature of readouts.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> nodes = {"a": NodeSet(torch.tensor([0, 0, 1]), num_samples=2)}
        >>> graph = Graph(nodes, num_samples=2)
        >>> nn.MaxReadout(["a"], channels=8)(torch.randn(3, 8), graph).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        num_nodes: int = 1,
        members: int | None = None,
    ) -> None:
        operator = MaxFusion(len(types), channels, members=members)
        super().__init__(types, channels, operator=operator, reduce="max")


class AttentionReadout(_Pool):
    """Multi-head attention pooling with one learned query per head and a null sink.

    References:
        Set Transformer, Lee, Lee, Kim, Kosiorek, Choi, Teh, 2019, arXiv 1810.00825
        (pooling by multi-head attention).

    Args:
        types: Node types that are read.
        channels: ``D``, a multiple of ``num_heads``.
        num_nodes: Unused; part of the common signature of readouts.
        members: Ensemble members computed together, or None for a single model.
        num_heads: ``H``.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> nodes = {"a": NodeSet(torch.tensor([0, 0, 1]), num_samples=2)}
        >>> graph = Graph(nodes, num_samples=2)
        >>> nn.AttentionReadout(["a"], channels=8)(torch.randn(3, 8), graph).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        num_nodes: int = 1,
        members: int | None = None,
        num_heads: int = 4,
    ) -> None:
        super().__init__(types, channels, num_nodes=num_nodes, members=members)
        bound = 1 / math.sqrt(channels)
        self.query = parameter(channels, num_heads, members=members, bound=bound)
        self.value = Linear(channels, channels, members=members)
        self.sink = parameter(1, num_heads, members=members)
        self.num_heads = num_heads

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return sample states ``[..., B, D]`` of node states ``[..., N, D]``."""
        states, sample = self.read(h, graph)
        logits = states @ self.query  # [..., N, H]
        sink = self.sink.expand(
            *self.sink.shape[:-2], graph.num_samples + 1, self.num_heads
        )
        weight = segment_softmax(logits, sample, graph.num_samples + 1, sink)
        value = self.value(states).unflatten(-1, (self.num_heads, -1))
        message = (value * weight[..., None]).flatten(-2)
        return segment_sum(message, sample, graph.num_samples + 1)[..., :-1, :]
