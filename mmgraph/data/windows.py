"""Windows of long recordings, and their labels.

Labels over time are a column of one channel: each label holds from its time to that of
the next one, the last one to the end of the recording.

Letters: ``N`` recordings, ``W`` windows, ``L`` rows, ``K`` classes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import (
    AnyArray,
    BoolArray,
    Column,
    IntArray,
    lengths_to_offsets,
)
from mmgraph.data.validation import check_names
from mmgraph.errors import DataError

FloatArray = npt.NDArray[np.float64]
Rule = Literal["majority", "last", "center", "mean"]

NO_LABEL = ""  # category of times without a label
SLACK = 1e-6  # seconds by which a row may precede its window: rounded times
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


@dataclass(frozen=True)
class WindowGrid:
    """Windows of equal duration in recordings.

    Attributes:
        sample: ``[W]`` recording of each window, ascending.
        start: ``[W]`` time at which it starts.
        origin: ``[N]`` time of the first row of each recording.
        end: ``[N]`` end of each recording: its last row lasts one period.
        seconds: Duration of a window.
    """

    sample: IntArray
    start: FloatArray
    origin: FloatArray
    end: FloatArray
    seconds: float

    def take(self, keep: BoolArray) -> "WindowGrid":
        """Return a selection of the windows."""
        return replace(self, sample=self.sample[keep], start=self.start[keep])

    def of(self, sample: int) -> slice:
        """Return the windows of a recording."""
        first, last = np.searchsorted(self.sample, [sample, sample + 1])
        return slice(int(first), int(last))

    @property
    def offsets(self) -> FloatArray:
        """``[W]`` seconds from the start of the recording to that of the window."""
        return self.start - self.origin[self.sample]


def make_grid(
    columns: Mapping[str, Column], seconds: float, step: float | None
) -> WindowGrid:
    """Return all windows that fit into the recordings.

    Args:
        columns: Columns by modality; sequences need times.
        seconds: Duration of a window.
        step: Seconds from the start of a window to that of the next; None is the
            duration.

    Raises:
        DataError: If a number is not above 0, a sequence has no times, or no recording
            is long enough.
    """
    step = seconds if step is None else step
    for name, value in (("seconds", seconds), ("step", step)):
        is_number = isinstance(value, int | float | np.number)
        if not is_number or not 0 < float(value) < np.inf:
            raise DataError(f"{name} must be above 0, got {value!r}. Pass seconds.")
    timed = {name: c for name, c in columns.items() if c.time is not None}
    untimed = [n for n, c in columns.items() if c.ragged and c.time is None]
    if untimed or not timed:
        name = untimed[0] if untimed else next(iter(columns))
        raise DataError(
            f"Modality {name!r} must have times for windows, got none. Pass times to "
            "from_arrays, or read the recordings with from_recordings."
        )
    num_samples = len(next(iter(columns.values())))
    origin, end = np.full(num_samples, np.inf), np.full(num_samples, -np.inf)
    for column in timed.values():
        first, last, period = _extent(column)
        origin = np.fmin(origin, first)
        end = np.fmax(end, last + period)
    duration = np.where(np.isfinite(origin), end - origin, 0)
    counts = np.floor((duration - seconds + SLACK) / step).astype(np.int64) + 1
    counts = np.maximum(counts, 0)
    if not counts.any():
        raise DataError(
            f"Recordings must last at least {seconds:g} s, the longest lasts "
            f"{duration.max(initial=0):g} s. Choose shorter windows."
        )
    sample = np.repeat(np.arange(num_samples), counts)
    number = np.arange(len(sample)) - np.repeat(counts.cumsum() - counts, counts)
    return WindowGrid(sample, origin[sample] + number * step, origin, end, seconds)


def _extent(column: Column) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return first time, last time and median step of each sample, NaN where none."""
    assert column.time is not None
    first, last, period = np.full((3, len(column)), np.nan)
    for i in np.flatnonzero(column.present).tolist():
        time = column.time[column.offsets[i] : column.offsets[i + 1]]
        first[i], last[i] = time[0], time[-1]
        period[i] = median_period(time)
    return first, last, period


def median_period(time: FloatArray) -> float:
    """Return the median step of ascending times; 0 for a single one."""
    return float(np.median(np.diff(time))) if len(time) > 1 else 0.0


def cut_column(column: Column, grid: WindowGrid, coverage: float) -> Column:
    """Return the rows of a modality in each window, with times from its start.

    Args:
        column: Column of the recordings; without times, the windows of a recording
            repeat its row.
        grid: Windows.
        coverage: Share of the rows expected from the median step of the recording;
            where a window has fewer, the modality is missing.
    """
    if column.time is None:
        return column.take(grid.sample)
    first, lengths = np.zeros((2, len(grid.sample)), dtype=np.int64)
    _, _, period = _extent(column)
    for i in np.flatnonzero(column.present).tolist():
        own, begin = grid.of(i), column.offsets[i]
        time = column.time[begin : column.offsets[i + 1]]
        start = grid.start[own]
        low = np.searchsorted(time, start - SLACK)
        count = np.searchsorted(time, start + grid.seconds - SLACK) - low
        if coverage and period[i] > 0:
            count[count < coverage * np.floor(grid.seconds / period[i] + SLACK)] = 0
        first[own], lengths[own] = begin + low, count
    shift = first - lengths.cumsum() + lengths
    rows = np.repeat(shift, lengths) + np.arange(lengths.sum())
    time = np.maximum(column.time[rows] - np.repeat(grid.start, lengths), 0)
    offsets = lengths_to_offsets(lengths)
    return replace(column, values=column.values[rows], time=time, offsets=offsets)


# Labels


def label_column(
    name: str, times: Sequence[FloatArray], labels: Sequence[AnyArray]
) -> Column:
    """Return labels over time as a column of one channel.

    Strings and whole numbers become categories; fractional numbers stay numbers.

    Args:
        name: Name of the channel.
        times: Times of the labels of each recording.
        labels: Labels: numbers or strings; None and NaN where there is none.
    """
    order = [np.argsort(each, kind="stable") for each in times]
    cells = np.concatenate(
        [np.asarray(y, dtype=object)[o] for y, o in zip(labels, order, strict=True)]
    )
    time = np.concatenate([t[o] for t, o in zip(times, order, strict=True)])
    missing = np.array([c is None or c != c for c in cells], dtype=bool)
    known = cells[~missing]
    offsets = lengths_to_offsets(np.array([len(t) for t in times], dtype=np.int64))
    numeric = all(isinstance(c, int | float | np.number) for c in known)
    if numeric and any(c != np.round(c) for c in known):
        values = np.where(missing, np.nan, cells).astype(np.float32)[:, None]
        return Column(values, offsets, time, (name,), ragged=True)
    names = [str(int(c)) if numeric else str(c) for c in known]
    categories = (NO_LABEL, *sorted(set(names)))
    codes = np.zeros(len(cells), dtype=np.float32)
    places = {label: i for i, label in enumerate(categories)}
    codes[~missing] = [places[label] for label in names]
    return Column(codes[:, None], offsets, time, (name,), True, (categories,))


def check_rule(rule: str, share: float, column: Column) -> None:
    """Check a rule, and that a column holds labels over time.

    Raises:
        DataError: If the rule is unknown, the share is not between 0 and 1, or the
            column has several channels or no times.
    """
    if rule not in get_args(Rule):
        raise DataError(
            f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}."
        )
    if not 0 <= share <= 1:
        raise DataError(f"share must be from 0 to 1, got {share!r}. Pass a share.")
    if column.time is None or column.channels != 1:
        raise DataError(
            "label must be a modality with times and one channel, got "
            f"{column.channels or 'no'} channels"
            f"{'' if column.time is not None else ' without times'}. Name the labels."
        )


def label_windows(
    column: Column, grid: WindowGrid, rule: Rule, share: float
) -> tuple[AnyArray, BoolArray]:
    """Return the label of each window, and whether it has one.

    Args:
        column: Labels over time.
        grid: Windows.
        rule: "majority", the label that holds longest; "last" and "center", the label
            at that place; or "mean", of numbers.
        share: Share of the window that the label (with "mean", any label) must cover.

    Returns:
        Labels ``[W]``: strings or integers, floats for numbers; and ``[W]`` booleans.

    Raises:
        DataError: If a mean of strings is requested.
    """
    codes, names = _codes(column)
    if rule == "mean":
        return _mean_labels(codes, names, column, grid, share)
    label = np.full(len(grid.sample), -1, dtype=np.int64)
    for i in np.flatnonzero(column.present).tolist():
        own = grid.of(i)
        if own.start < own.stop:
            label[own] = _choose(
                _Track.of(column, codes, i, grid), grid, own, rule, share
            )
    keep = label >= 0
    classes = np.array(names) if names else np.empty(0, dtype=np.float64)
    if len(names) and all(_WHOLE.fullmatch(str(name)) for name in names):
        classes = classes.astype(np.int64)
    chosen = classes[np.maximum(label, 0)] if len(classes) else np.zeros(len(label))
    return chosen, keep


def _codes(column: Column) -> tuple[IntArray, list[str]]:
    """Return the class ``[L]`` of each row, -1 without label, and the classes."""
    cells = column.values[:, 0]
    if column.categories and column.categories[0] is not None:
        every = column.categories[0]
        names = [name for name in every if name != NO_LABEL]
        place = np.array([names.index(n) if n != NO_LABEL else -1 for n in every])
        known = ~np.isnan(cells)
        codes = np.full(len(cells), -1, dtype=np.int64)
        codes[known] = place[cells[known].astype(np.int64)]
        return codes, names
    known = ~np.isnan(cells)
    values, inverse = np.unique(cells[known], return_inverse=True)
    codes = np.full(len(cells), -1, dtype=np.int64)
    codes[known] = inverse
    return codes, [f"{value:.9g}" for value in values]


@dataclass(frozen=True)
class _Track:
    """Labels of one recording, one entry for each change.

    Attributes:
        time: Time of each change.
        code: Class from there on, -1 for none.
        end: End of the last label.
    """

    time: FloatArray
    code: IntArray
    end: float

    @classmethod
    def of(cls, column: Column, codes: IntArray, i: int, grid: WindowGrid) -> "_Track":
        assert column.time is not None
        rows = slice(column.offsets[i], column.offsets[i + 1])
        code, time = codes[rows], column.time[rows]
        change = np.append(True, code[1:] != code[:-1])
        return cls(time[change], code[change], float(max(grid.end[i], time[-1])))

    def at(self, time: FloatArray) -> IntArray:
        """Return the class at times, -1 without label."""
        row = np.searchsorted(self.time, time + SLACK, side="right") - 1
        inside = (row >= 0) & (time < self.end + SLACK)
        return np.where(inside, self.code[np.maximum(row, 0)], -1)

    def covered(self, start: FloatArray, stop: FloatArray) -> FloatArray:
        """Return the seconds of each class in windows, ``[W, K]``."""
        num_classes = int(self.code.max(initial=-1)) + 1
        bounds = np.append(self.time, self.end)
        durations = np.diff(bounds)[:, None] * (
            self.code[:, None] == np.arange(num_classes)
        )
        total = np.concatenate([np.zeros((1, num_classes)), durations.cumsum(axis=0)])
        return (
            np.stack(
                [
                    np.interp(stop, bounds, total[:, k])
                    - np.interp(start, bounds, total[:, k])
                    for k in range(num_classes)
                ],
                axis=1,
            )
            if num_classes
            else np.zeros((len(start), 0))
        )


def _choose(
    track: _Track, grid: WindowGrid, own: slice, rule: Rule, share: float
) -> IntArray:
    """Return the class of some windows of a recording, -1 without one."""
    start = grid.start[own]
    covered = track.covered(start, start + grid.seconds)
    if not covered.shape[1]:
        return np.full(len(start), -1, dtype=np.int64)
    if rule == "majority":
        label = covered.argmax(axis=1)
        label = np.where(covered.max(axis=1) > SLACK, label, -1)
    else:
        place = grid.seconds / 2 if rule == "center" else grid.seconds - 3 * SLACK
        label = track.at(start + place)
    held = np.take_along_axis(covered, np.maximum(label, 0)[:, None], axis=1)[:, 0]
    return np.where(held >= share * grid.seconds - SLACK, label, -1)


def _mean_labels(
    codes: IntArray, names: list[str], column: Column, grid: WindowGrid, share: float
) -> tuple[FloatArray, BoolArray]:
    """Return the mean of numeric labels by the time that they hold."""
    try:
        numbers = np.array([float(name) for name in names])
    except ValueError:
        raise DataError(
            f"rule 'mean' must have labels that are numbers, got {names[0]!r}. Use "
            "'majority'."
        ) from None
    mean, seconds = np.zeros((2, len(grid.sample)))
    for i in np.flatnonzero(column.present).tolist():
        own = grid.of(i)
        track = _Track.of(column, codes, i, grid)
        covered = track.covered(grid.start[own], grid.start[own] + grid.seconds)
        seconds[own] = covered.sum(axis=1)
        mean[own] = covered @ numbers[: covered.shape[1]]
    keep = (seconds > SLACK) & (seconds >= share * grid.seconds - SLACK)
    return np.where(keep, mean / np.where(keep, seconds, 1), np.nan), keep


def window_ids(ids: AnyArray, grid: WindowGrid) -> list[str]:
    """Return ids such as "p1@12.5": the recording, and seconds from its start."""
    return [
        f"{ids[i]}@{offset:.6f}".rstrip("0").rstrip(".")
        for i, offset in zip(grid.sample, grid.offsets, strict=True)
    ]


def cut_windows(
    columns: Mapping[str, Column],
    seconds: float,
    step: float | None,
    *,
    label: str | None,
    rule: Rule,
    share: float,
    coverage: float,
) -> tuple[dict[str, Column], WindowGrid, AnyArray | None]:
    """Return the columns of windows, the windows, and their labels.

    Windows without a row of any sensor are left out, as are those without a label if
    ``label`` names a column; see :meth:`mmgraph.MultimodalData.windows`.

    Raises:
        DataError: If the arguments do not fit the columns, or no window is left.
    """
    if not 0 <= coverage <= 1:
        raise DataError(f"coverage must be from 0 to 1, got {coverage!r}.")
    sensors = {name: c for name, c in columns.items() if name != label}
    if label is not None:
        check_names("label", [label], tuple(columns))
        check_rule(rule, share, columns[label])
    if not sensors:
        raise DataError("windows must have a modality other than the label, got none.")
    grid, y = make_grid(sensors, seconds, step), None
    cut = {name: cut_column(c, grid, coverage) for name, c in sensors.items()}
    keep = np.any([cut[n].present for n, c in sensors.items() if c.time is not None], 0)
    if label is not None:
        y, labeled = label_windows(columns[label], grid, rule, share)
        keep &= labeled
    if not keep.any():
        raise DataError(
            f"windows must have a labeled window with rows, got none of {len(keep)}. "
            "Check the times of the labels, or reduce share and coverage."
        )
    kept = np.flatnonzero(keep)
    return (
        {name: column.take(kept) for name, column in cut.items()},
        grid.take(keep),
        None if y is None else y[keep],
    )
