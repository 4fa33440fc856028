"""Affine maps of the segments of a table of rows, one weight matrix per segment.

Counterparts of ``segment_matmul`` and ``grouped_matmul`` of pyg-lib, with bias,
ensemble members and gradients.

Letters: ``N`` rows, ``T`` segments, ``E`` ensemble members.

Every product writes directly to its part of the result, without copies by slicing or
concatenation. In particular, the gradient of a slice would be a full table of zeros for
each segment.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgraph import native

Segment: TypeAlias = tuple[int, int, int]
Segments: TypeAlias = Sequence[Segment]


class SegmentParams(NamedTuple):
    """Weights and biases of the segments of a table.

    Attributes:
        weight: ``[..., T, in, out]``.
        bias: ``[..., T, 1, out]``.
        segments: Index of the weight, first row and end of each segment, in the order
            of the rows. Each weight belongs to at most one segment.
    """

    weight: Tensor
    bias: Tensor
    segments: Segments


def segment_linear(h: Tensor, *params: SegmentParams) -> tuple[Tensor, ...]:
    """Map each segment of the rows ``[..., N, in]`` by its own weight and bias.

    Args:
        h: Rows; without an axis of members they are shared by all members.
        params: One or more sets of parameters. The segments of two sets are either
            identical or disjoint.

    Returns:
        ``[..., N', out]`` for every set of parameters, segment after segment. Rows
        that are in no segment are left out.
    """
    h, *parameters = _cast(h, *(x for each in params for x in each[:2]))
    if any(x.ndim != h.ndim + 1 for x in parameters):  # some lack an axis of members
        leading = max((h.shape[:-2], *(x.shape[:-3] for x in parameters)), key=len)
        h = h.expand(*leading, *h.shape[-2:])
        parameters = [x.expand(*leading, *x.shape[-3:]) for x in parameters]
    segments = tuple(each.segments for each in params)
    if torch.compiler.is_compiling():  # the compiler plans memory itself
        each = zip(segments, parameters[::2], parameters[1::2], strict=True)
        return tuple(_compiled_segment_linear(h, s, w, b) for s, w, b in each)
    tables = _SegmentLinear.apply(h, segments, *parameters)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, ...]", tables)


def grouped_linear(
    rows: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    """Map several tables, which may differ in width, to one table of equal width.

    Args:
        rows: ``T`` tables ``[..., N_t, in_t]``; without an axis of members they are
            shared by all members.
        weights: ``T`` weights ``[..., in_t, out]``.
        biases: ``T`` biases ``[..., 1, out]``.

    Returns:
        ``[..., N, out]``, table after table.
    """
    tensors = _cast(*rows, *weights, *biases)
    if torch.compiler.is_compiling():
        count = len(rows)
        each = zip(*(tensors[i * count :][:count] for i in range(3)), strict=True)
        return torch.cat([x @ w + b for x, w, b in each], -2)
    result = _GroupedLinear.apply(len(rows), *tensors)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


def segment_affine(
    h: Tensor,
    counts: Sequence[int],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    """Scale and shift consecutive segments of the rows ``[..., N, D]``, channel-wise.

    Args:
        h: Rows, with an axis of members where the weights have one.
        counts: Number of rows ``N_t`` of each of the ``T`` segments.
        weights: ``T`` scales ``[..., 1, D]``.
        biases: ``T`` shifts ``[..., 1, D]``.

    Returns:
        ``[..., N, D]``.
    """
    if torch.compiler.is_compiling():
        each = zip(_split(h, list(counts)), weights, biases, strict=True)
        return torch.cat([x * w + b for x, w, b in each], -2)
    result = _SegmentAffine.apply(h, tuple(counts), *weights, *biases)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in the dtype of matrix products under autocast."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) for x in tensors)


class _SegmentLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        h: Tensor,
        segments: tuple[Segments, ...],
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        h = h if h.stride(-1) == 1 and h.stride(-2) == h.shape[-1] else h.contiguous()
        parameters = tuple(x.contiguous() for x in parameters)
        ctx.save_for_backward(h, *parameters)
        ctx.segments = [[s for s in each if s[1] < s[2]] for each in segments]
        supported = native.supports(h, *parameters)
        run = native.segment_linear_forward if supported else _forward
        sets = zip(parameters[::2], parameters[1::2], ctx.segments, strict=True)
        return tuple(run(native.SegmentLinearInputs(h, *each)) for each in sets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, *parameters = ctx.saved_tensors
        h_gradient = (
            _empty_gradient(h, ctx.segments) if ctx.needs_input_grad[0] else None
        )
        written: set[int] = set()
        parameter_gradients: list[Tensor] = []
        supported = native.supports(h, *parameters)
        run = native.segment_linear_backward if supported else _backward
        sets = zip(parameters[::2], parameters[1::2], ctx.segments, strict=True)
        for each, gradient in zip(sets, gradients, strict=True):
            inputs = native.SegmentLinearInputs(h, *each)
            parameter_gradients += run(
                inputs, gradient.contiguous(), h_gradient, written
            )
            written.update(start for _, start, _ in inputs.segments)
        return h_gradient, None, *parameter_gradients


def _forward(inputs: native.SegmentLinearInputs) -> Tensor:
    """Return the mapped rows, computed by torch segment by segment."""
    h, weight, bias, segments = inputs
    table = h.new_empty(*h.shape[:-2], inputs.num_mapped, weight.shape[-1])
    counts = [stop - start for _, start, stop in segments]
    w, b = weight.unbind(-3), bias.unbind(-3)
    outs = _split(table, counts)
    for (n, _, _), rows, out in zip(segments, _cut(h, segments), outs, strict=True):
        _product(rows, w[n], out, b[n])
    return table


def _backward(
    inputs: native.SegmentLinearInputs,
    gradient: Tensor,
    h_gradient: Tensor | None,
    accumulate: set[int],
) -> tuple[Tensor, Tensor]:
    """Implement :func:`mmgraph.native.segment_linear_backward` in torch."""
    h, weight, bias, segments = inputs
    new = torch.zeros_like if len(segments) < weight.shape[-3] else torch.empty_like
    weight_gradient, bias_gradient = new(weight), new(bias)
    to, by, w = (x.unbind(-3) for x in (weight_gradient, bias_gradient, weight.mT))
    counts = [stop - start for _, start, stop in segments]
    parts = _split(gradient, counts)
    outs = [None] * len(segments) if h_gradient is None else _cut(h_gradient, segments)
    for (n, start, _), columns, part, out in zip(
        segments, _cut(h.mT, segments, -1), parts, outs, strict=True
    ):
        _product(columns, part, to[n])
        torch.sum(part, -2, keepdim=True, out=by[n])
        if out is not None:
            _product(part, w[n], out, add=start in accumulate)
    return weight_gradient, bias_gradient


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*tensors[: 2 * count])
        rows, weights, biases = (tensors[i * count :][:count] for i in range(3))
        counts = [x.shape[-2] for x in rows]
        shape = (*weights[0].shape[:-2], sum(counts), weights[0].shape[-1])
        table = rows[0].new_empty(shape)
        outs = _split(table, counts)
        for x, w, b, out in zip(rows, weights, biases, outs, strict=True):
            _product(_expand_members(x, w), w, out, b)
        return table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        count = len(ctx.saved_tensors) // 2
        rows, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        parts = _split(gradient, [x.shape[-2] for x in rows])
        needed = ctx.needs_input_grad[1:]
        row_gradients = [
            (part @ w.mT).sum_to_size(x.shape) if wanted else None
            for x, w, part, wanted in zip(rows, weights, parts, needed, strict=False)
        ]
        weight_gradients = [
            _expand_members(x, w).mT @ part
            for x, w, part in zip(rows, weights, parts, strict=True)
        ]
        bias_gradients = [part.sum(-2, keepdim=True) for part in parts]
        return None, *row_gradients, *weight_gradients, *bias_gradients


class _SegmentAffine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        h: Tensor,
        counts: tuple[int, ...],
        *tensors: Tensor,
    ) -> Tensor:
        weights, biases = tensors[: len(counts)], tensors[len(counts) :]
        ctx.save_for_backward(h, *weights)
        ctx.counts = counts
        table = torch.empty_like(h)
        parts = _split(h, counts), _split(table, counts)
        for x, out, w, b in zip(*parts, weights, biases, strict=True):
            torch.addcmul(b, x, w, out=out)
        return table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, *weights = ctx.saved_tensors
        h_gradient, product = torch.empty_like(gradient), gradient * h
        parts = _split(gradient, ctx.counts)
        outs = _split(h_gradient, ctx.counts)
        for part, w, out in zip(parts, weights, outs, strict=True):
            torch.mul(part, w, out=out)
        products = _split(product, ctx.counts)
        weight_gradients = [part.sum(-2, keepdim=True) for part in products]
        bias_gradients = [part.sum(-2, keepdim=True) for part in parts]
        return h_gradient, None, *weight_gradients, *bias_gradients


def _expand_members(rows: Tensor, weight: Tensor) -> Tensor:
    """Add an axis of members to rows that all members share."""
    if rows.ndim == weight.ndim:
        return rows
    return rows.expand(*weight.shape[:-2], *rows.shape[-2:])


def _split(table: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
    """Split ``[..., N, D]`` by rows, three times as fast as ``Tensor.split``."""
    return torch.split_with_sizes(table, counts, -2)


def _cut(table: Tensor, segments: Iterable[Segment], axis: int = -2) -> list[Tensor]:
    """Return the rows of each segment, by a single split of the table."""
    sizes, wanted, end = [], [], 0
    for _, start, stop in segments:
        if start > end:
            sizes.append(start - end)  # rows outside of all segments
        wanted.append(len(sizes))
        sizes.append(stop - start)
        end = stop
    sizes.append(table.shape[axis] - end)
    parts = torch.split_with_sizes(table, sizes, axis)
    return [parts[i] for i in wanted]


def _empty_gradient(h: Tensor, sets: Sequence[Segments]) -> Tensor:
    """Return a contiguous table like ``h``: zeros where no segment writes to it."""
    covered = {(start, stop) for segments in sets for _, start, stop in segments}
    whole = sum(stop - start for start, stop in covered) == h.shape[-2]
    return h.new_empty(h.shape) if whole else h.new_zeros(h.shape)


def _compiled_segment_linear(
    h: Tensor, segments: Segments, weight: Tensor, bias: Tensor
) -> Tensor:
    w, b = weight.unbind(-3), bias.unbind(-3)
    rows = [h[..., i:j, :] @ w[n] + b[n] for n, i, j in segments]
    return torch.cat(rows, -2)


def _product(
    left: Tensor,
    right: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    *,
    add: bool = False,
) -> None:
    """Write ``left @ right + bias`` to ``out``, or with ``add``, add it to ``out``.

    A leading axis is that of the ensemble members.
    """
    if add:
        bias = out
    if left.ndim == 2:
        if bias is None:
            torch.mm(left, right, out=out)
        else:
            torch.addmm(bias, left, right, out=out)
    elif bias is None:
        out.copy_(left @ right)
    else:
        out.copy_(torch.baddbmm(bias, left, right))
