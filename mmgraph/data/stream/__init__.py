"""Samples that do not fit into memory, read piece by piece."""

from mmgraph.data.stream.stream import Chunks, MultimodalStream

__all__ = ["Chunks", "MultimodalStream"]
