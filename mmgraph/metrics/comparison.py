"""Summaries over missing rates and modalities, and differences between methods.

Letters: `S` splits, `R` missing rates, `M` modalities.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.validation import Array


def aurc(rates: Array, values: Array) -> float:
    """Return the area under a score over the missing rate, divided by the range.

    Args:
        rates: Missing rates, [R], rising.
        values: The score at each rate, [R].

    Returns:
        The mean height of the curve (trapezoid); the value itself for a single rate;
        nan if a value is nan.

    Raises:
        DataError: If the shapes differ, nothing is given or the rates do not rise.

    Example:
        >>> import numpy as np
        >>> metrics.aurc(np.array([0.0, 0.5]), np.array([1.0, 0.5]))
        0.75
    """
    if rates.ndim != 1 or rates.shape != values.shape or len(rates) == 0:
        raise DataError(
            f"aurc must get one value per rate, got {list(values.shape)} values for "
            f"{list(rates.shape)} rates. Average over splits first."
        )
    if (np.diff(rates) <= 0).any():
        raise DataError(
            f"aurc rates must rise, got {rates.tolist()}. Sort rates and values."
        )
    if len(rates) == 1:
        return float(values[0])
    area = (np.diff(rates) * (values[1:] + values[:-1]) / 2).sum()
    return float(area / (rates[-1] - rates[0]))


def equity(drops: Array) -> float:
    """Return how evenly a model uses its modalities: smallest over mean drop.

    Args:
        drops: What the score loses without each modality in turn, [M].

    Returns:
        1 where every modality counts the same, near 0 (or below) where one is not
        used; nan where the mean drop is not positive or nothing is given.
    """
    if len(drops) == 0 or not drops.mean() > 0:
        return float("nan")
    return float(drops.min() / drops.mean())


def monotonicity_violations(scores: Mapping[frozenset[str], float]) -> float:
    """Return the share of modality subsets that one more modality makes worse.

    A subset is a violation when adding some single modality lowers its score (higher
    is better, so give the mean over splits); only subsets for which at least one
    such larger subset was scored count.

    Args:
        scores: Mean score of each subset of modalities.

    Returns:
        A share in [0, 1]; nan where no two subsets can be compared.

    Example:
        >>> a, ab = frozenset("a"), frozenset("ab")
        >>> metrics.monotonicity_violations({a: 0.7, ab: 0.8})
        0.0
    """
    larger = {
        small: [big for big in scores if small < big and len(big) == len(small) + 1]
        for small in scores
    }
    worse = [
        min(scores[big] for big in found) < scores[small]
        for small, found in larger.items()
        if found
    ]
    return float(np.mean(worse)) if worse else float("nan")


class PairedDifference(NamedTuple):
    """The mean of paired differences with its 95 % interval.

    Attributes:
        mean: Mean difference a - b.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: Two-sided p-value of no difference.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_difference(
    a: Array, b: Array, test_over_train: float | int
) -> PairedDifference:
    """Compare two methods over the same splits by the corrected resampled t-test.

    t = mean / sqrt((1 / S + test / train) * variance) with S - 1 degrees of freedom:
    the second term corrects for training sets that overlap.

    References:
        Inference for the generalization error. Nadeau and Bengio, 2003.

    Args:
        a: Scores of one method, [S].
        b: Scores of the other on the same splits, [S].
        test_over_train: Test samples divided by training samples of a split, such as
            1 / 4 in 5-fold cross-validation; 0 for independent training sets.

    Returns:
        Mean, interval and p-value. One split has no spread: nan for all but the mean.
        A nan score makes everything nan. Differences that are all equal give an
        interval of no width and p 0, or p 1 if they are all zero.

    Raises:
        ConfigError: If test_over_train is negative.
        DataError: If the shapes differ or there are no splits.
    """
    from scipy.stats import t

    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(
            f"paired_difference must get two scores per split, got {list(a.shape)} "
            f"and {list(b.shape)}. Score both methods on the same splits."
        )
    if test_over_train < 0:
        raise ConfigError(
            f"test_over_train must be at least 0, got {test_over_train}. "
            "Divide the sizes of the test and training sets."
        )
    difference = a - b
    mean, num_splits = float(difference.mean()), len(a)
    if num_splits == 1 or np.isnan(mean):
        return PairedDifference(mean, float("nan"), float("nan"), float("nan"))
    variance = (1 / num_splits + test_over_train) * difference.var(ddof=1)
    error = float(np.sqrt(variance))
    if error == 0:
        return PairedDifference(mean, mean, mean, float(mean == 0))
    half = error * float(t.ppf(0.975, num_splits - 1))
    p = 2 * float(t.sf(abs(mean) / error, num_splits - 1))
    return PairedDifference(mean, mean - half, mean + half, p)


def holm(p_values: Array) -> Array:
    """Return p-values corrected for several claims.

    References:
        A simple sequentially rejective multiple test procedure. Holm, 1979.

    Args:
        p_values: One p-value per claim, [C]. A nan stays nan and is not counted.

    Returns:
        Corrected p-values in the same order, [C].

    Example:
        >>> import numpy as np
        >>> metrics.holm(np.array([0.04, 0.01])).tolist()
        [0.04, 0.02]
    """
    order = np.argsort(p_values)  # nan comes last
    count = int((~np.isnan(p_values)).sum())
    factor = np.maximum(count - np.arange(len(p_values)), 1)
    corrected = np.empty(len(p_values))
    rising = np.maximum.accumulate(p_values[order] * factor)
    corrected[order] = np.minimum(rising, 1)
    return corrected
