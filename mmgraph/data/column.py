"""Columns: the rows of one modality for all samples, packed without padding.

Shapes: N samples, L rows of all samples together, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.categories import AnyArray as AnyArray
from mmgraph.data.categories import Categories as Categories
from mmgraph.data.categories import IntArray as IntArray
from mmgraph.data.categories import codes_as_strings, encode_rows, encoded_width

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Column:
    """Observed rows of one modality of N samples.

    Sample ``i`` has the rows ``offsets[i]:offsets[i + 1]``; a sample without rows lacks
    the modality. NaN cells inside a row are single missing values.

    Attributes:
        values: ``[L, C]`` float32, or ``[L]`` strings (dtype object) for text. A cell
            of a categorical channel is the index of its category.
        offsets: ``[N + 1]`` int64, ascending from 0 to L.
        time: ``[L]`` float64 in seconds, ascending within a sample, or None.
        names: Names of the C channels, or empty.
        ragged: True if a sample may have more than one row.
        categories: Categories of each of the C channels, None for a channel of numbers;
            empty if all are numbers.
    """

    values: AnyArray
    offsets: IntArray
    time: npt.NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()
    ragged: bool = False
    categories: tuple[Categories | None, ...] = ()

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

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the C channels; their numbers if they have no names."""
        return self.names or tuple(map(str, range(self.channels or 0)))

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each channel, by its name in :attr:`fields`."""
        return {field: i for i, field in enumerate(self.fields)}

    @property
    def is_categorical(self) -> bool:
        """True if a channel holds codes of categories."""
        return bool(self.categories)

    @property
    def width(self) -> int | None:
        """Number of channels with one per category; None for text."""
        return (
            None
            if self.is_text
            else encoded_width(int(self.values.shape[1]), self.categories)
        )

    def cells(self, field: str) -> tuple[AnyArray, Categories | None]:
        """Return the cells ``[L]`` of a channel, and its categories.

        Args:
            field: Name or number of the channel, as in :attr:`fields`.
        """
        i = self.positions[field]
        return self.values[:, i], self.categories[i] if self.categories else None

    def encode(self) -> "Column":
        """Return the column with one channel of 0 and 1 per category.

        The names of these channels are ``field=category``. The categories are those of
        the column, whether they occur or not.
        """
        if not self.categories:
            return self
        names: list[str] = []
        for field, each in zip(self.fields, self.categories, strict=True):
            names += [field] if each is None else [f"{field}={c}" for c in each]
        values = encode_rows(self.values, self.categories)
        return replace(self, values=values, names=tuple(names), categories=())

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
        return self._with_rows(rows, lengths_to_offsets(lengths))

    def mask(self, keep: BoolArray) -> "Column":
        """Return the column without the samples for which ``keep [N]`` is False."""
        rows = np.repeat(keep, self.lengths)
        return self._with_rows(
            rows, lengths_to_offsets(np.where(keep, self.lengths, 0))
        )

    def equals(self, other: "Column") -> bool:
        """Return True if two columns hold the same values; NaN equals NaN."""
        same_time = (self.time is None) == (other.time is None)
        return (
            self.names == other.names
            and self.ragged == other.ragged
            and self.is_text == other.is_text
            and np.array_equal(self.offsets, other.offsets)
            and self._equal_values(other)
            and same_time
            and (
                self.time is None
                or other.time is None
                or np.array_equal(self.time, other.time)
            )
        )

    def _equal_values(self, other: "Column") -> bool:
        if self.is_text or not (self.categories or other.categories):
            values = self.values, other.values
            return np.array_equal(*values, equal_nan=not self.is_text)
        return self.channels == other.channels and all(
            _equal_cells(self.cells(a), other.cells(b))
            for a, b in zip(self.fields, other.fields, strict=True)
        )

    def _with_rows(self, rows: AnyArray, offsets: IntArray) -> "Column":
        time = None if self.time is None else self.time[rows]
        return replace(self, values=self.values[rows], offsets=offsets, time=time)


def lengths_to_offsets(lengths: npt.NDArray[Any]) -> IntArray:
    """Return offsets ``[N + 1]`` of samples with ``lengths [N]`` rows."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def empty_column(num_samples: int) -> Column:
    """Return a column of one channel that is missing in every sample."""
    return Column(
        np.empty((0, 1), dtype=np.float32), np.zeros(num_samples + 1, dtype=np.int64)
    )


def _equal_cells(
    a: tuple[AnyArray, Categories | None], b: tuple[AnyArray, Categories | None]
) -> bool:
    """Return True if two channels hold the same numbers, or the same categories."""
    if a[1] is None or b[1] is None:
        return a[1] is b[1] and np.array_equal(a[0], b[0], equal_nan=True)
    return np.array_equal(codes_as_strings(*a), codes_as_strings(*b))  # type: ignore[arg-type]


def as_entries(content: Any) -> AnyArray:  # noqa: ANN401
    """Return the content as an array; a list becomes a 1-D array of objects."""
    if hasattr(content, "detach"):
        content = content.detach().cpu()
        unknown = "bfloat16" in str(content.dtype)  # to NumPy
        return np.asarray(content.float() if unknown else content)
    if isinstance(content, Sequence) and not isinstance(content, str):
        return np.fromiter(content, dtype=object, count=len(content))
    if isinstance(content, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(content.astype(np.float64), np.nan))
    return np.asarray(content)
