"""Explicit alignment: which rows of two modalities belong together.

Canonical correlation analysis of any number of modalities, tables of similarity, and
optimal transport between samples without pairs. Missing rows are NaN, in inputs and in
results. The folder depends on ``data`` and ``nn``.
"""

from mmgraph.alignment.canonical import CCA
from mmgraph.alignment.similarity import similarity
from mmgraph.alignment.transport import Transport, transport

__all__ = ["CCA", "Transport", "similarity", "transport"]
