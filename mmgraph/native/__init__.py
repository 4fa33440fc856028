"""Kernels in C++ that are compiled when the package is built, where a compiler is.

Without them everything runs on torch alone, slower. ``MMGRAPH_NATIVE=0`` in the
environment leaves them unused.
"""

from mmgraph.native.attention import (
    CHANNELS,
    Attention,
    AttentionSegments,
    attend,
    attend_back,
    row_bounds,
)
from mmgraph.native.library import is_available, serves
from mmgraph.native.maps import RangeMaps, map_backward, map_forward

__all__ = [
    "CHANNELS",
    "Attention",
    "AttentionSegments",
    "RangeMaps",
    "attend",
    "attend_back",
    "is_available",
    "map_backward",
    "map_forward",
    "row_bounds",
    "serves",
]
