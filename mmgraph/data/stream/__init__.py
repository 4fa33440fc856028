"""Samples that do not fit into memory, read piece by piece."""

from mmgraph.data.stream.stream import ChunkIterator, MultimodalStream

__all__ = ["ChunkIterator", "MultimodalStream"]
