"""Readouts: one state per sample from the states of its nodes.

Letters: ``N`` nodes, ``B`` samples, ``D`` width, ``H`` heads. Receive-only nodes, such
    as
placeholder nodes, are not read. A sample without nodes to read has the state zero, so
that its prediction is the bias of the head.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.graph.graph import Graph
from mmgraph.nn.linear import Linear, parameter, standardize
from mmgraph.ops import (
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

__all__ = ["AttentionReadout", "FuseReadout", "MaxReadout", "MeanReadout"]


class FuseReadout(nn.Module):
    """Concatenation of the latent nodes of each sample.

    Args:
        types: Latent node types.
        channels: ``D``.
        num_nodes: Latent nodes per sample, over all ``types``.
        members: Unused; part of the common signature of readouts.
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


class MeanReadout(_Pool):
    """Mean over node types of the mean over the nodes of each type.

    Each present type has the same weight, whatever its number of nodes.

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

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return sample states ``[..., B, D]`` of node states ``[..., N, D]``."""
        states, sample = self.read(h, graph)
        # with at most one node per type, the mean over types is that over nodes
        if all(graph.nodes[name].width <= 1 for name in self.types):
            return segment_mean(states, sample, graph.num_samples + 1)[..., :-1, :]
        weight = self._weights(graph, sample).to(states.dtype)[:, None]
        return segment_sum(states * weight, sample, graph.num_samples + 1)[..., :-1, :]

    def _weights(self, graph: Graph, sample: Tensor) -> Tensor:
        """Return ``[N]``: 1 / (nodes of the type * types present) in the sample."""
        count, sets = len(self.types), [graph.nodes[name] for name in self.types]
        cells = [nodes.sends_to * count + i for i, nodes in enumerate(sets)]
        cell = torch.cat(cells)
        ones, total = torch.ones_like(cell), (graph.num_samples + 1) * count
        nodes = cell.new_zeros(total).index_add(0, cell, ones)
        types = (nodes > 0).view(-1, count).sum(1)
        return 1 / (nodes[cell] * types[sample])


class MaxReadout(_Pool):
    """Maximum over all nodes of a sample, channel by channel.

    Args:
        types: Node types that are read.
        channels: ``D``.
        num_nodes: Unused; part of the common signature of readouts.
        members: Unused; part of the common signature of readouts.
    """

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return sample states ``[..., B, D]`` of node states ``[..., N, D]``."""
        states, sample = self.read(h, graph)
        return segment_max(states, sample, graph.num_samples + 1)[..., :-1, :]


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
