r"""Offset and rate of the clocks of two modalities, from their content.

Both modalities are interpolated on a grid. A model of how they vary together gives each
sample a curve: the log-likelihood ratio of dependence, by the seconds by which the
clock of the first modality is ahead. Curves of samples add up; their peak is the
offset.

Letters: ``N`` samples, ``P`` cells of a grid, ``F`` features, ``R`` components, ``K``
lags on each side, ``U`` units of a bootstrap.
"""

from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student

from mmgraph.alignment.lags import (
    TAILS,
    TemperedIntervals,
    draw_weights,
    peak_score,
    refined_peak,
)
from mmgraph.alignment.rows import FloatArray
from mmgraph.alignment.signals import (
    Recording,
    period_of,
    resample,
    samples_with_both,
    sequence_column,
)
from mmgraph.alignment.synchrony import (
    FEW,
    Arrays,
    Dependence,
    Lags,
    Pair,
    VariateModel,
    peak_seconds,
)
from mmgraph.data import MultimodalData
from mmgraph.data.column import Column, IntArray
from mmgraph.errors import ConfigError, DataError

MOST_SAMPLES = 200  # without reference: of a search for a rate, units of a bootstrap
FOLDS, HALVES = 5, 2
WARMER, HOTTEST = 1.15, 1e6  # temperatures that are tried
COARSE, FINE = 0.04, 0.01  # steps of the search for a rate
FASTEST = 2.0  # ratio of clocks, and its inverse
ROUNDING = 1e-9
POOLS = 200  # draws of recordings in step
ONE = np.ones((1, 1))


@dataclass(frozen=True, eq=False)
class Offset:
    """Offset of two clocks with a 90% interval; see :func:`estimate_offset`.

    Attributes:
        seconds: Seconds to subtract from the times of ``a``: a number, or ``[N]`` with
            ``per="sample"``, NaN for samples without both modalities, or whose
            recordings are farther apart than the search.
        low: Lower end of the interval.
        high: Upper end of the interval.
        rate: Factor for the times of ``a``, applied before the offset; 1 if it was not
            estimated.
        score: Height of the peak above the highest value at other lags, in standard
            deviations of the values there. Near 0 for unrelated signals.
    """

    seconds: float | FloatArray
    low: float | FloatArray
    high: float | FloatArray
    rate: float
    score: float | FloatArray


def estimate_offset(
    data: MultimodalData,
    a: str,
    b: str,
    *,
    reference: MultimodalData | None = None,
    max_seconds: float | int = 2.0,
    rate: bool = False,
    per: Literal["all", "sample"] = "all",
    seed: int = 0,
) -> Offset:
    """Estimate by how much the clock of one modality is ahead of that of another.

    ``seconds`` is what has to be subtracted from the times of ``a``: 0.3 for a clock
    that is 0.3 s ahead. Two modalities seldom peak together; what "in step" means is
    learned from ``reference``, whose shifted copies have exactly their shift as the
    offset. Without reference, the offset is the lag of the strongest linear dependence.

    Both modalities are interpolated on a grid of half the shorter period; gaps of more
    than two periods stay empty. Features are speed and three principal components, with
    two lags before and behind. Their canonical variates on the reference are compared
    at each lag by the log-likelihood ratio of their joint Gaussian distribution against
    independence; the ratios of samples add up, and their peak is the offset.

    The 90% interval of one offset of at least 5 samples is from 200 bootstraps of them,
    or of blocks of one second if there are fewer samples and no reference; it is
    widened until it fits 90% of equal numbers of recordings of the reference. That of a
    sample contains 90% of the likelihood, at a temperature at which the intervals of
    90% of the recordings in step, by models of other recordings, contain 0.

    Args:
        data: Samples of which some have both modalities, with times.
        a: Modality whose times are corrected.
        b: Modality whose times are right.
        reference: Samples whose clocks are in step, such as training data.
        max_seconds: Largest offset that is searched for.
        rate: Also estimate the ratio of the clocks, between 0.5 and 2, in steps of 1%;
            it is applied to ``a`` before the offset.
        per: "all" for one offset of all samples, or "sample". Offsets of samples
            without reference are relative to the data: models are fitted to the other
            samples, at the offset of all.
        seed: Seed of bootstraps and of the choice of rows.

    Returns:
        The offset, its interval, the rate and a score.

    Raises:
        ConfigError: If ``max_seconds`` or ``per`` is invalid, or ``a`` equals ``b``.
        DataError: If a modality is unknown, has no times or no sequence, no sample has
            both, or the search exceeds all recordings.

    Example:
        >>> import numpy as np
        >>> from mmgraph.alignment import estimate_offset
        >>> rng = np.random.default_rng(0)
        >>> x = np.cumsum(rng.normal(size=(4, 400, 1)), axis=1)
        >>> seconds = [np.arange(400) / 50] * 4
        >>> times = {"watch": [t + 0.3 for t in seconds], "camera": seconds}
        >>> data = MultimodalData.from_arrays({"watch": x, "camera": x}, times=times)
        >>> offset = estimate_offset(data, "watch", "camera")
        >>> round(offset.seconds, 3)
        0.3
        >>> right = data.shift_times({"watch": -offset.seconds})
        >>> abs(estimate_offset(right, "watch", "camera").seconds) < 0.001
        True
    """
    _check_options(a, b, max_seconds, per)
    task = _Task.build(data, (a, b), float(max_seconds))
    known = None
    if reference is not None:
        _check_channels(data, reference, (a, b))
        template = _Task.build(reference, (a, b), float(max_seconds))
        known = replace(template, periods=task.periods, lags=task.lags).pairs_in_step()
    rng = np.random.default_rng(seed)
    ratio = _find_rate(task, rng) if rate else 1.0
    estimate = _per_sample if per == "sample" else _pooled
    return estimate(task, known, ratio, rng)


@dataclass(frozen=True)
class _Task:
    """Columns, grid and search range of an estimate.

    Attributes:
        a: Rows of the first modality.
        b: Rows of the second modality.
        both: ``[n]`` samples with both.
        periods: Seconds between rows of both.
        lags: Lags of the search.
    """

    a: Column
    b: Column
    both: IntArray
    periods: tuple[float, float]
    lags: Lags

    @classmethod
    def build(
        cls, data: MultimodalData, names: tuple[str, str], max_seconds: float
    ) -> "_Task":
        """Read and check the columns."""
        a, b = (sequence_column(data, name) for name in names)
        periods = period_of(a, names[0]), period_of(b, names[1])
        both = samples_with_both(a, b)
        if not len(both):
            raise DataError(
                f"estimate_offset needs samples with {names[0]!r} and {names[1]!r}, got"
                " none. Add samples with both."
            )
        least, most = max(periods), min(_duration(a), _duration(b))
        if not least <= max_seconds < most:
            raise DataError(
                f"max_seconds must be at least the {least:g} s between rows, and less"
                f" than the {most:g} s of the longest recordings, got {max_seconds:g}.",
                parameter="max_seconds",
            )
        both = both[_apart(a, b, both) <= max_seconds]
        if not len(both):
            raise DataError(
                f"Recordings of {names[0]!r} and {names[1]!r} must overlap after a"
                f" shift of at most max_seconds={max_seconds:g}, got none. Compare the"
                " origins of both clocks."
            )
        step = min(periods) / 2
        count = int(np.ceil(max_seconds / step - ROUNDING))
        spacing = max(round(least / step), 1)
        task = cls(a, b, both, periods, Lags(step, count, spacing))
        ahead = task.pairs(both[:1])[0]
        shift = ahead[0].start - ahead[1].start
        phase = shift - step * round(shift / step)
        return replace(task, lags=replace(task.lags, phase=phase))

    def pairs(self, samples: IntArray, rate: float = 1.0) -> list[Pair]:
        """Return both recordings of samples."""
        step, (p, q) = self.lags.step, self.periods
        return [
            (
                resample(self.a, i, step, p, rate=rate),
                resample(self.b, i, step, q),
            )
            for i in samples
        ]

    def pairs_in_step(self, rate: float = 1.0, seconds: float = 0.0) -> list[Pair]:
        """Return recordings with common cells.

        Args:
            rate: Factor of the times of the first modality.
            seconds: Seconds that are subtracted from them.
        """
        step, (p, q), pairs = self.lags.step, self.periods, []
        for i in self.both:
            b = resample(self.b, i, step, q)
            a = resample(self.a, i, step, p, rate=rate, phase=b.start + seconds)
            pairs.append((Recording(a.start - seconds, a.values), b))
        return pairs


def _find_rate(task: _Task, rng: np.random.Generator) -> float:
    """Return the ratio of the clocks with the strongest dependence."""
    samples = task.both
    if len(samples) > MOST_SAMPLES:
        samples = np.sort(rng.choice(samples, MOST_SAMPLES, replace=False))

    def strength(log_rate: float) -> float:
        pairs = task.pairs(samples, float(np.exp(log_rate)))
        return float(Dependence.fit(pairs, task.lags, 1).curves(ONE).max())

    count = int(np.log(FASTEST) / COARSE)
    coarse = COARSE * np.arange(-count, count + 1)
    best = coarse[np.argmax([strength(x) for x in coarse])]
    fine = best + FINE * np.arange(-4, 5)
    place = refined_peak(np.array([[strength(x) for x in fine]]))[0]
    return float(np.exp(fine[0] + FINE * place[0]))


def _pooled(
    task: _Task, known: list[Pair] | None, rate: float, rng: np.random.Generator
) -> Offset:
    """Return one offset of all samples."""
    pairs, origin = task.pairs(task.both, rate), 0.0
    if known is None:
        evidence = Dependence.fit(pairs, task.lags, MOST_SAMPLES)
        units = len(evidence.count)
        curve = evidence.curves(np.ones((1, units)))
        drawn = evidence.curves(draw_weights(units, rng))
    else:
        model = VariateModel.fit(known, task.lags)
        curves, origin = model.curves(pairs, task.lags), model.origin
        units = len(curves)
        curve = curves.sum(axis=0, keepdims=True)
        drawn = draw_weights(units, rng) @ curves
    seconds = float(peak_seconds(curve, task.lags)[0])
    if known is not None and units < FEW:
        temperature = _temperature(known, task.lags, rng)
        intervals = TemperedIntervals(curve, task.lags.seconds)
        low, high = intervals.at(temperature)[:, 0]
    elif units < 2:
        low, high = task.lags.seconds[[0, -1]]
    else:
        tails = np.quantile(peak_seconds(drawn, task.lags), TAILS)
        wider = student(units - 1).ppf(TAILS[1]) / normal.ppf(TAILS[1])
        wider *= np.sqrt(units / (units - 1))
        if known is not None and len(known) >= units:
            wider = max(wider, _widening(known, task.lags, units, rng))
        low, high = seconds + wider * (tails - seconds)
    low, high = min(low, seconds), max(high, seconds)
    score = float(peak_score(curve)[0])
    return Offset(
        seconds - origin, float(low) - origin, float(high) - origin, rate, score
    )


def _per_sample(
    task: _Task, known: list[Pair] | None, rate: float, rng: np.random.Generator
) -> Offset:
    """Return the offset of each sample."""
    lags, middle = task.lags, 0.0
    if known is not None:
        model = VariateModel.fit(known, lags)
        curves = model.curves(task.pairs(task.both, rate), lags)
        origin = np.full(len(curves), model.origin)
        temperature = _temperature(known, lags, rng)
    else:
        if len(task.both) < 2:
            raise DataError(
                "Offsets of samples must have a reference or at least two samples with"
                " both modalities, got one. Pass reference."
            )
        middle = float(_pooled(task, None, rate, rng).seconds)
        lags = replace(lags, phase=0.0)
        curves, origin = _cross_fit(task.pairs_in_step(rate, middle), lags, FOLDS, rng)
        temperature = _calibrate(curves, origin, lags)
    seconds = peak_seconds(curves, lags)
    low, high = TemperedIntervals(curves, lags.seconds).at(temperature)
    ends = np.minimum(low, seconds), np.maximum(high, seconds)
    found = np.full((4, len(task.a)), np.nan)
    found[:3, task.both] = np.stack([seconds, *ends]) - origin + middle
    found[3, task.both] = peak_score(curves)
    return Offset(found[0], found[1], found[2], rate, found[3])


def _widening(
    pairs: list[Pair], lags: Lags, units: int, rng: np.random.Generator
) -> float:
    """Return the factor by which 90% of the bootstrap intervals contain the origin.

    Intervals are those of draws of ``units`` recordings in step.
    """
    lags = replace(lags, phase=0.0)
    curves, origin = _cross_fit(pairs, lags, HALVES, rng)
    needed = np.empty(POOLS)
    for i in range(POOLS):
        rows = rng.choice(len(curves), units, replace=False)
        drawn = peak_seconds(draw_weights(units, rng) @ curves[rows], lags)
        seconds = peak_seconds(curves[rows].sum(axis=0, keepdims=True), lags)[0]
        below, above = np.abs(np.quantile(drawn, TAILS) - seconds)
        error = origin[rows].mean() - seconds
        needed[i] = abs(error) / max(above if error > 0 else below, ROUNDING)
    return float(np.quantile(needed, TAILS[1] - TAILS[0]))


def _temperature(pairs: list[Pair], lags: Lags, rng: np.random.Generator) -> float:
    """Return the temperature of intervals, from recordings in step."""
    lags = replace(lags, phase=0.0)
    return _calibrate(*_cross_fit(pairs, lags, HALVES, rng), lags)


def _cross_fit(
    pairs: list[Pair], lags: Lags, folds: int, rng: np.random.Generator
) -> Arrays:
    """Return the curves of recordings in step by models of others, and the origins.

    A single recording is compared by its model.
    """
    fold = rng.permutation(len(pairs)) % folds
    curves, origin = np.empty((len(pairs), 2 * lags.count + 1)), np.empty(len(pairs))
    for each in np.unique(fold):
        rows = np.flatnonzero(fold == each)
        others = [pairs[i] for i in np.flatnonzero(fold != each)]
        model = VariateModel.fit(others or pairs, lags)
        curves[rows] = model.curves([pairs[i] for i in rows], lags)
        origin[rows] = model.origin
    return curves, origin


def _calibrate(curves: FloatArray, origin: FloatArray, lags: Lags) -> float:
    """Return the least temperature at which 90% of the intervals contain the origin.

    Curves overstate their evidence, as neighboring cells depend on each other.
    """
    least = min(np.ceil((TAILS[1] - TAILS[0]) * (len(curves) + 1)), len(curves))
    intervals, temperature = TemperedIntervals(curves, lags.seconds), 1.0
    while temperature < HOTTEST:
        low, high = intervals.at(temperature)
        if ((low <= origin) & (origin <= high)).sum() >= least:
            break
        temperature *= WARMER
    return temperature


def _check_options(a: str, b: str, max_seconds: object, per: object) -> None:
    if a == b:
        raise ConfigError(f"a and b must be two modalities, got {a!r} twice.")
    if (
        not isinstance(max_seconds, Real)
        or isinstance(max_seconds, bool)
        or not 0 < float(max_seconds) < np.inf
    ):
        raise ConfigError(
            f"max_seconds must be a number above 0, got {max_seconds!r}.",
            parameter="max_seconds",
        )
    if per not in ("all", "sample"):
        raise ConfigError(
            f"per must be 'all' or 'sample', got {per!r}.", parameter="per"
        )


def _check_channels(
    data: MultimodalData, reference: MultimodalData, names: tuple[str, str]
) -> None:
    for name in names:
        new, old = (sequence_column(each, name).fields for each in (data, reference))
        if new != old:
            raise DataError(
                f"Modality {name!r} must have the channels of the reference"
                f" {list(old)}, got {list(new)}. Use the same columns in both."
            )


def _apart(a: Column, b: Column, samples: IntArray) -> FloatArray:
    """Return the seconds between the recordings of samples; below 0 if they overlap."""
    (first_a, last_a), (first_b, last_b) = (
        (
            column.time[column.offsets[samples]],
            column.time[column.offsets[samples + 1] - 1],
        )
        for column in (a, b)
        if column.time is not None
    )
    return np.asarray(np.maximum(first_a - last_b, first_b - last_a))


def _duration(column: Column) -> float:
    """Return the seconds of the longest recording."""
    assert column.time is not None
    first, last = column.offsets[:-1], column.offsets[1:] - 1
    present = column.present
    return float((column.time[last[present]] - column.time[first[present]]).max())
