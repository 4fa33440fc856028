"""Maps of rows that stand in one table, each range of them by parameters of its own.

Letters: ``N`` rows, ``T`` ranges, ``E`` members. Every product writes to its place: no
slice, unbind or cat copies anything. The gradient of a slice, in particular, would be a
whole table of zeros for each range.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Ranges: TypeAlias = tuple[tuple[int, int, int], ...]


def map_ranges(
    h: Tensor, weight: Tensor, bias: Tensor, ranges: Ranges, parts: int = 1
) -> tuple[Tensor, ...]:
    """Map ranges of the rows ``[..., N, in]``, each by a weight and bias of its own.

    Args:
        h: Rows; shared by all members where it has no axis of them.
        weight: ``[..., T, in, out]``.
        bias: ``[..., T, 1, out]``.
        ranges: Number of the weight, first row and end of each range. No weight and
            no row is in two of them.
        parts: Tables in which the columns of the result are laid out.

    Returns:
        ``[..., N', out / parts]`` range after range, for every part.
    """
    h, weight, bias = _cast(h, weight, bias)
    if h.ndim != weight.ndim - 1:  # one of them has no axis of members
        leading = torch.broadcast_shapes(h.shape[:-2], weight.shape[:-3])
        h = h.expand(*leading, *h.shape[-2:])
        weight = weight.expand(*leading, *weight.shape[-3:])
        bias = bias.expand(*leading, *bias.shape[-3:])
    if torch.compiler.is_compiling():  # the compiler plans memory by itself
        w, b = weight.unbind(-3), bias.unbind(-3)
        rows = [h[..., i:j, :] @ w[n] + b[n] for n, i, j in ranges]
        return torch.cat(rows, -2).chunk(parts, -1)
    result = _MapRanges.apply(h, weight, bias, ranges, parts)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, ...]", result)


def map_parts(
    rows: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    """Map rows of several widths to one width, each part by its own parameters.

    Args:
        rows: ``T`` of ``[..., N_t, in_t]``, shared by all members where they have no
            axis of them.
        weights: ``T`` of ``[..., in_t, out]``.
        biases: ``T`` of ``[..., 1, out]``.

    Returns:
        ``[..., N, out]``, part after part.
    """
    tensors = _cast(*rows, *weights, *biases)
    if torch.compiler.is_compiling():
        count = len(rows)
        each = zip(*(tensors[i * count :][:count] for i in range(3)), strict=True)
        return torch.cat([x @ w + b for x, w, b in each], -2)
    result = _MapParts.apply(len(rows), *tensors)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


def scale_parts(
    h: Tensor,
    counts: Sequence[int],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    """Multiply and shift ``counts`` rows after the other of ``[..., N, D]``.

    Args:
        h: Rows, with an axis of members where weights have one.
        counts: ``N_t`` rows of each part, ``T`` of them.
        weights: ``T`` of ``[..., 1, D]``.
        biases: The same.
    """
    if torch.compiler.is_compiling():
        each = zip(h.split(list(counts), -2), weights, biases, strict=True)
        return torch.cat([x * w + b for x, w, b in each], -2)
    result = _ScaleParts.apply(h, tuple(counts), *weights, *biases)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the dtype that products have under autocast."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) for x in tensors)


class _MapRanges(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
        ranges: Ranges,
        parts: int,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(h, weight)
        ctx.ranges = ranges = tuple(r for r in ranges if r[1] < r[2])
        counts = [stop - start for _, start, stop in ranges]
        shape = (*h.shape[:-2], sum(counts), weight.shape[-1] // parts)
        tables = tuple(h.new_empty(shape) for _ in range(parts))
        rows = _cut(h, ranges)
        columns = _columns(weight, parts), _columns(bias, parts)
        for table, weights, biases in zip(tables, *columns, strict=True):
            outs = table.split(counts, -2)
            for (n, _, _), x, out in zip(ranges, rows, outs, strict=True):
                _product(x, weights[n], out, biases[n])
        return tables

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, weight = ctx.saved_tensors
        ranges, parts = ctx.ranges, len(gradients)
        covered = gradients[0].shape[-2] == h.shape[-2]
        back = torch.empty_like(h) if covered else torch.zeros_like(h)
        filled = len(ranges) == weight.shape[-3]
        new = torch.empty_like if filled else torch.zeros_like
        change, shift = new(weight), new(weight[..., :1, :])
        rows, backs = _cut(h.mT, ranges, -1), _cut(back, ranges)
        columns = (
            _columns(weight.mT, parts, -2),
            _columns(change, parts),
            _columns(shift, parts),
        )
        counts = [stop - start for _, start, stop in ranges]
        for gradient, weights, changes, shifts in zip(gradients, *columns, strict=True):
            each = zip(ranges, gradient.split(counts, -2), rows, backs, strict=True)
            for (n, _, _), part, x, to in each:
                _product(part, weights[n], to, add=gradient is not gradients[0])
                _product(x, part, changes[n])
                torch.sum(part, -2, keepdim=True, out=shifts[n])
        return back, change, shift, None, None


class _MapParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*tensors[: 2 * count])
        rows, weights, biases = (tensors[i * count :][:count] for i in range(3))
        counts = [x.shape[-2] for x in rows]
        shape = (*weights[0].shape[:-2], sum(counts), weights[0].shape[-1])
        table = rows[0].new_empty(shape)
        places = table.split(counts, -2)
        for x, w, b, out in zip(rows, weights, biases, places, strict=True):
            _product(_shared(x, w), w, out, b)
        return table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        count = len(ctx.saved_tensors) // 2
        rows, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        parts = gradient.split([x.shape[-2] for x in rows], -2)
        needed = ctx.needs_input_grad[1:]
        back = [
            (part @ w.mT).sum_to_size(x.shape) if wanted else None
            for x, w, part, wanted in zip(rows, weights, parts, needed, strict=False)
        ]
        change = [
            _shared(x, w).mT @ part
            for x, w, part in zip(rows, weights, parts, strict=True)
        ]
        shift = [part.sum(-2, keepdim=True) for part in parts]
        return None, *back, *change, *shift


class _ScaleParts(torch.autograd.Function):
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
        places = h.split(counts, -2), table.split(counts, -2)
        for x, out, w, b in zip(*places, weights, biases, strict=True):
            torch.addcmul(b, x, w, out=out)
        return table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, *weights = ctx.saved_tensors
        back, product = torch.empty_like(gradient), gradient * h
        parts = gradient.split(ctx.counts, -2)
        places = back.split(ctx.counts, -2)
        for part, w, out in zip(parts, weights, places, strict=True):
            torch.mul(part, w, out=out)
        products = product.split(ctx.counts, -2)
        change = [part.sum(-2, keepdim=True) for part in products]
        shift = [part.sum(-2, keepdim=True) for part in parts]
        return back, None, *change, *shift


def _shared(rows: Tensor, weight: Tensor) -> Tensor:
    """Give rows that all members share an axis of members."""
    if rows.ndim == weight.ndim:
        return rows
    return rows.expand(*weight.shape[:-2], *rows.shape[-2:])


def _cut(table: Tensor, ranges: Ranges, axis: int = -2) -> list[Tensor]:
    """Return the rows of each range, by one split of the table."""
    sizes, wanted, end = [], [], 0
    for _, start, stop in ranges:
        if start > end:
            sizes.append(start - end)  # rows that are in no range
        wanted.append(len(sizes))
        sizes.append(stop - start)
        end = stop
    sizes.append(table.shape[axis] - end)
    parts = table.split(sizes, axis)
    return [parts[i] for i in wanted]


def _columns(table: Tensor, parts: int, axis: int = -1) -> list[Sequence[Tensor]]:
    """Return columns of ``[..., T, in, out]`` by part, and in each by range."""
    whole = [table] if parts == 1 else table.chunk(parts, axis)
    return [x.unbind(-3) for x in whole]


def _product(
    left: Tensor,
    right: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    *,
    add: bool = False,
) -> None:
    """Write ``left @ right + bias`` to its place, or ``add`` it to what is there.

    A leading axis is one of members.
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
