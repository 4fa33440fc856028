"""Attention by a compiled kernel, directly on rows and with memory linear in rows.

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
    """Attention whose bias depends on node types alone, computed by a kernel.

    Args:
        groups: Target types that attend in one call.
        targets: Node types of the table of targets.
        sources: Node types of the table of sources.
    """

    def __init__(
        self,
        groups: Sequence[RelationGroup],
        targets: tuple[str, ...],
        sources: tuple[str, ...],
    ) -> None:
        self.groups, self.targets, self.sources = tuple(groups), targets, sources
        self._indices = [  # on the CPU, whatever the device of the model
            (
                torch.tensor(group.relations, device="cpu"),
                torch.tensor([targets.index(t) for t in group.targets], device="cpu"),
            )
            for group in groups
        ]

    def supports(self, query: Tensor, bias: Tensor, graph: Graph) -> bool:
        """Return True if a kernel is available for these rows."""
        if any(graph.nodes[s].log_reliability is not None for s in self.sources):
            return False
        width = query.shape[-1] // bias.shape[-1]
        return width % native.HEAD_WIDTH_MULTIPLE == 0 and native.supports(query, bias)

    def __call__(
        self,
        query: Tensor,
        source: Tensor,
        bias: Tensor,
        sink: Tensor | None,
        graph: Graph,
    ) -> Tensor:
        """Compute :func:`mmgraph.nn.attention.dot_product.attend` on rows.

        Args:
            query: ``[..., N, D]`` queries of the targets.
            source: ``[..., N', 2 D]`` keys, followed by values, of the sources.
            bias: ``[..., R, H]``.
            sink: ``[..., targets, H]``, or None.
            graph: Nodes of the rows.

        Returns:
            ``[..., N, D]`` attended values.
        """
        if not source.shape[-2]:
            return torch.zeros_like(query)
        segments = [
            native.AttentionSegments(
                graph.bounds(group.targets, self.targets),
                graph.bounds(group.sources, self.sources),
                *indices,
            )
            for group, indices in zip(self.groups, self._indices, strict=True)
        ]
        receive_only = graph.receive_only_rows(self.sources)
        attended = _AttendRows.apply(  # type: ignore[no-untyped-call]
            query, source, bias, sink, receive_only, segments
        )
        return cast("Tensor", attended)


class _AttendRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        source: Tensor,
        bias: Tensor,
        sink: Tensor | None,
        receive_only: Tensor | None,
        segments: Sequence[native.AttentionSegments],
    ) -> Tensor:
        inputs = native.AttentionInputs(
            query.contiguous(),
            source.contiguous(),
            bias.contiguous(),
            None if sink is None else sink.contiguous(),
            receive_only,
        )
        attended, statistics = native.attention_forward(inputs, segments)
        ctx.save_for_backward(*inputs, statistics)
        ctx.segments = segments
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        *inputs, statistics = ctx.saved_tensors
        gradients = native.attention_backward(
            native.AttentionInputs(*inputs),
            ctx.segments,
            statistics,
            gradient.contiguous(),
        )
        return *gradients, None, None
