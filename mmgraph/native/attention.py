"""Attention on tables of rows, float32 on the CPU.

Letters: ``E`` members, ``B`` samples, ``N`` rows, ``H`` heads, ``d`` width of a head.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.native.library import INT, POINTER, address, loaded, threads_for

CHANNELS = 8  # the width of a head must be a multiple of it


class _Attention(ctypes.Structure):
    """``struct Attention`` of attention.cpp."""

    _fields_ = (
        *((name, INT) for name in ("members", "samples")),
        *((name, INT) for name in ("target_types", "source_types")),
        *((name, INT) for name in ("relations", "sinks", "heads", "width")),
        *((name, INT) for name in ("num_targets", "num_sources")),
        *((name, INT) for name in ("query_stride", "source_stride")),
        *((name, POINTER) for name in ("query", "key", "value")),
        *((name, POINTER) for name in ("target_bounds", "source_bounds")),
        *((name, POINTER) for name in ("relation", "sink_row", "bias", "sink")),
        ("silent", POINTER),
    )


def row_bounds(
    samples: Sequence[Tensor], first: Sequence[int], num_samples: int
) -> Tensor:
    """Return where the rows of each sample begin, ``[types, B + 1]``.

    Args:
        samples: Ascending sample numbers of the rows of each type.
        first: The row of a table at which each type begins.
        num_samples: ``B``.
    """
    library = loaded()
    shape = len(samples), num_samples + 1
    bounds = torch.empty(shape, dtype=torch.int64, device="cpu")
    row, step = bounds.data_ptr(), bounds.stride(0) * bounds.element_size()
    for sample, start in zip(samples, first, strict=True):
        sample = sample.to(torch.int64).contiguous()
        library.row_bounds(sample.data_ptr(), len(sample), num_samples, start, row)
        row += step
    return bounds


class AttentionSegments(NamedTuple):
    """Which rows attend to which.

    Attributes:
        targets: ``[T, B + 1]`` first row of each sample among those that hear.
        sources: ``[S, B + 1]`` the same among those that are heard.
        relation: ``[T, S]`` number of the relation, -1 where there is none.
        sink: ``[T]`` number of the sink of each target type.
    """

    targets: Tensor
    sources: Tensor
    relation: Tensor
    sink: Tensor


class Attention(NamedTuple):
    """What is attended, float32 on the CPU; E, where it is, leads all of them.

    Attributes:
        query: ``[E, N, H d]``.
        source: ``[E, N', 2 H d]``: keys, then values.
        bias: ``[E, relations, H]``.
        sink: ``[E, sinks, H]``, or None.
        silent: ``[N']`` Bool: rows that are not heard; or None.
    """

    query: Tensor
    source: Tensor
    bias: Tensor
    sink: Tensor | None
    silent: Tensor | None

    def pack(self, hearing: AttentionSegments) -> _Attention:
        """Return the structure that kernels read; it does not own what it names."""
        query, source, heads = self.query, self.source, self.bias.shape[-1]
        width = query.shape[-1]
        return _Attention(
            members=query.shape[0] if query.ndim == 3 else 1,
            samples=hearing.targets.shape[1] - 1,
            target_types=hearing.relation.shape[0],
            source_types=hearing.relation.shape[1],
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
            target_bounds=hearing.targets.data_ptr(),
            source_bounds=hearing.sources.data_ptr(),
            relation=hearing.relation.data_ptr(),
            sink_row=hearing.sink.data_ptr(),
            bias=self.bias.data_ptr(),
            sink=address(self.sink),
            silent=address(self.silent),
        )


def attend(
    given: Attention, hearings: Sequence[AttentionSegments]
) -> tuple[Tensor, Tensor]:
    """Attend, hearing by hearing; every target row is in one of them.

    Returns:
        ``[E, N, H d]``, and for :func:`attend_back` ``[2, E, N, H]``.
    """
    out = torch.empty_like(given.query)
    kept = out.new_empty(2, *out.shape[:-1], given.bias.shape[-1])
    peak, inverse = kept.data_ptr(), kept[1].data_ptr()
    threads = threads_for(given.source)
    for hearing in hearings:
        packed = ctypes.byref(given.pack(hearing))
        loaded().attention_forward(packed, out.data_ptr(), peak, inverse, threads)
    return out, kept


def attend_back(
    given: Attention,
    hearings: Sequence[AttentionSegments],
    kept: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return gradients of query, source, bias and sink from that of the result."""
    query, source = torch.empty_like(given.query), torch.zeros_like(given.source)
    bias = torch.zeros_like(given.bias)
    sink = None if given.sink is None else torch.zeros_like(given.sink)
    threads, key = threads_for(source), source.data_ptr()
    value = key + query.shape[-1] * source.element_size()
    for hearing in hearings:
        loaded().attention_backward(
            ctypes.byref(given.pack(hearing)),
            gradient.data_ptr(),
            kept.data_ptr(),
            kept[1].data_ptr(),
            query.data_ptr(),
            key,
            value,
            bias.data_ptr(),
            address(sink),
            threads,
        )
    return query, source, bias, sink
