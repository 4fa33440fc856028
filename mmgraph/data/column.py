"""Columns: the rows of one modality for all samples, packed without padding.

Shapes: N samples, L rows of all samples together, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.errors import DataError

AnyArray = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Column:
    """Observed rows of one modality of N samples.

    Sample ``i`` has the rows ``offsets[i]:offsets[i + 1]``; a sample without rows lacks
    the modality. NaN cells inside a row are single missing values.

    Attributes:
        values: ``[L, C]`` float32, or ``[L]`` strings (dtype object) for text.
        offsets: ``[N + 1]`` int64, ascending from 0 to L.
        time: ``[L]`` float64 in seconds, ascending within a sample, or None.
        names: Names of the C channels, or empty.
        ragged: True if a sample may have more than one row.
    """

    values: AnyArray
    offsets: IntArray
    time: npt.NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()
    ragged: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def is_text(self) -> bool:
        """True if the rows are strings."""
        return self.values.dtype == object

    @property
    def channels(self) -> int | None:
        """Width C of the rows; None for text."""
        return None if self.is_text else int(self.values.shape[1])

    @cached_property
    def lengths(self) -> IntArray:
        """``[N]`` number of rows of each sample, 0 where the modality is missing."""
        return np.diff(self.offsets)

    @property
    def present(self) -> BoolArray:
        """``[N]`` True where the modality was observed."""
        return self.lengths > 0

    @property
    def sample(self) -> IntArray:
        """``[L]`` sample of each row, ascending."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def rows_of(self, indices: IntArray) -> tuple[IntArray, IntArray]:
        """Return the row numbers of samples, in their order and with repeats.

        Args:
            indices: ``[n]`` samples, none negative.

        Returns:
            Row numbers ``[l]``, and the number of rows of each sample ``[n]``.
        """
        lengths, first = self.lengths[indices], self.offsets[indices]
        if lengths.max(initial=0) <= 1:
            return first[lengths > 0], lengths
        shift = first - lengths.cumsum() + lengths
        return np.repeat(shift, lengths) + np.arange(lengths.sum()), lengths

    def take(self, indices: IntArray) -> "Column":
        """Return the column of samples ``[n]``, in their order and with repeats."""
        rows, lengths = self.rows_of(indices)
        return self._with_rows(rows, offsets_of(lengths))

    def mask(self, keep: BoolArray) -> "Column":
        """Return the column without the samples for which ``keep [N]`` is False."""
        rows = np.repeat(keep, self.lengths)
        return self._with_rows(rows, offsets_of(np.where(keep, self.lengths, 0)))

    def equals(self, other: "Column") -> bool:
        """Return True if two columns hold the same values; NaN equals NaN."""
        same_time = (self.time is None) == (other.time is None)
        return (
            self.names == other.names
            and self.ragged == other.ragged
            and self.is_text == other.is_text
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.values, other.values, equal_nan=not self.is_text)
            and same_time
            and (
                self.time is None
                or other.time is None
                or np.array_equal(self.time, other.time)
            )
        )

    def _with_rows(self, rows: AnyArray, offsets: IntArray) -> "Column":
        time = None if self.time is None else self.time[rows]
        return replace(self, values=self.values[rows], offsets=offsets, time=time)


def offsets_of(lengths: npt.NDArray[Any]) -> IntArray:
    """Return offsets ``[N + 1]`` of samples with ``lengths [N]`` rows."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def empty_column(num_samples: int) -> Column:
    """Return a column of one channel that is missing in every sample."""
    return Column(
        np.empty((0, 1), dtype=np.float32), np.zeros(num_samples + 1, dtype=np.int64)
    )


def concat_columns(name: str, columns: Sequence[Column]) -> Column:
    """Concatenate columns of one modality along the samples.

    A column without rows is compatible with any other.

    Args:
        name: Name of the modality, for error messages.
        columns: Columns to concatenate, at least one.

    Raises:
        DataError: If widths, kinds, times or channel names differ.
    """
    filled = [c for c in columns if len(c.values)] or list(columns[:1])
    first = filled[0]
    for other in filled[1:]:
        _check_same_kind(name, first, other)
    lengths = np.concatenate([c.lengths for c in columns])
    time = None
    if first.time is not None:
        time = np.concatenate([c.time for c in filled if c.time is not None])
    return Column(
        values=np.concatenate([c.values for c in filled]),
        offsets=offsets_of(lengths),
        time=time,
        names=next((c.names for c in filled if c.names), ()),
        ragged=any(c.ragged for c in filled),
    )


def _check_same_kind(name: str, a: Column, b: Column) -> None:
    rules = (
        ("channels", a.channels, b.channels),
        ("times", a.time is not None, b.time is not None),
        ("channel names", a.names or b.names, b.names or a.names),
    )
    for what, left, right in rules:
        if left != right:
            raise DataError(
                f"Modality {name!r} must have the same {what} in all parts, got "
                f"{left} and {right}. Build all parts with the same columns and times."
            )


def as_entries(content: Any) -> AnyArray:  # noqa: ANN401
    """Return the content as an array; a list becomes a 1-D array of objects."""
    if hasattr(content, "detach"):
        content = content.detach().cpu()
        return np.asarray(content.float() if content.is_floating_point() else content)
    if isinstance(content, Sequence) and not isinstance(content, str):
        return np.fromiter(content, dtype=object, count=len(content))
    if isinstance(content, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(content.astype(np.float64), np.nan))
    return np.asarray(content)
