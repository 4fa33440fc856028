"""Affine maps of ranges of rows, float32 on the CPU.

Letters: ``E`` members, ``N`` rows, ``T`` types.
"""

import ctypes
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.native.library import INT, POINTER, loaded, threads_for


class _Maps(ctypes.Structure):
    """``struct Maps`` of maps.cpp."""

    numbers: "ctypes.Array[ctypes.c_int64]"  # keeps what ``range`` points to
    _fields_ = (
        *((name, INT) for name in ("members", "types", "in", "out", "ranges")),
        ("range", POINTER),
        *((name, INT) for name in ("rows", "member_stride")),
        *((name, POINTER) for name in ("h", "weight", "bias")),
    )


class RangeMaps(NamedTuple):
    """Rows and what maps them; E, where it is, leads all.

    Attributes:
        h: ``[E, N, in]``, rows one after the other; E may have any stride.
        weight: ``[E, T, in, out]``, contiguous.
        bias: ``[E, T, 1, out]``, contiguous.
        ranges: Number of the weight, first row and end of each, without empty ones.
    """

    h: Tensor
    weight: Tensor
    bias: Tensor
    ranges: Sequence[tuple[int, int, int]]

    @property
    def num_mapped(self) -> int:
        """Rows of the result."""
        return sum(stop - start for _, start, stop in self.ranges)

    def pack(self) -> _Maps:
        """Return the structure that kernels read; it does not own what it names."""
        h, (*_, types, width, columns) = self.h, self.weight.shape
        flat = [number for each in self.ranges for number in each]
        numbers = (INT * len(flat))(*flat)
        packed = _Maps(
            h.shape[0] if h.ndim == 3 else 1,
            types,
            width,
            columns,
            len(self.ranges),
            ctypes.addressof(numbers),
            h.shape[-2],
            h.stride(0) if h.ndim == 3 else 0,
            h.data_ptr(),
            self.weight.data_ptr(),
            self.bias.data_ptr(),
        )
        packed.numbers = numbers
        return packed


def map_forward(maps: RangeMaps) -> Tensor:
    """Return ``[E, N', out]`` range after range."""
    packed = maps.pack()
    shape = *maps.h.shape[:-2], maps.num_mapped, maps.weight.shape[-1]
    table = maps.h.new_empty(shape)
    loaded().maps_forward(
        ctypes.byref(packed), table.data_ptr(), shape[-2], threads_for(table)
    )
    return table


def map_backward(
    maps: RangeMaps, gradient: Tensor, back: Tensor | None, begun: Collection[int]
) -> tuple[Tensor, Tensor]:
    """Return gradients of weight and bias; write that of h to ``back``.

    Args:
        maps: What was given forward.
        gradient: ``[E, N', out]``, contiguous.
        back: ``[E, N, in]``, contiguous, or None.
        begun: First rows of the ranges whose gradient is added to what ``back`` has.
    """
    packed = maps.pack()
    filled = len(maps.ranges) == maps.weight.shape[-3]
    new = torch.empty_like if filled else torch.zeros_like
    change, shift = new(maps.weight), new(maps.bias)
    add = bytes(start in begun for _, start, _ in maps.ranges)
    loaded().maps_backward(
        ctypes.byref(packed),
        gradient.data_ptr(),
        maps.num_mapped,
        None if back is None else back.data_ptr(),
        add,
        change.data_ptr(),
        shift.data_ptr(),
        threads_for(gradient),
    )
    return change, shift
