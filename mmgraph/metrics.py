"""Scores: pure functions on NumPy arrays.

Letters: `N` samples, `K` classes, `S` splits, `R` missing rates. Classes are codes
0..K-1 and column k of `proba` is the probability of code k. Samples without a label
(NaN targets, code -1) are excluded by the caller. Nothing to score gives nan.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import ConfigError, DataError

Array = NDArray[Any]


def _check_rows(y: Array, predicted: Array) -> None:
    if y.shape != predicted.shape:
        raise DataError(
            f"predictions must have the shape of y, {list(y.shape)}, "
            f"got {list(predicted.shape)}. Score the samples that were predicted."
        )


def _check_proba(y: Array, proba: Array) -> None:
    if y.ndim != 1 or proba.ndim != 2 or len(y) != len(proba):
        raise DataError(
            f"proba must have shape [N, K] for y of shape [N], got "
            f"{list(proba.shape)} for {list(y.shape)}. Give one column per class."
        )
    if len(y) == 0:
        return
    if y.min() < 0 or y.max() >= proba.shape[1]:
        raise DataError(
            f"y must hold codes 0..{proba.shape[1] - 1}, got {y.min()}..{y.max()}. "
            "Exclude samples without a label and encode the classes."
        )
    if not np.allclose(proba.sum(axis=1), 1, atol=1e-3) or proba.min() < 0:
        raise DataError(
            "proba must be finite, not negative and sum to 1 in each row, got rows "
            "that are not. Give probabilities, not logits."
        )


def accuracy(y: Array, predicted: Array) -> float:
    """Return the share of samples whose predicted code is right.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A share in [0, 1]; nan for no samples.

    Raises:
        DataError: If the shapes differ.

    Example:
        >>> import numpy as np
        >>> metrics.accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
        0.75
    """
    _check_rows(y, predicted)
    return float(np.mean(y == predicted)) if len(y) else float("nan")


def balanced_accuracy(y: Array, predicted: Array) -> float:
    """Return the mean recall of the classes that occur in y.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A share in [0, 1]; nan for no samples.

    Raises:
        DataError: If the shapes differ.
    """
    from sklearn.metrics import recall_score

    _check_rows(y, predicted)
    if len(y) == 0:
        return float("nan")
    return float(recall_score(y, predicted, labels=np.unique(y), average="macro"))


def macro_f1(y: Array, predicted: Array) -> float:
    """Return the mean F1 of the classes that occur in y or in the predictions.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A share in [0, 1]; a class that is never right counts 0; nan for no samples.

    Raises:
        DataError: If the shapes differ.
    """
    from sklearn.metrics import f1_score

    _check_rows(y, predicted)
    if len(y) == 0:
        return float("nan")
    return float(f1_score(y, predicted, average="macro", zero_division=0.0))


def auroc(y: Array, proba: Array) -> float:
    """Return the area under the receiver operating characteristic.

    With two classes it is that of class 1, with more the mean of one class against
    the rest. Classes that do not occur in y are skipped.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        An area in [0, 1]; nan where y holds fewer than two classes.

    Raises:
        DataError: If shapes, codes or probabilities are wrong.
    """
    from sklearn.metrics import roc_auc_score

    _check_proba(y, proba)
    found = np.unique(y)
    if len(found) < 2:
        return float("nan")
    if proba.shape[1] == 2:
        found = found[1:]
    return float(np.mean([roc_auc_score(y == code, proba[:, code]) for code in found]))


def log_loss(y: Array, proba: Array) -> float:
    """Return the mean negative log-probability (nats) of the true class.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K]; clipped at the resolution of float64, so
            that one sure mistake costs 36 nats and not infinity.

    Returns:
        A loss >= 0; nan for no samples.

    Raises:
        DataError: If shapes, codes or probabilities are wrong.
    """
    _check_proba(y, proba)
    if len(y) == 0:
        return float("nan")
    # Not sklearn's: it refuses a single class.
    chosen = proba[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1)).mean())


def brier(y: Array, proba: Array) -> float:
    """Return the Brier score in scikit-learn's scale.

    It is the mean squared error of the probability of class 1 with two classes
    (0 to 1), and of all probabilities summed over the classes with more (0 to 2).

    References:
        Verification of forecasts expressed in terms of probability. Brier, 1950.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        A score, lower is better; nan for no samples.

    Raises:
        DataError: If shapes, codes or probabilities are wrong.
    """
    _check_proba(y, proba)
    if len(y) == 0:
        return float("nan")
    num_classes = proba.shape[1]
    error = ((proba - np.eye(num_classes)[y]) ** 2).sum(axis=1).mean()
    return float(error / 2 if num_classes == 2 else error)


def reliability_curve(
    y: Array, proba: Array, num_bins: int = 15
) -> tuple[Array, Array, Array]:
    """Return how often predictions of each confidence are right.

    The confidence is the probability of the predicted class; the bins have equal
    width and include their lower end (the last one also 1).

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].
        num_bins: Number of bins between 0 and 1.

    Returns:
        Mean confidence, share of right predictions and count of each bin, each of
        shape [num_bins]. An empty bin has count 0 and nan for the others.

    Raises:
        ConfigError: If num_bins is below 1.
        DataError: If shapes, codes or probabilities are wrong.
    """
    _check_proba(y, proba)
    if num_bins < 1:
        raise ConfigError(
            f"num_bins must be at least 1, got {num_bins}. The usual number is 15."
        )
    top = proba.max(axis=1, initial=0)
    right = proba.argmax(axis=1) == y if len(y) else np.zeros(0)
    edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    index = np.searchsorted(edges, top, side="right")
    count = np.bincount(index, minlength=num_bins)
    filled = np.where(count > 0, count, np.nan)
    confidence = np.bincount(index, weights=top, minlength=num_bins) / filled
    share = np.bincount(index, weights=right, minlength=num_bins) / filled
    return confidence, share, count


def expected_calibration_error(y: Array, proba: Array, num_bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins.

    References:
        On calibration of modern neural networks. Guo et al., 2017. arXiv:1706.04599.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].
        num_bins: Number of bins between 0 and 1.

    Returns:
        A gap in [0, 1], weighted by the count of each bin; nan for no samples.

    Raises:
        ConfigError: If num_bins is below 1.
        DataError: If shapes, codes or probabilities are wrong.
    """
    confidence, share, count = reliability_curve(y, proba, num_bins)
    if len(y) == 0:
        return float("nan")
    filled = count > 0
    gap = np.abs(confidence - share)[filled]
    return float(np.average(gap, weights=count[filled]))


def r2(y: Array, predicted: Array) -> float:
    """Return the coefficient of determination, averaged over targets.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        A value <= 1; nan for fewer than two samples.

    Raises:
        DataError: If the shapes differ.
    """
    from sklearn.metrics import r2_score

    _check_rows(y, predicted)
    return float(r2_score(y, predicted)) if len(y) > 1 else float("nan")


def rmse(y: Array, predicted: Array) -> float:
    """Return the root of the mean squared error, averaged over targets.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        An error >= 0 in the unit of y; nan for no samples.

    Raises:
        DataError: If the shapes differ.
    """
    from sklearn.metrics import root_mean_squared_error

    _check_rows(y, predicted)
    return float(root_mean_squared_error(y, predicted)) if len(y) else float("nan")


def classification_scores(y: Array, proba: Array) -> dict[str, float]:
    """Return every classification score by its name.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        accuracy, balanced_accuracy, macro_f1, auroc, log_loss, brier and
        expected_calibration_error; all nan for no samples.

    Raises:
        DataError: If shapes, codes or probabilities are wrong.
    """
    _check_proba(y, proba)
    predicted = proba.argmax(axis=1) if len(y) else y
    return {
        "accuracy": accuracy(y, predicted),
        "balanced_accuracy": balanced_accuracy(y, predicted),
        "macro_f1": macro_f1(y, predicted),
        "auroc": auroc(y, proba),
        "log_loss": log_loss(y, proba),
        "brier": brier(y, proba),
        "expected_calibration_error": expected_calibration_error(y, proba),
    }


def regression_scores(y: Array, predicted: Array) -> dict[str, float]:
    """Return every regression score by its name.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        r2 and rmse; nan where there are too few samples.

    Raises:
        DataError: If the shapes differ.
    """
    return {"r2": r2(y, predicted), "rmse": rmse(y, predicted)}


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
