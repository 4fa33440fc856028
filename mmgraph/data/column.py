"""Columns: one modality of all samples, where missing ones own no rows.

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
    """Hold one modality of N samples as the rows that were observed.

    Sample ``i`` owns the rows ``offsets[i]:offsets[i + 1]``; a sample with no rows
    has the modality missing. NaN cells inside a row are single unknown values.

    Attributes:
        values: ``[L, C]`` float32, or ``[L]`` strings (dtype object) for text.
        offsets: ``[N + 1]`` int64, ascending from 0 to L.
        time: ``[L]`` float64 in seconds, ascending within a sample, or None.
        names: the C names of the channels, or empty.
        ragged: whether a sample may own more than one row.
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
        """Whether the rows are strings."""
        return self.values.dtype == object

    @property
    def channels(self) -> int | None:
        """Width C of the rows; None for text."""
        return None if self.is_text else int(self.values.shape[1])

    @cached_property
    def lengths(self) -> IntArray:
        """``[N]`` rows of each sample, 0 where the modality is missing."""
        return np.diff(self.offsets)

    @property
    def present(self) -> BoolArray:
        """``[N]`` True where the modality was observed."""
        return self.lengths > 0

    @property
    def sample(self) -> IntArray:
        """``[L]`` the sample that each row belongs to, ascending."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def rows_of(self, indices: IntArray) -> tuple[IntArray, IntArray]:
        """Find the rows of some samples, in their order and with repeats.

        Args:
            indices: ``[n]`` samples, none negative.

        Returns:
            The rows ``[l]``, and how many each of the samples has, ``[n]``.
        """
        lengths, first = self.lengths[indices], self.offsets[indices]
        if lengths.max(initial=0) <= 1:
            return first[lengths > 0], lengths
        shift = first - lengths.cumsum() + lengths
        return np.repeat(shift, lengths) + np.arange(lengths.sum()), lengths

    def take(self, indices: IntArray) -> "Column":
        """Return the column of some samples, in their order and with repeats."""
        rows, lengths = self.rows_of(indices)
        return self._with_rows(rows, offsets_of(lengths))

    def mask(self, keep: BoolArray) -> "Column":
        """Return the column without the rows of samples where ``keep`` is False."""
        rows = np.repeat(keep, self.lengths)
        return self._with_rows(rows, offsets_of(np.where(keep, self.lengths, 0)))

    def equals(self, other: "Column") -> bool:
        """Tell whether two columns hold the same bits; NaN equals NaN."""
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
    """Return the ``[N + 1]`` offsets of N samples that own ``lengths`` rows each."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def empty_column(num_samples: int) -> Column:
    """Return a column that is missing in every sample: no rows, one channel."""
    return Column(
        np.empty((0, 1), dtype=np.float32), np.zeros(num_samples + 1, dtype=np.int64)
    )


def concat_columns(name: str, columns: Sequence[Column]) -> Column:
    """Join columns of one modality, sample after sample.

    A column without rows fits any other, as it says nothing about its kind.

    Raises:
        DataError: when widths, kinds, times or channel names differ.
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
                f"{left} and {right}. Build the parts the same way."
            )


def as_entries(content: Any) -> AnyArray:  # noqa: ANN401
    """View one entry per sample as an array; lists become 1-D object arrays."""
    if hasattr(content, "detach"):
        content = content.detach().cpu()
        return np.asarray(content.float() if content.is_floating_point() else content)
    if isinstance(content, Sequence) and not isinstance(content, str):
        return np.fromiter(content, dtype=object, count=len(content))
    if isinstance(content, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(content.astype(np.float64), np.nan))
    return np.asarray(content)
