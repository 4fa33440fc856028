"""Samples with missing modalities: columns with nulls, in and out of other forms."""

from mmgraph.data.column import Column
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream import MultimodalStream

__all__ = ["Column", "MultimodalData", "MultimodalStream"]
