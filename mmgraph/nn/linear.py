"""Affine maps by node type, for one model or for all members of an ensemble at once.

Letters: ``N`` rows, ``D`` widths, ``T`` types, ``E`` members. With ``members=None``
parameters have no member axis and rows are ``[N, D]``; otherwise parameters begin with
``E``, and rows are ``[E, N, D]`` or ``[N, D]``, shared by all members.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

Ranges: TypeAlias = tuple[tuple[int, int, int], ...]


def parameter(
    *shape: int, members: int | None, bound: float = 0.0, fill: float = 0.0
) -> nn.Parameter:
    """Return a parameter drawn from U(-bound, bound), or filled where bound is 0."""
    full = shape if members is None else (members, *shape)
    value = torch.full(full, fill)
    return nn.Parameter(value.uniform_(-bound, bound) if bound else value)


class Linear(nn.Module):
    """An affine map; every member has its own."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        members: int | None = None,
        bias: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        bound = scale / math.sqrt(in_channels)
        self.weight = parameter(in_channels, out_channels, members=members, bound=bound)
        self.bias = parameter(1, out_channels, members=members) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., N, in]`` to ``[..., N, out]``."""
        h = x @ self.weight
        return h if self.bias is None else h + self.bias


class TypedLinear(nn.Module):
    """An affine map of its own for every node type of a table.

    Args:
        types: Node types that have a map.
        in_channels: Width of a row.
        out_channels: Width of the result.
        members: Number of ensemble members, or None.
        scale: Factor on the usual bound of the initial weights.
    """

    def __init__(
        self,
        types: Sequence[str],
        in_channels: int,
        out_channels: int,
        *,
        members: int | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.types = tuple(types)
        bound = scale / math.sqrt(in_channels)
        count = len(self.types)
        self.weight = parameter(
            count, in_channels, out_channels, members=members, bound=bound
        )
        self.bias = parameter(count, 1, out_channels, members=members)

    def forward(self, h: Tensor, rows: Mapping[str, slice]) -> Tensor:
        """Map the rows of each type.

        Args:
            h: ``[..., N, in]`` table.
            rows: Rows of each type in the table.

        Returns:
            ``[..., N', out]``: the results of ``types`` in the order of the table; a
            type without rows gives none.
        """
        return self.tables(h, rows, 1)[0]

    def tables(
        self, h: Tensor, rows: Mapping[str, slice], parts: int
    ) -> tuple[Tensor, ...]:
        """Return equal parts of the result, ``[..., N', out / parts]``, as tables."""
        ranges = tuple(
            (self.types.index(name), part.start, part.stop)
            for name, part in rows.items()
            if name in self.types
        )
        return map_ranges(h, self.weight, self.bias, ranges, parts)


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
    if torch.is_autocast_enabled(h.device.type):
        dtype = torch.get_autocast_dtype(h.device.type)
        h, weight, bias = h.to(dtype), weight.to(dtype), bias.to(dtype)
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


class _MapRanges(torch.autograd.Function):
    """Every product writes to its place: no slice, unbind or cat copies anything.

    The gradient of a slice, in particular, is a whole table of zeros for each type.
    """

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
        ctx.ranges = ranges
        total = sum(stop - start for _, start, stop in ranges)
        width = weight.shape[-1] // parts
        tables = [h.new_empty(*h.shape[:-2], total, width) for _ in range(parts)]
        for (i, start, stop), rows in _places(ranges):
            columns = zip(
                weight.select(-3, i).split(width, -1),
                bias.select(-3, i).split(width, -1),
                tables,
                strict=True,
            )
            for w, b, table in columns:
                _product(h[..., start:stop, :], w, table[..., rows, :], b)
        return tuple(tables)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, weight = ctx.saved_tensors
        covered = gradients[0].shape[-2] == h.shape[-2]
        back = torch.empty_like(h) if covered else torch.zeros_like(h)
        new = torch.empty_like if _all_filled(ctx.ranges, weight) else torch.zeros_like
        change, shift = new(weight), new(weight[..., :1, :])
        width = weight.shape[-1] // len(gradients)
        for (i, start, stop), rows in _places(ctx.ranges):
            source = h[..., start:stop, :].mT
            for k, gradient in enumerate(gradients):
                part, columns = (
                    gradient[..., rows, :],
                    slice(k * width, (k + 1) * width),
                )
                w = weight.select(-3, i)[..., columns].mT
                _product(part, w, back[..., start:stop, :], add=k > 0)
                _product(source, part, change.select(-3, i)[..., columns])
                torch.sum(part, -2, keepdim=True, out=shift.select(-3, i)[..., columns])
        return back, change, shift, None, None


def _places(ranges: Ranges) -> Iterator[tuple[tuple[int, int, int], slice]]:
    """Yield each range that has rows, and the rows of its result."""
    first = 0
    for each in ranges:
        _, start, stop = each
        if start < stop:
            yield each, slice(first, first + stop - start)
        first += stop - start


def _all_filled(ranges: Ranges, weight: Tensor) -> bool:
    return sum(start < stop for _, start, stop in ranges) == weight.shape[-3]


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


class Norm(nn.Module):
    """Layer normalisation with a gain and shift for each member."""

    def __init__(self, channels: int, *, members: int | None = None) -> None:
        super().__init__()
        self.weight = parameter(1, channels, members=members, fill=1.0)
        self.bias = parameter(1, channels, members=members)

    def forward(self, h: Tensor) -> Tensor:
        """Normalise the last axis of ``[..., N, D]``."""
        return standardise(h) * self.weight + self.bias


def standardise(h: Tensor) -> Tensor:
    """Layer normalisation without parameters over the last axis."""
    return nn.functional.layer_norm(h, h.shape[-1:])
