"""Streams: data that are read piece by piece because they exceed the memory.

Sources (Parquet, Hugging Face datasets, Python records) yield pieces of samples;
:class:`MultimodalStream` shards, shuffles and converts them to one schema.
"""

from mmgraph.data.stream.stream import ChunkIterator, MultimodalStream

__all__ = ["ChunkIterator", "MultimodalStream"]
