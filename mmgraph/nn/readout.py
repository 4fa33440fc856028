"""From node states to one state a sample.

Letters: ``N`` nodes, ``B`` samples, ``D`` width. PlaceholderNodes are not read. A sample without
a node to read has the state zero, so that its prediction is the head's bias.
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
    """Latent nodes, one after the other.

    Args:
        types: Latent node types.
        channels: ``D``.
        num_nodes: Nodes that a sample has of all ``types``.
        members: Unused; every readout is built alike.
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
        """Read ``[..., N, D]`` as ``[..., B, num_nodes D]``."""
        if not graph.num_samples:  # how many nodes a sample has cannot be told
            return h.new_zeros(*h.shape[:-2], 0, self.out_channels)
        rows = graph.split(h, graph.nodes)
        parts = [
            rows[name].unflatten(-2, (graph.num_samples, -1)) for name in self.types
        ]
        return standardize(torch.cat(parts, dim=-2)).flatten(-2)


class _Pool(nn.Module):
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
        """Return states and samples of nodes, type by type; ghosts are of ``B``."""
        states = graph.reorder(h, tuple(graph.nodes), self.types)
        samples = [graph.nodes[name].sends_to for name in self.types]
        return standardize(states), torch.cat(samples)


class MeanReadout(_Pool):
    """The mean over a sample's node types of the mean over their nodes."""

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Read ``[..., N, D]`` as ``[..., B, D]``."""
        states, sample = self.read(h, graph)
        # of one node a type, the mean over types is that over nodes
        if all(graph.nodes[name].width <= 1 for name in self.types):
            return segment_mean(states, sample, graph.num_samples + 1)[..., :-1, :]
        weight = self._weights(graph, sample).to(states.dtype)[:, None]
        return segment_sum(states * weight, sample, graph.num_samples + 1)[..., :-1, :]

    def _weights(self, graph: Graph, sample: Tensor) -> Tensor:
        """Return ``[N]`` one over the nodes of a type times the types of a sample."""
        count, sets = len(self.types), [graph.nodes[name] for name in self.types]
        cells = [nodes.sends_to * count + i for i, nodes in enumerate(sets)]
        cell = torch.cat(cells)
        ones, total = torch.ones_like(cell), (graph.num_samples + 1) * count
        nodes = cell.new_zeros(total).index_add(0, cell, ones)
        types = (nodes > 0).view(-1, count).sum(1)
        return 1 / (nodes[cell] * types[sample])


class MaxReadout(_Pool):
    """The largest state by channel over all nodes of a sample."""

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Read ``[..., N, D]`` as ``[..., B, D]``."""
        states, sample = self.read(h, graph)
        return segment_max(states, sample, graph.num_samples + 1)[..., :-1, :]


class AttentionReadout(_Pool):
    """Pooling by attention of one learned query per head, with a null sink.

    References:
        Set Transformer, Lee, Lee, Kim, Kosiorek, Choi, Teh, 2019, arXiv 1810.00825.
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
        """Read ``[..., N, D]`` as ``[..., B, D]``."""
        states, sample = self.read(h, graph)
        logits = states @ self.query  # [..., N, H]
        sink = self.sink.expand(
            *self.sink.shape[:-2], graph.num_samples + 1, self.num_heads
        )
        weight = segment_softmax(logits, sample, graph.num_samples + 1, sink)
        value = self.value(states).unflatten(-1, (self.num_heads, -1))
        message = (value * weight[..., None]).flatten(-2)
        return segment_sum(message, sample, graph.num_samples + 1)[..., :-1, :]
