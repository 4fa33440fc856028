"""Optional C++ kernels for float32 on the CPU, compiled when the package is built.

Without them, every function that has a kernel runs on torch alone, with the same
results up to rounding but more slowly. Set ``MMGRAPH_NATIVE=0`` in the environment to
disable them. The folder depends on torch only; ``nn`` and ``graph`` use it.
"""

from mmgraph.native.attention_kernel import (
    HEAD_WIDTH_MULTIPLE,
    AttentionInputs,
    AttentionSegments,
    attention_backward,
    attention_forward,
    row_bounds,
)
from mmgraph.native.library import is_available, supports
from mmgraph.native.segment_linear_kernel import (
    SegmentLinearInputs,
    segment_linear_backward,
    segment_linear_forward,
)

__all__ = [
    "HEAD_WIDTH_MULTIPLE",
    "AttentionInputs",
    "AttentionSegments",
    "SegmentLinearInputs",
    "attention_backward",
    "attention_forward",
    "is_available",
    "row_bounds",
    "segment_linear_backward",
    "segment_linear_forward",
    "supports",
]
