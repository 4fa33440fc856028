"""Conversion of arrays, tensors and lists to columns.

Shapes: N samples, T steps, C channels, L rows of all samples together.
"""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import (
    AnyArray,
    BoolArray,
    Categories,
    Column,
    IntArray,
    as_entries,
    empty_column,
    lengths_to_offsets,
)
from mmgraph.data.io.times import (
    arrow_times,
    read_times,
    sort_rows,
)
from mmgraph.data.notices import warn
from mmgraph.data.precision import (
    as_float32,
    warn_lost_digits,
    warn_lost_digits_of_list,
)
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike

if TYPE_CHECKING:
    import pyarrow as pa

MANY_CHANNELS = 8  # times the number of rows: probably transposed
_NUMERIC_KINDS = "fiub"
# phrases of NumPy that are shortened in messages
_NOT_A_NUMBER = "could not convert string to float:"
_NOT_A_FLOAT = "float() argument must be a string or a real number, not "


def build_column(
    name: str,
    content: ArrayLike,
    *,
    present: BoolArray | None = None,
    times: ArrayLike | None = None,
    tokens: str | None = None,
) -> Column:
    """Convert the values of one modality to a column.

    Args:
        name: Name of the modality, for error messages.
        content: ``[N, C]``, ``[N]`` or ``[N, T, C]`` numbers, or a list of N entries
            (see :meth:`mmgraph.MultimodalData.from_arrays`).
        present: ``[N]``; entries where it is False are missing and never read.
        times: Times of each row in the layout of the content (see
            :func:`mmgraph.data.io.times.read_times`), or None.
        tokens: ``tokens`` of the modality in the schema; decides whether 1-D entries
            are vectors or sequences. None: decide by their lengths.

    Returns:
        Column. An entry that is None, empty or all NaN is missing.

    Raises:
        DataError: If the content is not numeric, infinite or of a wrong shape, or
            the times do not fit it.
    """
    entries = as_entries(content)
    keep = np.ones(len(entries), dtype=bool) if present is None else present
    if entries.ndim == 1 and entries.dtype.kind in "OUS":
        column = _from_list(name, entries, keep, times is not None, tokens)
    elif entries.ndim in (1, 2, 3):
        column = _from_array(name, entries, keep)
    else:
        raise DataError(
            f"Modality {name!r} must have shape [N], [N, C] or [N, T, C], got "
            f"{list(entries.shape)}. Flatten the inner dimensions; give images by the "
            "paths of their files."
        )
    if tokens is None and column.ragged:
        _warn_transposed(name, column)
    if hasattr(content, "columns") and column.channels == len(content.columns):
        column = replace(column, names=tuple(map(str, content.columns)))
    time = None if times is None else _times_of(name, column, times)
    return with_times(name, column, time)


def to_float32(name: str, values: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Convert numbers to float32; None and NA of pandas become NaN.

    Args:
        name: Name of the modality, for error messages.
        values: Array, tensor or nested lists.

    Raises:
        DataError: If the values are not numeric.
    """
    if hasattr(values, "detach"):
        values = as_entries(values)
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = _without_na(array).astype(np.float64)
        if array.dtype.kind not in _NUMERIC_KINDS:
            raise TypeError(f"dtype {array.dtype}")
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        got = str(error).removeprefix(_NOT_A_FLOAT)
        got = got.replace(_NOT_A_NUMBER, "the string")
        raise DataError(
            f"Modality {name!r} must hold numbers, got {got:.80}. Encode it as "
            "numbers, or pass a list of strings for text."
        ) from None


def _without_na(objects: AnyArray) -> AnyArray:
    missing = [type(entry).__name__ == "NAType" for entry in objects.flat]
    return np.where(np.reshape(missing, objects.shape), np.nan, objects)


def _from_array(name: str, array: AnyArray, keep: BoolArray) -> Column:
    """Read ``[N]``, ``[N, C]`` or ``[N, T, C]`` numbers without a loop."""
    if array.ndim == 1:
        array = array[:, None]
    kept = array if keep.all() else array[keep]
    values = to_float32(name, kept)
    warn_lost_digits(name, kept, values)
    if array.shape[-1] == 0:
        raise DataError(
            f"Modality {name!r} must have at least one channel, got shape "
            f"{list(array.shape)}. Omit the modality."
        )
    inner = tuple(range(1, values.ndim))
    observed = ~np.isnan(values).all(axis=inner)
    steps = array.shape[1] if array.ndim == 3 else 1
    lengths = np.zeros(len(array), dtype=np.int64)
    lengths[np.flatnonzero(keep)[observed]] = steps
    values = values if observed.all() else values[observed]
    values = values.reshape(-1, array.shape[-1])
    if np.may_share_memory(values, array):
        values = values.copy()
    return Column(values, lengths_to_offsets(lengths), ragged=array.ndim == 3)


def _from_list(
    name: str, entries: AnyArray, keep: BoolArray, timed: bool, tokens: str | None
) -> Column:
    """Read a list of strings, numbers, vectors or sequences; None is missing."""
    filled = np.array([not _is_missing(e) for e in entries[keep]], dtype=bool)
    samples = np.flatnonzero(keep)[filled]
    items = [entries[i] for i in samples]
    if not items:
        return empty_column(len(entries))
    if isinstance(items[0], str | os.PathLike):
        return _from_strings(name, items, samples, len(entries))
    if any(hasattr(item, "getbands") for item in items):
        raise DataError(
            f"Modality {name!r} must hold paths of image files, got images of Pillow. "
            "Save them as files, or pass vectors of a pretrained encoder."
        )
    arrays = [to_float32(name, item) for item in items]
    shapes = {a.ndim for a in arrays}
    if len(shapes) > 1 or not shapes <= {0, 1, 2}:
        raise DataError(
            f"Modality {name!r} must have entries of one shape, [C] or [T, C], got "
            f"entries with {sorted(shapes)} dimensions. Use the same for each sample; "
            "give images by the paths of their files."
        )
    ndim = shapes.pop()
    one_length = len({len(a) for a in arrays if a.ndim}) == 1
    as_vectors = tokens == "single" or (tokens is None and not timed and one_length)
    if ndim == 0 or (ndim == 1 and as_vectors):
        arrays, ragged = [a.reshape(1, -1) for a in arrays], False
    else:
        arrays = [a[:, None] if ndim == 1 else a for a in arrays]
        ragged = tokens != "single" or max(map(len, arrays)) > 1
    widths = sorted({a.shape[1] for a in arrays})
    if len(widths) > 1 or widths[0] == 0:
        hint = "Check the entries, or omit the modality."
        if widths[0] and one_length:
            hint = f"If these are time steps of {len(arrays[0])} channels, transpose."
        raise DataError(
            f"Modality {name!r} must have one number of channels in all samples, got "
            f"{widths[:5]}. {hint}"
        )
    warn_lost_digits_of_list(name, items, arrays)
    lengths = np.zeros(len(entries), dtype=np.int64)
    lengths[samples] = [len(a) for a in arrays]
    offsets = lengths_to_offsets(lengths)
    return Column(np.concatenate(arrays), offsets, ragged=ragged)


def _is_missing(entry: object) -> bool:
    """Return True if an entry is None, blank, a scalar NaN or NA, or empty."""
    if entry is None or isinstance(entry, str):
        return not (entry and entry.strip())
    if isinstance(entry, float | np.floating):
        return bool(np.isnan(entry))
    if type(entry).__name__ in ("NAType", "NaTType"):
        return True
    shape = getattr(entry, "shape", None)
    if shape is not None:
        return len(shape) > 0 and shape[0] == 0
    return hasattr(entry, "__len__") and len(entry) == 0


def _from_strings(
    name: str, items: list[Any], samples: IntArray, num_samples: int
) -> Column:
    for item, sample in zip(items, samples, strict=True):
        if not isinstance(item, str | os.PathLike):
            raise DataError(
                f"Modality {name!r} must hold only strings or only numbers, got "
                f"{type(item).__name__} in sample {sample}. Convert it to a string."
            )
    lengths = np.zeros(num_samples, dtype=np.int64)
    lengths[samples] = 1
    values = np.fromiter(
        (str(os.fspath(item)) for item in items), dtype=object, count=len(items)
    )
    return Column(values, lengths_to_offsets(lengths))


def from_rows(
    name: str,
    values: npt.NDArray[np.float32],
    lengths: IntArray,
    *,
    ragged: bool,
    time: AnyArray | None = None,
    names: tuple[str, ...] = (),
    categories: tuple[Categories | None, ...] = (),
) -> Column:
    """Build a column from the packed rows of all samples.

    Args:
        name: Name of the modality, for error messages.
        values: ``[L, C]``; samples whose rows are all NaN become missing, and rows
            that are all NaN at the end of a sequence are padding, which is removed.
        lengths: ``[N]`` number of rows of each sample.
        ragged: True if a sample may have more than one row.
        time: ``[L]`` seconds, or None; rows are sorted by it.
        names: Names of the channels, or empty.
        categories: Categories of the channels, or empty, as in :class:`Column`.

    Raises:
        DataError: If a value or a time is infinite, or a time is NaN.
    """
    offsets = lengths_to_offsets(lengths)
    column = Column(values, offsets, None, names, ragged, categories)
    return with_times(name, column, time)


def single_rows(
    name: str,
    values: AnyArray,
    time: "pa.Array | None",
    names: tuple[str, ...],
    categories: tuple[Categories | None, ...],
) -> Column:
    """Build a column of one row per sample from the channels of a table.

    Args:
        name: Name of the modality, for error messages.
        values: ``[N, C]`` numbers or codes; samples whose row is all NaN become
            missing.
        time: ``[N]`` times, or None; a row without a time is missing.
        names: Names of the channels, or empty.
        categories: Categories of the channels, or empty, as in :class:`Column`.

    Raises:
        DataError: If a value or a time is infinite, or the times cannot be read.
    """
    rows = as_float32(name, values, names)
    seconds = None if time is None else arrow_times(name, time)
    if seconds is not None:
        unknown = np.isnan(seconds)
        lost = np.flatnonzero(unknown & ~np.isnan(rows).all(axis=1))
        if len(lost):
            warn(
                f"Modality {name!r} is missing in {len(lost)} rows that have no time, "
                f"such as row {lost[0]}. Add the times, or drop their column."
            )
        rows[unknown] = np.nan
        seconds = np.where(unknown, 0, seconds)
    return from_rows(
        name,
        rows,
        np.ones(len(rows), dtype=np.int64),
        ragged=False,
        time=seconds,
        names=names,
        categories=categories,
    )


def with_times(name: str, column: Column, time: AnyArray | None) -> Column:
    """Return the column without padding, with times, its rows sorted by them.

    Args:
        name: Name of the modality, for error messages.
        column: Column without times.
        time: ``[L]`` seconds; NaN is allowed for padding. None for a column without
            times.

    Raises:
        DataError: If a value or a time is infinite, or a time is NaN.
    """
    column, time = _remove_padding(column, time)
    _check_finite(name, column)
    if time is None:
        return column
    order = sort_rows(name, time, column.sample)
    if order is not None:
        column, time = replace(column, values=column.values[order]), time[order]
        column, time = _remove_padding(column, time)
    return replace(column, time=time)


def _remove_padding(
    column: Column, time: AnyArray | None
) -> tuple[Column, AnyArray | None]:
    """Remove the rows that are all NaN at the end of samples, and their times."""
    if column.is_text:
        return column, time
    kept, lengths = _without_padding(column)
    if kept.all():
        return column, time
    offsets = lengths_to_offsets(lengths)
    column = replace(column, values=column.values[kept], offsets=offsets)
    return column, None if time is None else time[kept]


def _without_padding(column: Column) -> tuple[BoolArray, IntArray]:
    """Return which rows are kept ``[L]``, and their number in each sample ``[N]``.

    Rows that are all NaN are removed at the end of a sample; all rows of a sample that
    are all NaN make the modality missing.
    """
    known: BoolArray = np.logical_not(np.isnan(column.values).all(axis=1))
    if known.all():
        return known, column.lengths
    position = np.arange(len(known))
    last = np.maximum.accumulate(np.where(known, position, -1))  # row before or at
    lengths = column.lengths.copy()
    some = np.flatnonzero(lengths)
    first, end = column.offsets[:-1][some], column.offsets[1:][some]
    lengths[some] = np.maximum(last[end - 1] + 1 - first, 0)
    kept = position < np.repeat(first + lengths[some], end - first)
    return kept, lengths


def _warn_transposed(name: str, column: Column) -> None:
    """Warn about sequences that probably have channels as rows."""
    rows, channels = column.lengths[column.present], column.values.shape[1]
    equal = len(rows) and (rows == rows[0]).all()
    if equal and channels >= MANY_CHANNELS and channels >= MANY_CHANNELS * rows[0]:
        warn(
            f"Modality {name!r} has {rows[0]} rows of {channels} channels in each "
            "sample. Sequences are [T, C], time steps first: transpose them if these "
            "are channels by time steps. If not, give a schema with this number of "
            "channels."
        )


def _check_finite(name: str, column: Column) -> None:
    if column.is_text:
        return
    infinite = np.isinf(column.values)
    if infinite.any():
        row = int(np.flatnonzero(infinite.any(axis=1))[0])
        raise DataError(
            f"Modality {name!r} must be finite or NaN in float32, got an infinite or "
            f"too large value in sample {column.sample[row]}. Replace it, or mark the "
            "sample's modality as missing."
        )


def _times_of(name: str, column: Column, times: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
    """Return the times of all rows of a column, NaN where they are missing."""
    entries = as_entries(times)
    num_entries = len(entries) if entries.ndim else 1
    if num_entries != len(column):
        raise DataError(
            f"Times of {name!r} must have one entry per sample: {len(column)} samples, "
            f"got {num_entries}. Check that they come from the same table."
        )
    observed = np.flatnonzero(column.present)
    parts = [_time_entries(entries[i]) for i in observed]
    counts = np.array([len(p) for p in parts], dtype=np.int64)
    lengths = column.lengths[observed]
    if not column.is_text and not np.array_equal(counts, lengths):
        parts, counts = _pad_times(column, observed, parts)
    wrong = np.flatnonzero(counts != lengths)
    if len(wrong):
        i = observed[wrong[0]]
        hint = (
            "Transpose the rows to [T, C]."
            if counts[wrong[0]] == column.channels
            else "Pass one time per row."
        )
        raise DataError(
            f"Times of {name!r} must have one entry per row: sample {i} has "
            f"{column.lengths[i]} rows, got {counts[wrong[0]]} times. {hint}"
        )
    kinds = {part.dtype.kind for part in parts}
    if len(kinds) > 1 and not kinds <= set("fiu"):
        parts = [part.astype(object) for part in parts]
    joined = np.concatenate(parts) if parts else np.empty(0)
    return read_times(name, joined, column.sample)


def _time_entries(entry: Any) -> AnyArray:  # noqa: ANN401
    """Return the times of one sample ``[T]``."""
    return np.empty(0) if entry is None else np.atleast_1d(as_entries(entry)).ravel()


def _pad_times(
    column: Column, observed: IntArray, parts: list[AnyArray]
) -> tuple[list[AnyArray], IntArray]:
    """Return times, with the last one repeated where the rows are padded."""
    _, unpadded = _without_padding(column)
    result = []
    for i, part in zip(observed, parts, strict=True):
        gap = column.lengths[i] - len(part)
        if gap > 0 and len(part) == unpadded[i] > 0:
            part = np.concatenate([part, np.repeat(part[-1:], gap)])
        result.append(part)
    return result, np.array([len(part) for part in result], dtype=np.int64)
