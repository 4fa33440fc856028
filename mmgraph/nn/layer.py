"""Layers: what nodes hear, then what they make of it.

Letters: ``N`` nodes, ``B`` samples, ``D`` width, ``X`` experts of a mixture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.graph.graph import Graph, TypedRows
from mmgraph.losses import LossSums, at_least_float, ratio
from mmgraph.nn.linear import TypedLinear, parameter, standardize
from mmgraph.ops import filled_slots, gelu

__all__ = ["FeedForward", "GraphLayer", "MixtureFeedForward"]


class FeedForward(nn.Module):
    """Two maps of its own for every node type, with GELU between them."""

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        *,
        factor: int = 2,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.types = tuple(types)
        self.inner = TypedLinear(types, channels, factor * channels, members=members)
        self.outer = TypedLinear(types, factor * channels, channels, members=members)

    def forward(self, h: Tensor, graph: Graph) -> TypedRows:
        """Map ``[..., N, D]`` rows; returns ``[..., N_t, D]`` for each type."""
        rows = graph.rows_among(self.types)
        inner = self.inner(h, graph.rows)
        return graph.split(self.outer(gelu(inner), rows), rows)


class MixtureFeedForward(nn.Module):
    """Feed-forward experts shared by all types; each node is routed to ``top_k``.

    The router sees the node's state and which modalities its sample has, as the sum of
    their embeddings, so that a combination never seen in training is still the sum of
    its parts. Router weights outside the ``top_k`` are zero and the rest sum to one.

    References:
        Outrageously Large Neural Networks, Shazeer, Mirhoseini, Maziarz, Davis, Le,
        Hinton, Dean, 2017, arXiv 1701.06538 (balance of importance and load).

    Args:
        types: Node types that are updated.
        channels: ``D``.
        modalities: Node types whose presence the router sees.
        num_experts: ``X``.
        top_k: Experts that a node uses.
        factor: Width of an expert, in ``channels``.
        members: Ensemble members computed together, or None.
    """

    def __init__(
        self,
        types: Sequence[str],
        channels: int,
        modalities: Sequence[str],
        *,
        num_experts: int = 4,
        top_k: int = 2,
        factor: int = 2,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.types, self.modalities = tuple(types), tuple(modalities)
        self.num_experts, self.top_k = num_experts, min(top_k, num_experts)
        names = tuple(f"expert{i}" for i in range(num_experts))
        width = factor * channels
        self.inner = TypedLinear(names, channels, width, members=members)
        self.outer = TypedLinear(names, width, channels, members=members)
        self.router = TypedLinear(("router",), channels, num_experts, members=members)
        count = len(self.modalities)
        self.embedding = parameter(count, channels, members=members, bound=0.1)

    def forward(
        self, h: Tensor, graph: Graph, auxiliary: list[LossSums] | None = None
    ) -> dict[str, Tensor]:
        """Map ``[..., N, D]`` rows; returns ``[..., N_t, D]`` for each type.

        The balance loss, the squared coefficients of variation of importance and load,
        is appended to ``auxiliary`` where a list is given.
        """
        code = self._presence(graph, h.dtype) @ self.embedding  # [..., B, D]
        result, weights = {}, []
        for name in self.types:
            rows = h[..., graph.rows[name], :]
            seen = code.index_select(-2, graph.nodes[name].sample)
            weight = self._route(rows + seen)
            result[name] = self._mix(rows, weight)
            silent = graph.nodes[name].receive_only  # only keeps a place, or is a ghost
            alone = None if silent is None else silent[:, None]
            weights.append(weight if alone is None else weight.masked_fill(alone, 0))
        if auxiliary is not None:
            auxiliary.append(_imbalance(torch.cat(weights, -2)))
        return result

    @property
    def num_sums(self) -> int:
        """How many sums the balance loss is made of."""
        return 2 * self.num_experts

    def _presence(self, graph: Graph, dtype: torch.dtype) -> Tensor:
        """Return ``[B, M]``: 1 where the sample has a sending node of the modality."""
        columns = []
        for name in self.modalities:
            nodes = graph.nodes[name]
            filled = filled_slots(nodes.sends_to, graph.num_samples + 1)
            columns.append(filled[: graph.num_samples])  # the last one is of ghosts
        return torch.stack(columns, 1).to(dtype)

    def _route(self, x: Tensor) -> Tensor:
        router = self.router
        logits = x @ router.weight.select(-3, 0) + router.bias.select(-3, 0)
        weight = logits.softmax(-1)
        best = weight.topk(self.top_k, dim=-1)
        kept = torch.zeros_like(weight).scatter(-1, best.indices, best.values)
        return kept / kept.sum(-1, keepdim=True)

    def _mix(self, rows: Tensor, weight: Tensor) -> Tensor:
        rows = rows.unsqueeze(-3)  # [..., 1, N, D]: every expert sees every row
        inner = gelu(rows @ self.inner.weight + self.inner.bias)
        experts = inner @ self.outer.weight + self.outer.bias
        return (experts * weight.mT[..., None]).sum(-3)


def _imbalance(weight: Tensor) -> LossSums:
    """Return the squared coefficients of variation of importance and of load.

    Args:
        weight: ``[..., N, X]`` of each node for each expert.
    """
    weight = at_least_float(weight)
    load = (weight > 0).to(weight.dtype)
    sums = torch.stack([weight.sum(-2), load.sum(-2)], -2)  # [..., 2, X]
    return LossSums(sums.flatten(-2), _variation)


def _variation(sums: Tensor) -> Tensor:
    shares = sums.unflatten(-1, (2, -1))
    variance, mean = shares.var(-1, correction=0), shares.mean(-1)
    return ratio(variance, mean.square()).sum(-1)


def add_rows(h: Tensor, changes: dict[str, Tensor], graph: Graph) -> Tensor:
    """Add ``changes[t]`` to the rows of type t of a table; other rows stay."""
    if isinstance(changes, TypedRows) and list(changes) == list(graph.nodes):
        return h + changes.table
    rows = graph.split(h, graph.nodes)
    return torch.cat(
        [x + changes[name] if name in changes else x for name, x in rows.items()], -2
    )


class GraphLayer(nn.Module):
    """One layer: what nodes hear is added to them, then a feed-forward map.

    ``x <- x + messages(LN(x))``, ``x <- x + feed_forward(LN(x))``. The normalization
    has no parameters: the typed maps that follow it would absorb them.

    Args:
        messages: Maps ``(h, graph)`` to what each target type hears, or None.
        feed_forward: The same for the feed-forward step, or None.
    """

    def __init__(
        self, messages: nn.Module | None, feed_forward: nn.Module | None
    ) -> None:
        super().__init__()
        self.messages = messages
        self.feed_forward = feed_forward

    def forward(
        self, h: Tensor, graph: Graph, auxiliary: list[LossSums] | None = None
    ) -> Tensor:
        """Map node states ``[..., N, D]`` to new ones.

        Losses of the feed-forward step are appended to ``auxiliary``.
        """
        if self.messages is not None:
            h = add_rows(h, self.messages(standardize(h), graph), graph)
        if isinstance(self.feed_forward, MixtureFeedForward):
            change = self.feed_forward(standardize(h), graph, auxiliary)
            return add_rows(h, change, graph)
        if self.feed_forward is not None:
            h = add_rows(h, self.feed_forward(standardize(h), graph), graph)
        return h
