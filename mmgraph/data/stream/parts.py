"""Samples in memory or in a stream, read the same way."""

from collections.abc import Iterable
from typing import TypeAlias

from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.stream import MultimodalStream

Samples: TypeAlias = MultimodalData | MultimodalStream


def parts_of(samples: Samples) -> Iterable[MultimodalData]:
    """Return all samples, those of a stream some at a time."""
    return samples.chunks() if isinstance(samples, MultimodalStream) else [samples]


def in_memory(samples: Samples) -> MultimodalData:
    """Return all samples, those of a stream one part after the other."""
    if isinstance(samples, MultimodalData):
        return samples
    return MultimodalData.concat(list(samples.chunks()))
