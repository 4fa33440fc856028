"""Samples that do not fit into memory, read piece by piece."""

from mmgraph.data.stream.chunks import Chunks
from mmgraph.data.stream.stream import MultimodalStream

__all__ = ["Chunks", "MultimodalStream"]
