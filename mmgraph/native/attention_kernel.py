"""Bindings of the attention kernel: multi-head attention on tables of packed rows.

Letters: ``E`` ensemble members, ``B`` samples, ``N`` rows, ``H`` heads, ``d`` width of
    a
head.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.native.library import (
    INT,
    POINTER,
    address,
    get_library,
    num_threads_for,
)

HEAD_WIDTH_MULTIPLE = 8  # the kernel supports heads of such widths only


class _Attention(ctypes.Structure):
    """Fields of ``struct Attention`` in attention.cpp, in the same order."""

    _fields_ = (
        *((name, INT) for name in ("members", "samples")),
        *((name, INT) for name in ("target_types", "source_types")),
        *((name, INT) for name in ("relations", "sinks", "heads", "width")),
        *((name, INT) for name in ("num_targets", "num_sources")),
        *((name, INT) for name in ("query_stride", "source_stride")),
        *((name, POINTER) for name in ("query", "key", "value")),
        *((name, POINTER) for name in ("target_bounds", "source_bounds")),
        *((name, POINTER) for name in ("relation", "sink_row", "bias", "sink")),
        ("receive_only", POINTER),
    )


def row_bounds(
    samples: Sequence[Tensor], first: Sequence[int], num_samples: int
) -> Tensor:
    """Return the first row of each sample, and the end, as ``[types, B + 1]``.

    Args:
        samples: Ascending sample indices of the rows, one tensor for each type.
        first: Row of the table at which each type begins.
        num_samples: ``B``.
    """
    library = get_library()
    shape = len(samples), num_samples + 1
    bounds = torch.empty(shape, dtype=torch.int64, device="cpu")
    row, step = bounds.data_ptr(), bounds.stride(0) * bounds.element_size()
    for sample, start in zip(samples, first, strict=True):
        sample = sample.to(torch.int64).contiguous()
        library.row_bounds(sample.data_ptr(), len(sample), num_samples, start, row)
        row += step
    return bounds


class AttentionSegments(NamedTuple):
    """Row ranges of a group of target types and of the source types they attend to.

    Attributes:
        targets: ``[T, B + 1]`` first row of each sample in the table of targets.
        sources: ``[S, B + 1]`` first row of each sample in the table of sources.
        relation: ``[T, S]`` index of the relation, -1 where there is none.
        sink: ``[T]`` index of the null sink of each target type.
    """

    targets: Tensor
    sources: Tensor
    relation: Tensor
    sink: Tensor


class AttentionInputs(NamedTuple):
    """Operands of the attention kernel; the axis ``E`` is present in all or in none.

    Attributes:
        query: ``[E, N, H d]``.
        source: ``[E, N', 2 H d]`` keys, followed by values.
        bias: ``[E, relations, H]``.
        sink: ``[E, sinks, H]``, or None.
        receive_only: ``[N']`` Bool, True for sources without outgoing messages; None
            where every source sends.
    """

    query: Tensor
    source: Tensor
    bias: Tensor
    sink: Tensor | None
    receive_only: Tensor | None

    def pack(self, segments: AttentionSegments) -> _Attention:
        """Return the structure of the kernel; it borrows the memory of the tensors."""
        query, source, heads = self.query, self.source, self.bias.shape[-1]
        width = query.shape[-1]
        return _Attention(
            members=query.shape[0] if query.ndim == 3 else 1,
            samples=segments.targets.shape[1] - 1,
            target_types=segments.relation.shape[0],
            source_types=segments.relation.shape[1],
            relations=self.bias.shape[-2],
            sinks=0 if self.sink is None else self.sink.shape[-2],
            heads=heads,
            width=width // heads,
            num_targets=query.shape[-2],
            num_sources=source.shape[-2],
            query_stride=width,
            source_stride=2 * width,
            query=query.data_ptr(),
            key=source.data_ptr(),
            value=source.data_ptr() + width * source.element_size(),
            target_bounds=segments.targets.data_ptr(),
            source_bounds=segments.sources.data_ptr(),
            relation=segments.relation.data_ptr(),
            sink_row=segments.sink.data_ptr(),
            bias=self.bias.data_ptr(),
            sink=address(self.sink),
            receive_only=address(self.receive_only),
        )


def attention_forward(
    inputs: AttentionInputs, groups: Sequence[AttentionSegments]
) -> tuple[Tensor, Tensor]:
    """Compute attention, group by group.

    Args:
        inputs: Queries, keys, values and parameters.
        groups: Row ranges; every target row is in exactly one group.

    Returns:
        The attended values ``[E, N, H d]``, and the softmax statistics ``[2, E, N, H]``
        (largest logit and inverse of the denominator) for :func:`attention_backward`.
    """
    out = torch.empty_like(inputs.query)
    statistics = out.new_empty(2, *out.shape[:-1], inputs.bias.shape[-1])
    peak, inverse = statistics.data_ptr(), statistics[1].data_ptr()
    threads = num_threads_for(inputs.source)
    for segments in groups:
        packed = ctypes.byref(inputs.pack(segments))
        get_library().attention_forward(packed, out.data_ptr(), peak, inverse, threads)
    return out, statistics


def attention_backward(
    inputs: AttentionInputs,
    groups: Sequence[AttentionSegments],
    statistics: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of query, source, bias and sink.

    Args:
        inputs: As in :func:`attention_forward`.
        groups: As in :func:`attention_forward`.
        statistics: Softmax statistics that :func:`attention_forward` returned.
        gradient: ``[E, N, H d]`` gradient of the attended values, contiguous.
    """
    query, source = torch.empty_like(inputs.query), torch.zeros_like(inputs.source)
    bias = torch.zeros_like(inputs.bias)
    sink = None if inputs.sink is None else torch.zeros_like(inputs.sink)
    threads, key = num_threads_for(source), source.data_ptr()
    value = key + query.shape[-1] * source.element_size()
    for segments in groups:
        get_library().attention_backward(
            ctypes.byref(inputs.pack(segments)),
            gradient.data_ptr(),
            statistics.data_ptr(),
            statistics[1].data_ptr(),
            query.data_ptr(),
            key,
            value,
            bias.data_ptr(),
            address(sink),
            threads,
        )
    return query, source, bias, sink
