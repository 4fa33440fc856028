"""Kernels in C++ that are compiled when the package is built, where a compiler is.

Without them everything runs on torch alone, slower. ``MMGRAPH_NATIVE=0`` in the
environment leaves them unused.

Letters: ``E`` members, ``B`` samples, ``N`` rows, ``H`` heads, ``d`` width of a head.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Call", "Table", "attend", "attend_back", "is_available", "row_bounds"]

CHANNELS = 8  # the width of a head must be a multiple of it
VARIANTS = {"AVX512": ("v4", "v3", "any"), "AVX2": ("v3", "any")}
ALONE = 1 << 15  # numbers in a table below which one thread is as fast as many

_INT, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Attention(ctypes.Structure):
    """``struct Attention`` of attention.cpp."""

    _fields_ = (
        *((name, _INT) for name in ("members", "samples")),
        *((name, _INT) for name in ("target_types", "source_types")),
        *((name, _INT) for name in ("relations", "sinks", "heads", "width")),
        *((name, _INT) for name in ("num_targets", "num_sources")),
        *((name, _INT) for name in ("query_stride", "source_stride")),
        *((name, _POINTER) for name in ("query", "key", "value")),
        *((name, _POINTER) for name in ("target_bounds", "source_bounds")),
        *((name, _POINTER) for name in ("relation", "sink_row", "bias", "sink")),
        ("silent", _POINTER),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """Load the fastest kernels that were built and that this processor can run."""
    if os.environ.get("MMGRAPH_NATIVE") == "0":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    for variant in VARIANTS.get(capability, ("any",)):
        path = Path(__file__).with_name(f"attention-{variant}.so")
        if path.exists():
            return _declare(ctypes.CDLL(str(path)))
    return None


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    signatures = {
        "attention_forward": (*[_POINTER] * 4, ctypes.c_int),
        "attention_backward": (*[_POINTER] * 9, ctypes.c_int),
        "row_bounds": (_POINTER, _INT, _INT, _INT, _POINTER),
    }
    for name, types in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    return library


def is_available() -> bool:
    """Tell whether kernels were built for this machine."""
    return _library() is not None


def row_bounds(
    samples: Sequence[Tensor], first: Sequence[int], num_samples: int
) -> Tensor:
    """Return where the rows of each sample begin, ``[types, B + 1]``.

    Args:
        samples: Ascending sample numbers of the rows of each type.
        first: The row of a table at which each type begins.
        num_samples: ``B``.
    """
    library = _loaded()
    shape = len(samples), num_samples + 1
    bounds = torch.empty(shape, dtype=torch.int64, device="cpu")
    row, step = bounds.data_ptr(), bounds.stride(0) * bounds.element_size()
    for sample, start in zip(samples, first, strict=True):
        sample = sample.contiguous()
        library.row_bounds(sample.data_ptr(), len(sample), num_samples, start, row)
        row += step
    return bounds


class Table(NamedTuple):
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


class Call(NamedTuple):
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

    def pack(self, table: Table) -> _Attention:
        """Return the structure that kernels read; it does not own what it names."""
        query, source, heads = self.query, self.source, self.bias.shape[-1]
        width = query.shape[-1]
        return _Attention(
            members=query.shape[0] if query.ndim == 3 else 1,
            samples=table.targets.shape[1] - 1,
            target_types=table.relation.shape[0],
            source_types=table.relation.shape[1],
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
            target_bounds=table.targets.data_ptr(),
            source_bounds=table.sources.data_ptr(),
            relation=table.relation.data_ptr(),
            sink_row=table.sink.data_ptr(),
            bias=self.bias.data_ptr(),
            sink=_address(self.sink),
            silent=_address(self.silent),
        )

    @property
    def threads(self) -> int:
        """How many threads pay."""
        return 1 if self.source.numel() < ALONE else torch.get_num_threads()


def attend(call: Call, tables: Sequence[Table]) -> tuple[Tensor, Tensor]:
    """Attend, table by table; every target row is in one of them.

    Returns:
        ``[E, N, H d]``, and for :func:`attend_back` ``[2, E, N, H]``.
    """
    out = torch.empty_like(call.query)
    kept = out.new_empty(2, *out.shape[:-1], call.bias.shape[-1])
    peak, inverse = kept.data_ptr(), kept[1].data_ptr()
    for table in tables:
        packed = ctypes.byref(call.pack(table))
        _loaded().attention_forward(packed, out.data_ptr(), peak, inverse, call.threads)
    return out, kept


def attend_back(
    call: Call, tables: Sequence[Table], kept: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return gradients of query, source, bias and sink from that of the result."""
    query, source = torch.empty_like(call.query), torch.zeros_like(call.source)
    bias = torch.zeros_like(call.bias)
    sink = None if call.sink is None else torch.zeros_like(call.sink)
    key = source.data_ptr()
    value = key + query.shape[-1] * source.element_size()
    for table in tables:
        _loaded().attention_backward(
            ctypes.byref(call.pack(table)),
            gradient.data_ptr(),
            kept.data_ptr(),
            kept[1].data_ptr(),
            query.data_ptr(),
            key,
            value,
            bias.data_ptr(),
            _address(sink),
            call.threads,
        )
    return query, source, bias, sink


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert library is not None
    return library
