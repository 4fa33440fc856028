"""Corrections of the times of modalities, and resampling.

Letters: N samples, L rows of a modality, n rows of a sample, P cells of a grid, C
channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph import limits
from mmgraph.data.column import Column, as_entries, lengths_to_offsets
from mmgraph.data.validation import check_mapping, check_names
from mmgraph.errors import DataError

LONGEST_GAP = 2.0  # periods between rows that are interpolated


def shift_columns(
    columns: Mapping[str, Column], seconds: Mapping[str, Any]
) -> dict[str, Column]:
    """Return the columns with seconds added to the times of some of them."""
    found = dict(columns)
    for name, column, time in _timed("shift_times", columns, seconds):
        subject = f"shift_times[{name!r}]"
        each = _per_sample(subject, seconds[name], len(column), "seconds")
        moved = time + np.where(np.isnan(each), 0, each)[column.sample]
        found[name] = replace(column, time=moved)
    return found


def stretch_columns(
    columns: Mapping[str, Column], factors: Mapping[str, Any]
) -> dict[str, Column]:
    """Return the columns with the times of some multiplied around first rows."""
    found = dict(columns)
    for name, column, time in _timed("stretch_times", columns, factors):
        subject = f"stretch_times[{name!r}]"
        each = _per_sample(subject, factors[name], len(column), "factors")
        if (each <= 0).any():
            raise DataError(
                f"{subject} must be above 0, got {each.min():g}. Times cannot run"
                " backwards."
            )
        sample = column.sample
        first = np.zeros(len(column))
        first[column.present] = time[column.offsets[:-1][column.present]]
        factor = np.where(np.isnan(each), 1, each)[sample]
        found[name] = replace(
            column, time=first[sample] + factor * (time - first[sample])
        )
    return found


def _timed(
    subject: str, columns: Mapping[str, Column], given: Mapping[str, Any]
) -> Sequence[tuple[str, Column, npt.NDArray[np.float64]]]:
    """Return names, columns and times of modalities that are given."""
    check_mapping(subject, given)
    check_names(subject, given, tuple(columns))
    found = []
    for name in given:
        column = columns[name]
        if column.time is None:
            raise DataError(
                f"Modality {name!r} must have times for {subject}, got none. Pass times"
                " to from_arrays."
            )
        found.append((name, column, column.time))
    return found


def _per_sample(
    subject: str,
    value: Any,  # noqa: ANN401
    num_samples: int,
    unit: str,
) -> npt.NDArray[np.float64]:
    """Return a number, or one per sample, as ``[N]``; NaN where unknown."""
    try:
        single = isinstance(value, (int, float))
        numbers = np.asarray(value if single else as_entries(value), dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.full(0, np.nan)
    if numbers.shape not in ((), (num_samples,)) or np.isinf(numbers).any():
        got = repr(value) if not numbers.shape else f"shape {list(numbers.shape)}"
        raise DataError(
            f"{subject} must be a finite number of {unit}, or one for each of the"
            f" {num_samples} samples, got {got}."
        )
    return np.broadcast_to(numbers, (num_samples,))


# Resampling


def interpolate_rows(
    time: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    cells: npt.NDArray[np.float64],
    longest: float,
    step: float,
) -> npt.NDArray[np.float64]:
    """Interpolate rows linearly; NaN outside of them and in long gaps.

    Args:
        time: ``[n]`` ascending times of the rows, at least one.
        values: ``[n, C]`` rows without NaN.
        cells: ``[P]`` times of the result.
        longest: Seconds between two rows that are interpolated.
        step: Seconds between cells, for the tolerance of comparisons.

    Returns:
        ``[P, C]``.
    """
    after = np.clip(np.searchsorted(time, cells, "left"), 0, len(time) - 1)
    before = np.clip(np.searchsorted(time, cells + 1e-6 * step, "right") - 1, 0, None)
    gap = time[after] - time[before]
    share = (cells - time[before]) / np.where(gap > 0, gap, np.inf)
    share = np.clip(share, 0, 1)[:, None]
    found: npt.NDArray[np.float64] = (1 - share) * values[before] + share * values[
        after
    ]
    outside = (cells < time[0] - 1e-6 * step) | (cells > time[-1] + 1e-6 * step)
    found[(gap > longest * (1 + 1e-6)) | outside] = np.nan
    return found


def resample_columns(columns: Mapping[str, Column], rates: Any) -> dict[str, Column]:  # noqa: ANN401
    """Return the columns with sequences on regular grids.

    Args:
        columns: Columns by modality.
        rates: Hz of all sequences of numbers with times, or by modality.

    Raises:
        DataError: If a rate is not above 0, a modality has no times or holds categories
            or text, or a grid would have too many rows.
    """
    if not isinstance(rates, Mapping):
        rates = {
            name: rates
            for name, c in columns.items()
            if c.time is not None and c.ragged and not c.is_text and not c.categories
        }
    found = dict(columns)
    for name, column, _ in _timed("resample", columns, rates):
        rate = rates[name]
        is_number = isinstance(rate, int | float | np.number)
        if not is_number or not 0 < float(rate) < np.inf:
            raise DataError(f"resample[{name!r}] must be above 0 Hz, got {rate!r}.")
        if column.is_text or column.categories:
            raise DataError(
                f"Modality {name!r} must hold numbers for resample, got "
                f"{'text' if column.is_text else 'categories'}. Leave it out."
            )
        parts = [
            _resample(column, i, 1 / float(rate), name) for i in range(len(column))
        ]
        found[name] = replace(
            column,
            values=np.concatenate([values for values, _ in parts]),
            time=np.concatenate([time for _, time in parts]),
            offsets=lengths_to_offsets(np.array([len(time) for _, time in parts])),
        )
    return found


def _resample(
    column: Column, sample: int, step: float, name: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return rows and times of one sample on a grid; without rows in gaps."""
    assert column.time is not None
    own = slice(column.offsets[sample], column.offsets[sample + 1])
    time, values = column.time[own], column.values[own].astype(np.float64)
    if len(time) < 2:
        return column.values[own], time
    period = float(np.median(np.diff(time)))
    count = int((time[-1] - time[0]) / step + 1e-6) + 1
    most = limits.current().table_bytes // (8 * values.shape[1])
    if count > most:
        raise DataError(
            f"Modality {name!r} must have at most {most} rows after resample, got "
            f"{count} in sample {sample}. Choose a lower rate, or remove odd times."
        )
    if step > period * (1 + 1e-6):
        return _bin_means(time, values, step, period, count)
    known = ~np.isnan(values).any(axis=1)
    if not known.any():
        return column.values[own][:0], time[:0]
    cells = time[0] + step * np.arange(count)
    longest = LONGEST_GAP * period
    rows = interpolate_rows(time[known], values[known], cells, longest, step)
    kept = ~np.isnan(rows).any(axis=1)
    return rows[kept].astype(np.float32), cells[kept]


def _bin_means(
    time: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    step: float,
    period: float,
    count: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return the means of rows in bins of ``step`` seconds, without empty bins."""
    number = np.minimum(((time - time[0]) / step + 1e-6).astype(np.int64), count - 1)
    filled, index = np.unique(number, return_inverse=True)
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, len(filled), values.shape[1]))
    np.add.at(sums, index, np.where(known, values, 0))
    np.add.at(counts, index, known)
    rows = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    center = (step - period) / 2  # of the rows of a full bin
    return rows.astype(np.float32), time[0] + step * filled + center
