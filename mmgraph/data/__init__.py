"""Multimodal data with missing modalities: containers, batches, readers and writers.

The folder depends on :mod:`mmgraph.schema` and on nothing above it; models, estimators
and the benchmark import it.
"""

from mmgraph.data.column import Column
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream import MultimodalStream

__all__ = ["Column", "MultimodalData", "MultimodalStream"]
