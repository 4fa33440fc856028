"""Bootstrap intervals of means and scores over samples or groups of samples.

Letters: ``N`` samples, ``Q`` quantities, ``G`` groups, ``B`` resamples.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

CELLS = 1 << 24  # weights of groups that are drawn at once
LEVEL = 0.95
MIN_GROUPS = 10


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval.

    Attributes:
        mean: Mean over the samples.
        low: Lower bound; NaN for a single sample.
        high: Upper bound; NaN for a single sample.
    """

    mean: float
    low: float
    high: float


def bootstrap_means(
    values: FloatArray,
    groups: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """Return means over samples with 95% percentile bootstrap intervals.

    Groups are resampled as a whole, so that samples of one group do not count as
    independent evidence. Fewer than 10 groups do not determine an interval; samples are
    resampled then.

    Args:
        values: ``[N, Q]`` quantities of each sample.
        groups: ``[N]`` groups; None: every sample is a group.
        resamples: Number of resamples ``B``.
        seed: Seed of the resamples, which are the same for all quantities.

    References:
        Bootstrap Methods: Another Look at the Jackknife, Efron, 1979. Bootstrap Methods
        and Their Application, Davison, Hinkley, 1997 (resampling of clusters).

    Example:
        >>> import numpy as np
        >>> from mmgraph.metrics.bootstrap import bootstrap_means
        >>> [(mean, low, high)] = bootstrap_means(np.repeat([[0.0], [1.0]], 50, axis=0))
        >>> mean, bool(0.3 < low < 0.5 < high < 0.7)
        (0.5, True)
    """
    sums, counts = _by_group(values, groups)
    means = sums.sum(0) / max(counts.sum(), 1)
    if len(counts) < 2:
        return [Interval(float(mean), np.nan, np.nan) for mean in means]
    drawn = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    rows = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*row) for row in rows]


def resampled_means(
    values: FloatArray,
    groups: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> FloatArray:
    """Return the means ``[B, Q]`` of resamples of the samples, or of their groups.

    Args:
        values: ``[N, Q]`` quantities of each sample.
        groups: ``[N]`` groups, see :func:`bootstrap_means`.
        resamples: Number of resamples ``B``.
        seed: Seed of the resamples.
    """
    generator = np.random.default_rng(seed)
    return _resampled_means(*_by_group(values, groups), resamples, generator)


def bootstrap_scores(
    score: Callable[[npt.NDArray[np.int64]], Mapping[str, float]],
    num_samples: int,
    groups: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return scores of all samples with 95% percentile bootstrap intervals.

    Scores are functions of the whole set, such as the area under the ROC curve. Groups
    are resampled as by :func:`bootstrap_means`. Resamples in which a score is undefined
    are left out of its interval.

    Args:
        score: Returns scores by name from the row numbers ``[n]`` of a resample.
        num_samples: Number of samples ``N``.
        groups: ``[N]`` groups; None: every sample is a group.
        resamples: Number of resamples ``B``.
        seed: Seed of the resamples.

    Example:
        >>> import numpy as np
        >>> from mmgraph.metrics.bootstrap import bootstrap_scores
        >>> x = np.arange(101.0)
        >>> median = lambda rows: {"median": float(np.median(x[rows]))}
        >>> center, low, high = bootstrap_scores(median, 101, resamples=200)["median"]
        >>> center, bool(25 < low < 50 < high < 75)
        (50.0, True)
    """
    every = np.arange(num_samples)
    codes = _codes_of(groups)
    units = [every[i : i + 1] for i in every]
    if codes is not None:
        order = np.argsort(codes, kind="stable")
        units = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    whole = score(every)
    if len(units) < 2:
        return {name: Interval(x, np.nan, np.nan) for name, x in whole.items()}
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(len(units), size=len(units))
        rows = chosen if codes is None else np.concatenate([units[i] for i in chosen])
        drawn.append(score(rows))
    tail = 100 * (1 - LEVEL) / 2
    intervals = {}
    for name, value in whole.items():
        values = np.array([each[name] for each in drawn])
        known = values[~np.isnan(values)]
        low, high = np.nan, np.nan
        if len(known):
            low, high = np.percentile(known, [tail, 100 - tail]).tolist()
        intervals[name] = Interval(value, low, high)
    return intervals


def _by_group(
    values: FloatArray, groups: npt.NDArray[Any] | None
) -> tuple[FloatArray, FloatArray]:
    """Return sums ``[G, Q]`` and numbers of samples ``[G]`` of what is resampled."""
    codes = _codes_of(groups)
    if codes is None:
        return values.astype(np.float64), np.ones(len(values))
    counts = np.bincount(codes).astype(np.float64)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums, counts


def _codes_of(groups: npt.NDArray[Any] | None) -> npt.NDArray[np.int64] | None:
    """Return the codes ``[N]`` of groups to resample; None to resample samples."""
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    if codes is None or codes.max(initial=0) + 1 < MIN_GROUPS:
        return None
    return codes


def _resampled_means(
    sums: FloatArray, counts: FloatArray, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Return the means ``[B, Q]`` of resampled groups."""
    size, parts = len(counts), []
    step = max(1, CELLS // size)
    for start in range(0, resamples, step):
        number = min(step, resamples - start)
        weights = rng.multinomial(size, np.full(size, 1 / size), size=number)
        total = weights @ counts
        parts.append((weights @ sums) / total[:, None])
    return np.concatenate(parts)
