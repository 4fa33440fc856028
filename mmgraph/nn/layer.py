"""Graph layers: message passing, followed by a feed-forward step per node type.

Letters: ``N`` nodes, ``B`` samples, ``M`` modalities, ``D`` width, ``X`` experts of a
mixture.
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
    """Two-layer perceptron with GELU, with separate weights for each node type.

    Args:
        types: Node types that are updated.
        channels: ``D``.
        factor: Width of the hidden layer, in ``channels``.
        members: Ensemble members computed together, or None for a single model.
    """

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
        """Return the updates ``[..., N_t, D]`` by type, from states ``[..., N, D]``."""
        rows = graph.rows_among(self.types)
        inner = self.inner(h, graph.rows)
        return graph.split(self.outer(gelu(inner), rows), rows)


class MixtureFeedForward(nn.Module):
    """Sparse mixture of feed-forward experts, shared by all node types.

    Each node is routed to ``top_k`` experts. The input of the router is the state of
    the node plus the sum of learned embeddings of the modalities present in its sample,
    so that the router generalizes to combinations of modalities that are not in the
    training data. Routing weights outside of the ``top_k`` are zero, the others sum to
    one.

    References:
        Outrageously Large Neural Networks, Shazeer, Mirhoseini, Maziarz, Davis, Le,
        Hinton, Dean, 2017, arXiv 1701.06538 (balance of importance and load).

    Args:
        types: Node types that are updated.
        channels: ``D``.
        modalities: Node types whose presence is an input of the router.
        num_experts: ``X``.
        top_k: Experts per node.
        factor: Width of the hidden layer of an expert, in ``channels``.
        members: Ensemble members computed together, or None for a single model.
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
        """Return the updates of node states, by type.

        Args:
            h: ``[..., N, D]`` node states.
            graph: Nodes of the rows.
            auxiliary: List to which the balance loss is appended: the squared
                coefficients of variation of importance and load. None skips it.

        Returns:
            ``[..., N_t, D]`` for each of ``types``.
        """
        code = self._presence(graph, h.dtype) @ self.embedding  # [..., B, D]
        result, weights = {}, []
        for name in self.types:
            rows = h[..., graph.rows[name], :]
            seen = code.index_select(-2, graph.nodes[name].sample)
            weight = self._route(rows + seen)
            result[name] = self._mix(rows, weight)
            unseen = graph.nodes[name].receive_only  # padding, or a placeholder node
            if unseen is not None:  # not counted in the balance loss
                weight = weight.masked_fill(unseen[:, None], 0)
            weights.append(weight)
        if auxiliary is not None:
            auxiliary.append(_imbalance(torch.cat(weights, -2)))
        return result

    @property
    def num_sums(self) -> int:
        """Length of the sums of the balance loss."""
        return 2 * self.num_experts

    def _presence(self, graph: Graph, dtype: torch.dtype) -> Tensor:
        """Return ``[B, M]``: 1 where a node of the modality sends to the sample."""
        columns = []
        for name in self.modalities:
            nodes = graph.nodes[name]
            filled = filled_slots(nodes.sends_to, graph.num_samples + 1)
            columns.append(
                filled[: graph.num_samples]
            )  # the last one holds receive-only nodes
        return torch.stack(columns, 1).to(dtype)

    def _route(self, x: Tensor) -> Tensor:
        router = self.router
        logits = x @ router.weight.select(-3, 0) + router.bias.select(-3, 0)
        weight = logits.softmax(-1)
        best = weight.topk(self.top_k, dim=-1)
        kept = torch.zeros_like(weight).scatter(-1, best.indices, best.values)
        return kept / kept.sum(-1, keepdim=True)

    def _mix(self, rows: Tensor, weight: Tensor) -> Tensor:
        rows = rows.unsqueeze(-3)  # [..., 1, N, D]: every expert maps every row
        inner = gelu(rows @ self.inner.weight + self.inner.bias)
        experts = inner @ self.outer.weight + self.outer.bias
        return (experts * weight.mT[..., None]).sum(-3)


def _imbalance(weight: Tensor) -> LossSums:
    """Return the squared coefficients of variation of importance and of load.

    Args:
        weight: ``[..., N, X]`` routing weight of each node for each expert.
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
    """Add ``changes[t]`` to the rows of type t of a table; keep other rows."""
    if isinstance(changes, TypedRows) and list(changes) == list(graph.nodes):
        return h + changes.table
    rows = graph.split(h, graph.nodes)
    return torch.cat(
        [x + changes[name] if name in changes else x for name, x in rows.items()], -2
    )


class GraphLayer(nn.Module):
    """Pre-norm residual layer: message passing, then a feed-forward step.

    ``x <- x + messages(LN(x))``, ``x <- x + feed_forward(LN(x))``. The layer
    normalization LN has no parameters, because the typed maps that follow it would
    absorb them.

    References:
        On Layer Normalization in the Transformer Architecture, Xiong et al., 2020,
        arXiv 2002.04745 (pre-norm).

    Args:
        messages: Module that maps ``(h, graph)`` to the messages ``[..., N_t, D]`` by
            target type, such as :class:`RelationalAttention`; None skips the step.
        feed_forward: Module with the same signature, such as :class:`FeedForward`; None
            skips the step.
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
        """Return the updated node states ``[..., N, D]``.

        Args:
            h: ``[..., N, D]`` node states.
            graph: Nodes and relations.
            auxiliary: List to which losses of the feed-forward step are appended.
        """
        if self.messages is not None:
            h = add_rows(h, self.messages(standardize(h), graph), graph)
        if isinstance(self.feed_forward, MixtureFeedForward):
            change = self.feed_forward(standardize(h), graph, auxiliary)
            return add_rows(h, change, graph)
        if self.feed_forward is not None:
            h = add_rows(h, self.feed_forward(standardize(h), graph), graph)
        return h
