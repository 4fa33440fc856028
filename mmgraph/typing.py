"""Type aliases of public signatures.

They name the kinds of input that several functions accept, so that a signature reads
``y: LabelLike`` instead of a union of types. Shapes, units and defaults stand in the
docstring of each parameter: an alias does not fix them. The module imports neither
NumPy nor PyTorch, so that every other module can use it at no cost.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from os import PathLike as _OSPathLike
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "ArrayLike",
    "ColumnLabel",
    "EdgeFunction",
    "FrameMapping",
    "IndexLike",
    "LabelLike",
    "MaskLike",
    "ModalityArrays",
    "ModalityMapping",
    "PathLike",
    "SupportsArray",
]


@runtime_checkable
class SupportsArray(Protocol):
    """Array, tensor, pandas object: whatever NumPy can convert to an array."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the content as a NumPy array."""


ArrayLike: TypeAlias = SupportsArray | Sequence[Any]
"""Values of one modality or column, one entry per sample, as a NumPy array, a tensor, a
pandas object, or a sequence whose entries are None where a value is missing."""

LabelLike: TypeAlias = ArrayLike
"""Labels, one number or string per sample, or ``[N, K]`` numbers for several targets.
NaN and None are missing labels."""

MaskLike: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
"""Availability as ``[N, M]`` booleans, or ``[N]`` booleans by name of modality. True is
observed."""

IndexLike: TypeAlias = int | slice | tuple[Any, ...] | ArrayLike
"""Selection of samples by an integer, a slice, integers, or one boolean per sample."""

ModalityArrays: TypeAlias = Mapping[str, ArrayLike]
"""Values by name of modality, all with the same number of samples."""

ModalityMapping: TypeAlias = Mapping[str, str | Sequence[str]]
"""Name of modality to its column, or to the list of its columns."""

ColumnLabel: TypeAlias = Hashable
"""Label of a column of a data frame: a string, a number or a tuple of levels."""

FrameMapping: TypeAlias = Mapping[str, ColumnLabel | Iterable[ColumnLabel]]
"""Name of modality to its column in a data frame, or to the list of its columns."""

PathLike: TypeAlias = str | _OSPathLike[str]
"""Path of a file or folder."""

EdgeFunction: TypeAlias = Callable[..., Any]
"""Topology as a function of the source and the target nodes; it returns ``edge_index
[2, E]``. See :class:`mmgraph.Custom`."""
