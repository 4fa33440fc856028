"""Explicit alignment: which rows of two modalities belong together, and which moments.

Canonical correlation analysis of any number of modalities, tables of similarity,
optimal transport between samples without pairs, warping of sequences and offsets of
clocks. Missing rows are NaN, in inputs and in results. The folder depends on ``data``,
``losses`` and ``nn``.
"""

from mmgraph.alignment.canonical import CCA
from mmgraph.alignment.clocks import Offset, estimate_offset
from mmgraph.alignment.similarity import similarity
from mmgraph.alignment.transport import Transport, transport
from mmgraph.alignment.warping import Warping, dtw

__all__ = [
    "CCA",
    "Offset",
    "Transport",
    "Warping",
    "dtw",
    "estimate_offset",
    "similarity",
    "transport",
]
