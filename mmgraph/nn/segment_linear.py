"""Maps of rows that stand in one table, each range of them by parameters of its own.

Letters: ``N`` rows, ``T`` ranges, ``E`` members. Every product writes to its place: no
slice, unbind or cat copies anything. The gradient of a slice, in particular, would be a
whole table of zeros for each range.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgraph import native

Range: TypeAlias = tuple[int, int, int]
Ranges: TypeAlias = Sequence[Range]


class Map(NamedTuple):
    """Affine maps of ranges of rows.

    Attributes:
        weight: ``[..., T, in, out]``.
        bias: ``[..., T, 1, out]``.
        ranges: Number of the weight, first row and end of each range, in the order of
            the rows. No weight is in two of them.
    """

    weight: Tensor
    bias: Tensor
    ranges: Ranges


def map_ranges(h: Tensor, *maps: Map) -> tuple[Tensor, ...]:
    """Map ranges of the rows ``[..., N, in]``, each by a weight and bias of its own.

    Args:
        h: Rows; shared by all members where it has no axis of them.
        maps: One or more. Their ranges are the same or apart.

    Returns:
        ``[..., N', out]`` range after range, for every map.
    """
    h, *parameters = _cast(h, *(x for each in maps for x in each[:2]))
    if any(x.ndim != h.ndim + 1 for x in parameters):  # some have no axis of members
        leading = max((h.shape[:-2], *(x.shape[:-3] for x in parameters)), key=len)
        h = h.expand(*leading, *h.shape[-2:])
        parameters = [x.expand(*leading, *x.shape[-3:]) for x in parameters]
    ranges = tuple(each.ranges for each in maps)
    if torch.compiler.is_compiling():  # the compiler plans memory by itself
        each = zip(maps, parameters[::2], parameters[1::2], strict=True)
        return tuple(_map_plainly(h, m.ranges, w, b) for m, w, b in each)
    tables = _MapRanges.apply(h, ranges, *parameters)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, ...]", tables)


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
        each = zip(_split(h, list(counts)), weights, biases, strict=True)
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
        ranges: tuple[Ranges, ...],
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        h = h if h.stride(-1) == 1 and h.stride(-2) == h.shape[-1] else h.contiguous()
        parameters = tuple(x.contiguous() for x in parameters)
        ctx.save_for_backward(h, *parameters)
        ctx.ranges = [[r for r in each if r[1] < r[2]] for each in ranges]
        run = native.map_forward if native.serves(h, *parameters) else _forward
        given = zip(parameters[::2], parameters[1::2], ctx.ranges, strict=True)
        return tuple(run(native.RangeMaps(h, *each)) for each in given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, *parameters = ctx.saved_tensors
        back = _blank(h, ctx.ranges) if ctx.needs_input_grad[0] else None
        begun: set[int] = set()
        changes: list[Tensor] = []
        run = native.map_backward if native.serves(h, *parameters) else _backward
        given = zip(parameters[::2], parameters[1::2], ctx.ranges, strict=True)
        for each, gradient in zip(given, gradients, strict=True):
            maps = native.RangeMaps(h, *each)
            changes += run(maps, gradient.contiguous(), back, begun)
            begun.update(start for _, start, _ in maps.ranges)
        return back, None, *changes


def _forward(maps: native.RangeMaps) -> Tensor:
    """Map by torch, range after range."""
    h, weight, bias, ranges = maps
    table = h.new_empty(*h.shape[:-2], maps.num_mapped, weight.shape[-1])
    counts = [stop - start for _, start, stop in ranges]
    w, b = weight.unbind(-3), bias.unbind(-3)
    outs = _split(table, counts)
    for (n, _, _), rows, out in zip(ranges, _cut(h, ranges), outs, strict=True):
        _product(rows, w[n], out, b[n])
    return table


def _backward(
    maps: native.RangeMaps, gradient: Tensor, back: Tensor | None, begun: set[int]
) -> tuple[Tensor, Tensor]:
    """Do by torch what :func:`mmgraph.native.map_backward` does."""
    h, weight, bias, ranges = maps
    new = torch.zeros_like if len(ranges) < weight.shape[-3] else torch.empty_like
    change, shift = new(weight), new(bias)
    to, by, w = (x.unbind(-3) for x in (change, shift, weight.mT))
    counts = [stop - start for _, start, stop in ranges]
    parts = _split(gradient, counts)
    backs = [None] * len(ranges) if back is None else _cut(back, ranges)
    places = zip(ranges, _cut(h.mT, ranges, -1), parts, backs, strict=True)
    for (n, start, _), columns, part, out in places:
        _product(columns, part, to[n])
        torch.sum(part, -2, keepdim=True, out=by[n])
        if out is not None:
            _product(part, w[n], out, add=start in begun)
    return change, shift


class _MapParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*tensors[: 2 * count])
        rows, weights, biases = (tensors[i * count :][:count] for i in range(3))
        counts = [x.shape[-2] for x in rows]
        shape = (*weights[0].shape[:-2], sum(counts), weights[0].shape[-1])
        table = rows[0].new_empty(shape)
        places = _split(table, counts)
        for x, w, b, out in zip(rows, weights, biases, places, strict=True):
            _product(_shared(x, w), w, out, b)
        return table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        count = len(ctx.saved_tensors) // 2
        rows, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        parts = _split(gradient, [x.shape[-2] for x in rows])
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
        places = _split(h, counts), _split(table, counts)
        for x, out, w, b in zip(*places, weights, biases, strict=True):
            torch.addcmul(b, x, w, out=out)
        return table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, *weights = ctx.saved_tensors
        back, product = torch.empty_like(gradient), gradient * h
        parts = _split(gradient, ctx.counts)
        places = _split(back, ctx.counts)
        for part, w, out in zip(parts, weights, places, strict=True):
            torch.mul(part, w, out=out)
        products = _split(product, ctx.counts)
        change = [part.sum(-2, keepdim=True) for part in products]
        shift = [part.sum(-2, keepdim=True) for part in parts]
        return back, None, *change, *shift


def _shared(rows: Tensor, weight: Tensor) -> Tensor:
    """Give rows that all members share an axis of members."""
    if rows.ndim == weight.ndim:
        return rows
    return rows.expand(*weight.shape[:-2], *rows.shape[-2:])


def _split(table: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
    """Split ``[..., N, D]`` by rows; ``Tensor.split`` takes three times as long."""
    return torch.split_with_sizes(table, counts, -2)


def _cut(table: Tensor, ranges: Iterable[Range], axis: int = -2) -> list[Tensor]:
    """Return the rows of each range, by one split of the table."""
    sizes, wanted, end = [], [], 0
    for _, start, stop in ranges:
        if start > end:
            sizes.append(start - end)  # rows that are in no range
        wanted.append(len(sizes))
        sizes.append(stop - start)
        end = stop
    sizes.append(table.shape[axis] - end)
    parts = torch.split_with_sizes(table, sizes, axis)
    return [parts[i] for i in wanted]


def _blank(h: Tensor, maps: Sequence[Ranges]) -> Tensor:
    """Return a contiguous table like ``h``; zero where no range writes to it."""
    covered = {(start, stop) for ranges in maps for _, start, stop in ranges}
    whole = sum(stop - start for start, stop in covered) == h.shape[-2]
    return h.new_empty(h.shape) if whole else h.new_zeros(h.shape)


def _map_plainly(h: Tensor, ranges: Ranges, weight: Tensor, bias: Tensor) -> Tensor:
    w, b = weight.unbind(-3), bias.unbind(-3)
    rows = [h[..., i:j, :] @ w[n] + b[n] for n, i, j in ranges]
    return torch.cat(rows, -2)


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
