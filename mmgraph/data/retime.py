"""Corrections of the times of modalities.

Letters: N samples, L rows of a modality.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import Column, as_entries
from mmgraph.data.validation import check_mapping, check_names
from mmgraph.errors import DataError


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
