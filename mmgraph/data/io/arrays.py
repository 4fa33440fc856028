"""Conversion of arrays, tensors and lists to columns.

Shapes: N samples, T steps, C channels, L rows of all samples together.
"""

from dataclasses import replace
from typing import Any

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
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike

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
        times: Seconds of each row in the layout of the content, or None.
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
        column, observed = _from_list(name, entries, keep, times is not None, tokens)
    elif entries.ndim in (1, 2, 3):
        column, observed = _from_array(name, entries, keep)
    else:
        raise DataError(
            f"Modality {name!r} must have shape [N], [N, C] or [N, T, C], got "
            f"{list(entries.shape)}. Flatten the inner dimensions."
        )
    _check_finite(name, column)
    if hasattr(content, "columns") and column.channels == len(content.columns):
        column = replace(column, names=tuple(map(str, content.columns)))
    if times is not None:
        column = _with_times(name, column, observed, times)
    return column


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


def _from_array(name: str, array: AnyArray, keep: BoolArray) -> tuple[Column, IntArray]:
    """Read ``[N]``, ``[N, C]`` or ``[N, T, C]`` numbers without a loop."""
    if array.ndim == 1:
        array = array[:, None]
    values = to_float32(name, array if keep.all() else array[keep])
    if array.shape[-1] == 0:
        raise DataError(
            f"Modality {name!r} must have at least one channel, got shape "
            f"{list(array.shape)}. Omit the modality."
        )
    inner = tuple(range(1, values.ndim))
    observed = ~np.isnan(values).all(axis=inner)
    samples = np.flatnonzero(keep)[observed]
    steps = array.shape[1] if array.ndim == 3 else 1
    lengths = np.zeros(len(array), dtype=np.int64)
    lengths[samples] = steps
    values = values if observed.all() else values[observed]
    values = values.reshape(-1, array.shape[-1])
    if np.may_share_memory(values, array):
        values = values.copy()
    return Column(values, lengths_to_offsets(lengths), ragged=array.ndim == 3), samples


def _from_list(
    name: str, entries: AnyArray, keep: BoolArray, timed: bool, tokens: str | None
) -> tuple[Column, IntArray]:
    """Read a list of strings, numbers, vectors or sequences; None is missing."""
    filled = np.array([not _is_missing(e) for e in entries[keep]], dtype=bool)
    samples = np.flatnonzero(keep)[filled]
    items = [entries[i] for i in samples]
    if not items:
        return empty_column(len(entries)), samples
    if isinstance(items[0], str):
        return _from_strings(name, items, samples, len(entries)), samples
    arrays = [to_float32(name, item) for item in items]
    shapes = {a.ndim for a in arrays}
    if len(shapes) > 1 or not shapes <= {0, 1, 2}:
        raise DataError(
            f"Modality {name!r} must have entries of one shape, [C] or [T, C], got "
            f"entries with {sorted(shapes)} dimensions. Use the same for each sample."
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
        raise DataError(
            f"Modality {name!r} must have one number of channels in all samples, got "
            f"{widths[:5]}. Check the entries, or omit the modality."
        )
    lengths = np.zeros(len(entries), dtype=np.int64)
    lengths[samples] = [len(a) for a in arrays]
    column = from_rows(name, np.concatenate(arrays), lengths, ragged=ragged)
    return column, np.flatnonzero(column.present)


def _is_missing(entry: object) -> bool:
    """Return True if an entry is None, a scalar NaN or NA, or an empty sequence."""
    if entry is None or isinstance(entry, str):
        return not entry
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
        if not isinstance(item, str):
            raise DataError(
                f"Modality {name!r} must hold only strings or only numbers, got "
                f"{type(item).__name__} in sample {sample}. Convert it to a string."
            )
    lengths = np.zeros(num_samples, dtype=np.int64)
    lengths[samples] = 1
    values = np.fromiter(map(str, items), dtype=object, count=len(items))
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
        values: ``[L, C]``; samples whose rows are all NaN become missing.
        lengths: ``[N]`` number of rows of each sample.
        ragged: True if a sample may have more than one row.
        time: ``[L]`` seconds, or None; rows are sorted by it.
        names: Names of the channels, or empty.
        categories: Categories of the channels, or empty, as in :class:`Column`.

    Raises:
        DataError: If a value or a time is infinite, or a time is NaN.
    """
    offsets = lengths_to_offsets(lengths)
    some = np.flatnonzero(lengths)
    observed = np.zeros(len(lengths), dtype=bool)
    known = ~np.isnan(values).all(axis=1)
    if len(some):
        observed[some] = np.logical_or.reduceat(known, offsets[some])
    rows = np.repeat(observed, lengths)
    kept = lengths_to_offsets(np.where(observed, lengths, 0))
    column = Column(values[rows], kept, None, names, ragged, categories)
    _check_finite(name, column)
    return column if time is None else sort_by_time(name, column, time[rows])


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


def _with_times(
    name: str,
    column: Column,
    observed: IntArray,
    times: Any,  # noqa: ANN401
) -> Column:
    """Attach times to a column and sort the rows of each sample by them."""
    entries = as_entries(times)
    num_entries = len(entries) if entries.ndim else 1
    if num_entries != len(column):
        raise DataError(
            f"Times of {name!r} must have one entry per sample: {len(column)} samples, "
            f"got {num_entries}. Check that they come from the same table."
        )
    if entries.dtype.kind not in _NUMERIC_KINDS + "O":
        raise _invalid_times(name, str(entries.dtype))
    if entries.dtype == object:
        parts = [_time_array(name, entries[i]) for i in observed]
    else:
        parts = [each.ravel() for each in entries[observed]]
    counts = np.array([len(p) for p in parts], dtype=np.int64)
    wrong = np.flatnonzero(counts != column.lengths[observed])
    if len(wrong):
        i = observed[wrong[0]]
        raise DataError(
            f"Times of {name!r} must have one entry per row: sample {i} has "
            f"{column.lengths[i]} rows, got {counts[wrong[0]]} times. Pass one time "
            "per row."
        )
    return sort_by_time(name, column, np.concatenate([np.empty(0), *parts]))


def _time_array(name: str, entry: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
    if entry is None:
        return np.empty(0)
    try:
        if np.asarray(entry).dtype.kind not in _NUMERIC_KINDS + "O":
            raise TypeError
        return np.asarray(entry, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise _invalid_times(name, f"{entry!r:.40}") from None


def _invalid_times(name: str, got: str) -> DataError:
    return DataError(
        f"Times of {name!r} must be finite seconds, got {got}. Drop the rows without a "
        "time and convert dates to seconds."
    )


def sort_by_time(name: str, column: Column, time: AnyArray) -> Column:
    """Return the column with times, the rows of each sample sorted by time.

    Args:
        name: Name of the modality, for error messages.
        column: Column without times.
        time: ``[L]`` seconds.

    Raises:
        DataError: If a time is NaN or infinite.
    """
    if not np.isfinite(time).all():
        raise _invalid_times(name, "NaN or infinity")
    time = time.astype(np.float64, copy=False)
    sample = column.sample
    values = column.values
    if np.any((np.diff(time) < 0) & (np.diff(sample) == 0)):
        order = np.lexsort((time, sample))
        values, time = values[order], time[order]
    return replace(column, values=values, time=time)
