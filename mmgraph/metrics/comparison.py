"""Robustness summaries, and statistical comparison of methods.

Letters: `S` splits, `R` missing rates, `M` modalities, `C` hypotheses.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.validation import Array


def aurc(rates: Array, values: Array) -> float:
    """Return the area under the robustness curve: the mean score over missing rates.

    The area under the score as a function of the missing rate (trapezoidal rule),
    divided by the range of rates, so that it has the scale of the score.

    Args:
        rates: Missing rates in increasing order, [R].
        values: Score at each rate, [R].

    Returns:
        The mean score; the score itself for a single rate; nan if a score is nan.

    Raises:
        DataError: If the shapes differ, there is no rate, or the rates do not increase.

    Example:
        >>> import numpy as np
        >>> metrics.aurc(np.array([0.0, 0.5]), np.array([1.0, 0.5]))
        0.75
    """
    if rates.ndim != 1 or rates.shape != values.shape or len(rates) == 0:
        raise DataError(
            f"aurc needs one value per rate, got {list(values.shape)} values for "
            f"{list(rates.shape)} rates. Average over splits first."
        )
    if (np.diff(rates) <= 0).any():
        raise DataError(
            f"rates must increase, got {rates.tolist()}. Sort rates and values."
        )
    if len(rates) == 1:
        return float(values[0])
    area = (np.diff(rates) * (values[1:] + values[:-1]) / 2).sum()
    return float(area / (rates[-1] - rates[0]))


def equity(drops: Array) -> float:
    """Return the modality-balance ratio: smallest over mean drop of the score.

    Args:
        drops: Score minus leave-one-modality-out score, for each modality, [M].

    Returns:
        1 if all modalities contribute equally; close to 0, or negative, if one is not
        used; nan if the mean drop is not positive or there is no modality.

    Example:
        >>> import numpy as np
        >>> metrics.equity(np.array([0.1, 0.3]))
        0.5
    """
    if len(drops) == 0 or not drops.mean() > 0:
        return float("nan")
    return float(drops.min() / drops.mean())


def monotonicity_violations(scores: Mapping[frozenset[str], float]) -> float:
    """Return the fraction of modality subsets whose score one more modality lowers.

    A subset violates monotonicity if adding any single modality lowers its score. Only
    subsets for which at least one such superset was scored are counted.

    Args:
        scores: Score of each subset of modalities, higher is better; the mean over
            splits, because the result depends on the sign of small differences.

    Returns:
        A fraction in [0, 1]; nan if no two subsets can be compared.

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
        min(scores[big] for big in supersets) < scores[small]
        for small, supersets in larger.items()
        if supersets
    ]
    return float(np.mean(worse)) if worse else float("nan")


class PairedDifference(NamedTuple):
    """Mean of paired differences with its 95% confidence interval.

    Attributes:
        mean: Mean difference a - b.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        p: Two-sided p-value for the hypothesis of no difference.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_difference(
    a: Array, b: Array, test_over_train: float | int
) -> PairedDifference:
    """Compare two methods on the same splits by the corrected resampled t-test.

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
        Mean, confidence interval and p-value. With a single split, all but the mean are
        nan; a nan score makes all of them nan. If all differences are equal, the
        interval has width zero, and p is 0, or 1 if they are zero.

    Raises:
        ConfigError: If test_over_train is negative.
        DataError: If the shapes differ or there are no splits.

    Example:
        >>> import numpy as np
        >>> a, b = np.array([0.80, 0.82, 0.84]), np.array([0.78, 0.79, 0.80])
        >>> difference = metrics.paired_difference(a, b, test_over_train=0.25)
        >>> round(difference.mean, 3), bool(difference.low < 0 < difference.high)
        (0.03, True)
    """
    from scipy.stats import t

    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(
            f"paired_difference needs two scores per split, got {list(a.shape)} "
            f"and {list(b.shape)}. Score both methods on the same splits."
        )
    if test_over_train < 0:
        raise ConfigError(
            f"test_over_train must be at least 0, got {test_over_train}. "
            "Divide the number of test samples by that of training samples."
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
    """Return p-values with the Holm-Bonferroni correction for multiple comparisons.

    References:
        A simple sequentially rejective multiple test procedure. Holm, 1979.

    Args:
        p_values: One p-value per hypothesis, [C]. A nan stays nan and is not counted.

    Returns:
        Corrected p-values in the order of the hypotheses, [C].

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
