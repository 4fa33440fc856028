"""Times of rows as seconds.

Numbers are seconds from any origin that the modalities of a sample share. Dates become
seconds since 1970-01-01 00:00 UTC, those without a zone as if they were UTC; durations
become seconds. Shapes: L rows of all samples together.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmgraph.data.arrow_types import (
    is_number,
    is_string,
    is_temporal,
    plain_array,
    to_numbers,
    to_seconds,
)
from mmgraph.data.column import AnyArray, Column, IntArray
from mmgraph.data.notices import warn
from mmgraph.data.number_strings import PLAIN
from mmgraph.data.string_cells import parse_dates
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NANOSECONDS = 1e17  # seconds that are 3 billion years, nanoseconds that are 3 years
TOO_LATE = 1e11  # seconds that are 3000 years
SEPARATE_ORIGINS = 1e9  # seconds between modalities of a sample, 30 years
COARSE = 0.01  # seconds between float32 numbers that can make times equal

Seconds = npt.NDArray[np.float64]


def read_times(name: str, values: AnyArray, sample: IntArray | None = None) -> Seconds:
    """Return times as seconds.

    Args:
        name: Name of the modality, for messages.
        values: ``[L]`` numbers, datetime64 or timedelta64; or objects: dates of Python
            or pandas, durations, strings in the form of ISO 8601, None where missing.
        sample: ``[L]`` sample of each row, ascending; None for one row per sample.

    Returns:
        ``[L]``, NaN where missing.

    Raises:
        DataError: If the values are none of these, only some of the dates have a zone,
            or numbers cannot be seconds or are too large for float32.
    """
    import pyarrow as pa

    if values.dtype.kind in "fiu":
        return _from_numbers(name, values, sample)
    if values.dtype.kind == "O":
        _check_zones(name, values)
        if any(isinstance(value, np.datetime64) for value in values):
            values = values.astype("datetime64[us]")
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        strings = (value for value in values if isinstance(value, str))
        raise _invalid(name, f"{next(strings, values[0])!r:.40}") from None
    return arrow_times(name, array, sample)


def arrow_times(
    name: str, array: "pa.Array", sample: IntArray | None = None
) -> Seconds:
    """Return an Arrow array of times as seconds; see :func:`read_times`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells, _ = plain_array(array)
    kind = cells.type
    if is_number(kind) and not pa.types.is_boolean(kind):
        return _from_numbers(name, to_numbers(cells), sample)
    if is_temporal(kind) and not pa.types.is_time(kind):
        return np.asarray(to_seconds(cells), dtype=np.float64)
    if not is_string(kind):
        raise _invalid(name, str(kind))
    if pc.all(pc.match_substring_regex(cells, PLAIN)).as_py():  # of a CSV file
        return _from_numbers(name, to_numbers(cells.cast(pa.float64())), sample)
    known = cells.is_valid().to_numpy(zero_copy_only=False)
    seconds = parse_dates(cells, known)
    if seconds is None:
        raise _mixed_zones(name)
    wrong = np.flatnonzero(known & np.isnan(seconds))
    if len(wrong):
        raise _invalid(name, repr(pc.take(cells, pa.array(wrong[:1]))[0].as_py())[:40])
    return np.asarray(seconds, dtype=np.float64)


def sort_rows(name: str, time: Seconds, sample: IntArray) -> IntArray | None:
    """Return the order of rows by sample and time; None if they are sorted.

    Rows of equal time keep their order.

    Args:
        name: Name of the modality, for messages.
        time: ``[L]`` seconds.
        sample: ``[L]`` sample of each row, ascending.

    Raises:
        DataError: If a time is NaN or infinite.
    """
    if not np.isfinite(time).all():
        raise _invalid(name, "NaN or infinity")
    if not np.any((np.diff(time) < 0) & (np.diff(sample) == 0)):
        return None
    return np.lexsort((time, sample))


def warn_origins(columns: Mapping[str, Column]) -> None:
    """Warn if modalities of a sample have times that no common origin explains.

    Args:
        columns: Columns by modality.
    """
    first: tuple[str, Seconds] | None = None
    for name, column in columns.items():
        if column.time is None or not len(column.time):
            continue
        start = np.full(len(column), np.nan)
        start[column.present] = column.time[column.offsets[:-1][column.present]]
        if first is None:
            first = name, start
            continue
        gap = np.abs(start - first[1])
        largest = gap.max(initial=0, where=~np.isnan(gap))
        if largest > SEPARATE_ORIGINS:
            warn(
                f"Times of {first[0]!r} and {name!r} are up to {largest:.3g} s apart "
                "in one sample. Count the times of all modalities of a sample from "
                "the same origin."
            )


def _check_resolution(name: str, time: AnyArray, sample: IntArray) -> None:
    """Check that times stored as float32 have steps larger than its resolution."""
    if time.dtype not in (np.float32, np.float16) or len(time) < 2:
        return
    largest = np.abs(time).max(initial=0, where=np.isfinite(time))
    resolution = float(np.spacing(largest.astype(np.float32)))
    steps = np.abs(np.diff(time.astype(np.float64)))[np.diff(sample) == 0]
    steps = steps[np.isfinite(steps)]
    moved = steps[steps > 0]
    smallest = moved.min() if len(moved) else np.inf
    equal = len(moved) < len(steps) and resolution > COARSE
    if equal or smallest < 2 * resolution:
        raise DataError(
            f"Times of {name!r} must be float64 if they are large, got {time.dtype} up "
            f"to {largest:.10g}, where its resolution is {resolution:.2g} s. Pass "
            "float64, or subtract the first time."
        )


def _from_numbers(name: str, values: AnyArray, sample: IntArray | None) -> Seconds:
    """Return numbers as float64; nanoseconds since 1970 become seconds."""
    if sample is not None:
        _check_resolution(name, values, sample)
    numbers = values.astype(np.float64)
    largest = np.abs(numbers).max(initial=0, where=np.isfinite(numbers))
    if largest < TOO_LATE:
        return numbers
    if largest < NANOSECONDS:
        raise DataError(
            f"Times of {name!r} must be seconds, got {largest:.10g}, which are more "
            "than 3000 years. Divide milliseconds by 1e3 and microseconds by 1e6."
        )
    warn(
        f"Times of {name!r} up to {largest:.10g} are read as nanoseconds and converted "
        "to seconds. Pass seconds or dates."
    )
    if values.dtype.kind in "iu":  # without rounding nanoseconds to float64 first
        return values // 10**9 + (values % 10**9) / 1e9
    return numbers / 1e9


def _check_zones(name: str, values: AnyArray) -> None:
    dates = [value for value in values if hasattr(value, "tzinfo")]
    if len({date.tzinfo is None for date in dates if date == date}) > 1:
        raise _mixed_zones(name)


def _mixed_zones(name: str) -> DataError:
    return DataError(
        f"Times of {name!r} must all have a zone or none, got both. Localize them."
    )


def _invalid(name: str, got: str) -> DataError:
    return DataError(
        f"Times of {name!r} must be finite seconds, dates in the form of ISO 8601 or "
        f"durations, got {got}. Drop the rows without a time and convert the others."
    )
