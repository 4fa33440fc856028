"""Recordings of two modalities on a regular grid, and what of them is compared.

Letters: ``N`` samples, ``P`` cells of a grid, ``C`` channels, ``F`` features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgraph.alignment.rows import BoolArray, FloatArray
from mmgraph.data import MultimodalData
from mmgraph.data.column import Column, IntArray
from mmgraph.data.retime import LONGEST_GAP, interpolate_rows
from mmgraph.data.validation import check_names
from mmgraph.errors import DataError

MOST_CELLS = 1 << 22  # of the grid of one recording
MOST_ROWS = 100_000  # from which means and directions are computed
NUM_COMPONENTS = 3
NUM_LAGS = 2  # before and behind a cell


@dataclass(frozen=True)
class Recording:
    """Rows of one modality of one sample, interpolated on a regular grid.

    Attributes:
        start: Time of the first cell, in seconds.
        values: ``[P, C]``, or features ``[P, F]``; rows of NaN where nothing was
            recorded.
    """

    start: float
    values: FloatArray


def sequence_column(data: MultimodalData, modality: str) -> Column:
    """Return the column of a modality with times, one channel per category.

    Raises:
        DataError: If the modality is unknown, or has no times or no numbers.
    """
    if not isinstance(data, MultimodalData):
        raise DataError(
            f"estimate_offset must get MultimodalData, got {type(data).__name__}. Build"
            " it with MultimodalData.from_arrays and times."
        )
    check_names("estimate_offset", [modality], data.modalities)
    column = data.columns[modality]
    if column.time is None or column.is_text:
        lacks = "text" if column.is_text else "no times"
        raise DataError(
            f"Modality {modality!r} must have numbers with times, got {lacks}. Pass"
            " times to MultimodalData.from_arrays."
        )
    return column.encode()


def period_of(column: Column, modality: str) -> float:
    """Return the median number of seconds between neighboring rows of a sample.

    Raises:
        DataError: If no sample has two rows at different times.
    """
    assert column.time is not None
    same = np.diff(column.sample) == 0
    steps = np.diff(column.time)[same]
    steps = steps[steps > 0]
    if not len(steps):
        raise DataError(
            f"Modality {modality!r} must have samples with rows at several times, got"
            " none. An offset needs sequences."
        )
    return float(np.median(steps))


def resample(
    column: Column,
    sample: int,
    step: float,
    period: float,
    *,
    rate: float = 1.0,
    phase: float | None = None,
) -> Recording:
    """Interpolate the rows of a sample linearly on a regular grid.

    Gaps of more than two periods stay empty, as do rows with a NaN cell.

    Args:
        column: Rows with times.
        sample: Number of the sample.
        step: Seconds between cells.
        period: Seconds between rows.
        rate: Factor of the times, around the first row of the sample.
        phase: A time of the grid. Default: the time of the first row.

    Raises:
        DataError: If the grid would have too many cells.
    """
    assert column.time is not None
    rows = slice(column.offsets[sample], column.offsets[sample + 1])
    values = column.values[rows].astype(np.float64)
    time = column.time[rows]
    first = float(time[0])
    known = ~np.isnan(values).any(axis=1)
    values, time = values[known], (time[known] - first) * rate
    if not len(time):
        return Recording(first, np.full((1, values.shape[1]), np.nan))
    ahead = 0.0 if phase is None else (phase - first) % step
    count = int(np.floor((time[-1] - ahead) / step + 1e-6)) + 1
    if count > MOST_CELLS:
        raise DataError(
            f"Sample {sample} must last at most {MOST_CELLS} cells of {step:g} s, got"
            f" {time[-1]:g} s. Cut the recording, or remove rows with odd times."
        )
    cells: FloatArray = ahead + step * np.arange(max(count, 1), dtype=np.float64)
    longest = LONGEST_GAP * period * rate
    found = interpolate_rows(time, values, cells, longest, step)
    return Recording(first + ahead, found)


@dataclass(frozen=True)
class FeatureMap:
    """Features of a modality that do not depend on the units of its channels.

    They are the square root of the speed, and the first three principal components of
    the channels. All have mean 0 in each sample, so that levels of samples, which fit
    any offset, have no effect.

    Attributes:
        scale: ``[C]`` standard deviations of the channels within samples.
        directions: ``[C, 3]`` at most.
    """

    scale: FloatArray
    directions: FloatArray

    @classmethod
    def fit(cls, recordings: Sequence[Recording]) -> "FeatureMap":
        """Learn scales and directions from recordings."""
        rows = np.concatenate([_centered(each.values) for each in recordings])
        rows = rows[~np.isnan(rows).any(axis=1)]
        rows = rows[:: len(rows) // MOST_ROWS + 1]
        scale = rows.std(axis=0) if len(rows) else np.ones(rows.shape[1])
        scale = np.where(scale > 0, scale, 1)
        covariance = (rows / scale).T @ (rows / scale)
        _, vectors = np.linalg.eigh(covariance)
        return cls(scale, vectors[:, ::-1][:, :NUM_COMPONENTS])

    def __call__(self, recording: Recording) -> Recording:
        """Return the features ``[P, F]`` of a recording."""
        x = _centered(recording.values) / self.scale
        change = np.full_like(x, np.nan)
        change[1:-1] = x[2:] - x[:-2]
        speed = np.sqrt(np.linalg.norm(change, axis=1, keepdims=True))
        features = np.concatenate([speed, x @ self.directions], axis=1)
        return Recording(recording.start, _centered(features))


def add_lags(x: FloatArray, spacing: int) -> FloatArray:
    """Return features ``[P, 5 F]`` with those of two cells before and two behind."""
    moved = [x]
    for lag in range(1, NUM_LAGS + 1):
        for cells in (lag * spacing, -lag * spacing):
            other = np.full_like(x, np.nan)
            if abs(cells) < len(x):
                inside = slice(max(-cells, 0), len(x) - max(cells, 0))
                source = slice(max(cells, 0), len(x) - max(-cells, 0))
                other[inside] = x[source]
            moved.append(other)
    return np.concatenate(moved, axis=1)


def complete(x: FloatArray) -> BoolArray:
    """Return whether a row has no NaN, ``[P]``."""
    return np.asarray(~np.isnan(x).any(axis=1))


def _centered(x: FloatArray) -> FloatArray:
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray(x - np.where(known, x, 0).sum(axis=0) / count)


def samples_with_both(a: Column, b: Column) -> IntArray:
    """Return the samples that have two modalities."""
    return np.flatnonzero(a.present & b.present)
