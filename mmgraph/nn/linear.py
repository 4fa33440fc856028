"""Affine maps by node type, for one model or for all members of an ensemble at once.

Letters: ``N`` rows, ``D`` widths, ``T`` types, ``E`` ensemble members. With
``members=None``, parameters have no axis of members and rows are ``[N, D]``. Otherwise
parameters begin with the axis ``E``, and rows are ``[E, N, D]``, or ``[N, D]`` shared
by all members.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmgraph.nn.segment_linear import SegmentParams, segment_linear


def parameter(
    *shape: int, members: int | None, bound: float = 0.0, fill: float = 0.0
) -> nn.Parameter:
    """Return a parameter drawn from U(-bound, bound), or filled where bound is 0.

    Args:
        shape: Shape for one member.
        members: Ensemble members, which become the first axis; None adds no axis.
        bound: Bound of the uniform distribution; 0 fills instead.
        fill: Value where ``bound`` is 0.
    """
    full = shape if members is None else (members, *shape)
    value = torch.full(full, fill)
    return nn.Parameter(value.uniform_(-bound, bound) if bound else value)


class Linear(nn.Module):
    """Affine map ``x W + b``, with separate parameters for each ensemble member.

    Args:
        in_channels: Width of a row.
        out_channels: Width of the result.
        members: Ensemble members, or None for a single model.
        scale: Factor on the bound ``1 / sqrt(in_channels)`` of the initial weights. The
            bias is initialized to zero.
    """

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
    """One affine map for each node type of a table.

    Args:
        types: Node types with a map; rows of other types are skipped.
        in_channels: Width of a row.
        out_channels: Width of the result.
        members: Ensemble members, or None for a single model.
        scale: Factor on the bound ``1 / sqrt(in_channels)`` of the initial weights.
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
        """Map the rows of each type by the weights of that type.

        Args:
            h: ``[..., N, in]`` table.
            rows: Rows of each type in the table.

        Returns:
            ``[..., N', out]``: the rows of ``types`` in the order of the table; a type
            without rows contributes none.
        """
        return segment_linear(h, self.segment_params(rows))[0]

    def segment_params(self, rows: Mapping[str, slice]) -> SegmentParams:
        """Return the parameters for a table with these rows of each type."""
        segments = tuple(
            (self.types.index(name), part.start, part.stop)
            for name, part in rows.items()
            if name in self.types
        )
        return SegmentParams(self.weight, self.bias, segments)


class Norm(nn.Module):
    """Layer normalization with a learned scale and shift for each ensemble member.

    References:
        Layer Normalization, Ba, Kiros, Hinton, 2016, arXiv 1607.06450.

    Args:
        channels: ``D``.
        members: Ensemble members, or None for a single model.
    """

    def __init__(self, channels: int, *, members: int | None = None) -> None:
        super().__init__()
        self.weight = parameter(1, channels, members=members, fill=1.0)
        self.bias = parameter(1, channels, members=members)

    def forward(self, h: Tensor) -> Tensor:
        """Normalize the last axis of ``[..., N, D]``."""
        return standardize(h) * self.weight + self.bias


def standardize(h: Tensor) -> Tensor:
    """Layer normalization without parameters over the last axis."""
    return torch.layer_norm(h, h.shape[-1:])
