"""Affine maps by node type, for one model or for all members of an ensemble at once.

Letters: ``N`` rows, ``D`` widths, ``T`` types, ``E`` members. With ``members=None``
parameters have no member axis and rows are ``[N, D]``; otherwise parameters begin with
``E``, and rows are ``[E, N, D]`` or ``[N, D]``, shared by all members.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmgraph.nn.segment_linear import Map, map_ranges


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
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        bound = scale / math.sqrt(in_channels)
        self.weight = parameter(in_channels, out_channels, members=members, bound=bound)
        self.bias = parameter(1, out_channels, members=members)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., N, in]`` to ``[..., N, out]``."""
        if x.ndim == 2 == self.weight.ndim:
            return torch.addmm(self.bias, x, self.weight)
        return x @ self.weight + self.bias


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
        return map_ranges(h, self.over(rows))[0]

    def over(self, rows: Mapping[str, slice]) -> Map:
        """Return the map of a table with these rows of each type."""
        ranges = tuple(
            (self.types.index(name), part.start, part.stop)
            for name, part in rows.items()
            if name in self.types
        )
        return Map(self.weight, self.bias, ranges)


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
    return torch.layer_norm(h, h.shape[-1:])
