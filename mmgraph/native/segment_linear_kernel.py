"""Bindings of the segment linear kernel: one affine map for each segment of rows.

Letters: ``E`` ensemble members, ``N`` rows, ``T`` types.
"""

import ctypes
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.native.library import INT, POINTER, get_library, num_threads_for


class _SegmentLinear(ctypes.Structure):
    """Fields of ``struct SegmentLinear`` in segment_linear.cpp, in the same order."""

    numbers: "ctypes.Array[ctypes.c_int64]"  # keeps alive what ``segment`` points to
    _fields_ = (
        *((name, INT) for name in ("members", "types", "in", "out", "segments")),
        ("segment", POINTER),
        *((name, INT) for name in ("rows", "member_stride")),
        *((name, POINTER) for name in ("h", "weight", "bias")),
    )


class SegmentLinearInputs(NamedTuple):
    """Operands of the kernel; the axis ``E`` is present in all or in none.

    Attributes:
        h: ``[E, N, in]`` with contiguous rows; ``E`` may have any stride.
        weight: ``[E, T, in, out]``, contiguous.
        bias: ``[E, T, 1, out]``, contiguous.
        segments: Index of the weight, first row and end of each non-empty segment.
    """

    h: Tensor
    weight: Tensor
    bias: Tensor
    segments: Sequence[tuple[int, int, int]]

    @property
    def num_mapped(self) -> int:
        """Number of rows of the result."""
        return sum(stop - start for _, start, stop in self.segments)

    def pack(self) -> _SegmentLinear:
        """Return the structure of the kernel; it borrows the memory of the tensors."""
        h, (*_, types, width, columns) = self.h, self.weight.shape
        flat = [number for each in self.segments for number in each]
        numbers = (INT * len(flat))(*flat)
        packed = _SegmentLinear(
            h.shape[0] if h.ndim == 3 else 1,
            types,
            width,
            columns,
            len(self.segments),
            ctypes.addressof(numbers),
            h.shape[-2],
            h.stride(0) if h.ndim == 3 else 0,
            h.data_ptr(),
            self.weight.data_ptr(),
            self.bias.data_ptr(),
        )
        packed.numbers = numbers
        return packed


def segment_linear_forward(inputs: SegmentLinearInputs) -> Tensor:
    """Return ``[E, N', out]``: the mapped rows, segment after segment."""
    packed = inputs.pack()
    shape = *inputs.h.shape[:-2], inputs.num_mapped, inputs.weight.shape[-1]
    table = inputs.h.new_empty(shape)
    get_library().segment_linear_forward(
        ctypes.byref(packed), table.data_ptr(), shape[-2], num_threads_for(table)
    )
    return table


def segment_linear_backward(
    inputs: SegmentLinearInputs,
    gradient: Tensor,
    h_gradient: Tensor | None,
    accumulate: Collection[int],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias; write that of h to ``h_gradient``.

    Args:
        inputs: As in :func:`segment_linear_forward`.
        gradient: ``[E, N', out]`` gradient of the result, contiguous.
        h_gradient: ``[E, N, in]`` output for the gradient of h, contiguous, or None.
        accumulate: First rows of the segments whose gradient is added to the content
            of ``h_gradient``; the others overwrite it.
    """
    packed = inputs.pack()
    filled = len(inputs.segments) == inputs.weight.shape[-3]
    new = torch.empty_like if filled else torch.zeros_like
    weight_gradient, bias_gradient = new(inputs.weight), new(inputs.bias)
    add = bytes(start in accumulate for _, start, _ in inputs.segments)
    get_library().segment_linear_backward(
        ctypes.byref(packed),
        gradient.data_ptr(),
        inputs.num_mapped,
        None if h_gradient is None else h_gradient.data_ptr(),
        add,
        weight_gradient.data_ptr(),
        bias_gradient.data_ptr(),
        num_threads_for(gradient),
    )
    return weight_gradient, bias_gradient
