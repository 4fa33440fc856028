"""Attention on packed rows by one compiled kernel: no slots, nothing kept per pair.

Letters: ``N`` rows, ``R`` relations, ``H`` heads, ``D`` width. Leading axes ``...`` are
the members of an ensemble.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgraph import native
from mmgraph.graph.graph import Graph
from mmgraph.nn.attention.groups import RelationGroup


class FusedAttention:
    """Attention where scores depend on types alone.

    Args:
        groups: Targets that attend together.
        targets: Types of the table of what hears.
        sources: Types of the table of what is heard.
    """

    def __init__(
        self,
        groups: Sequence[RelationGroup],
        targets: tuple[str, ...],
        sources: tuple[str, ...],
    ) -> None:
        self.groups, self.targets, self.sources = tuple(groups), targets, sources
        self._numbers = [  # on the CPU, wherever the model is
            (
                torch.tensor(group.relations, device="cpu"),
                torch.tensor([targets.index(t) for t in group.targets], device="cpu"),
            )
            for group in groups
        ]

    def serves(self, query: Tensor, bias: Tensor, graph: Graph) -> bool:
        """Tell whether there is a kernel for such rows."""
        if any(graph.nodes[s].log_reliability is not None for s in self.sources):
            return False
        width = query.shape[-1] // bias.shape[-1]
        return width % native.CHANNELS == 0 and native.serves(query, bias)

    def __call__(
        self,
        query: Tensor,
        source: Tensor,
        bias: Tensor,
        sink: Tensor | None,
        graph: Graph,
    ) -> Tensor:
        """Attend; see :func:`mmgraph.nn.attention.dot_product.attend`.

        Args:
            query: ``[..., N, D]`` rows that hear.
            source: ``[..., N', 2 D]`` keys, then values, of rows that are heard.
            bias: ``[..., R, H]``.
            sink: ``[..., targets, H]``, or None.
            graph: Nodes of the rows.

        Returns:
            ``[..., N, D]``.
        """
        if not source.shape[-2]:
            return torch.zeros_like(query)
        hearings = [
            native.AttentionSegments(
                graph.bounds(group.targets, self.targets),
                graph.bounds(group.sources, self.sources),
                *numbers,
            )
            for group, numbers in zip(self.groups, self._numbers, strict=True)
        ]
        silent = graph.silent_rows(self.sources)
        heard = _AttendRows.apply(query, source, bias, sink, silent, hearings)  # type: ignore[no-untyped-call]
        return cast("Tensor", heard)


class _AttendRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        source: Tensor,
        bias: Tensor,
        sink: Tensor | None,
        silent: Tensor | None,
        hearings: Sequence[native.AttentionSegments],
    ) -> Tensor:
        given = native.Attention(
            query.contiguous(),
            source.contiguous(),
            bias.contiguous(),
            None if sink is None else sink.contiguous(),
            silent,
        )
        heard, kept = native.attend(given, hearings)
        ctx.save_for_backward(*given, kept)
        ctx.hearings = hearings
        return heard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        *given, kept = ctx.saved_tensors
        changes = native.attend_back(
            native.Attention(*given), ctx.hearings, kept, gradient.contiguous()
        )
        return *changes, None, None
