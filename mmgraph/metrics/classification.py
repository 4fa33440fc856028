"""Classification metrics.

Letters: `N` samples, `K` classes, `P` pairs.
"""

from collections.abc import Callable, Collection

import numpy as np

from mmgraph.errors import ConfigError
from mmgraph.metrics.validation import Array, check_arrays, check_labels, check_proba


def accuracy(y: Array, predicted: Array) -> float:
    """Return the fraction of correctly classified samples.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A fraction in [0, 1]; nan without samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.

    Example:
        >>> import numpy as np
        >>> metrics.accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
        0.75
    """
    check_labels(y, predicted)
    return float(np.mean(y == predicted)) if len(y) else float("nan")


def balanced_accuracy(y: Array, predicted: Array) -> float:
    """Return the mean recall over the classes that occur in y.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A value in [0, 1]; nan without samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.

    Example:
        >>> import numpy as np
        >>> y, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
        >>> metrics.balanced_accuracy(y, predicted)
        0.5
    """
    from sklearn.metrics import recall_score

    check_labels(y, predicted)
    if len(y) == 0:
        return float("nan")
    return float(recall_score(y, predicted, labels=np.unique(y), average="macro"))


def macro_f1(y: Array, predicted: Array) -> float:
    """Return the mean F1 score over the classes that occur in y or the predictions.

    Args:
        y: Class codes, [N].
        predicted: Predicted class codes, [N].

    Returns:
        A value in [0, 1]; 0 for a class without true positives; nan without samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> round(metrics.macro_f1(y, np.array([0, 1, 1, 1])), 3)
        0.733
    """
    from sklearn.metrics import f1_score

    check_labels(y, predicted)
    if len(y) == 0:
        return float("nan")
    return float(f1_score(y, predicted, average="macro", zero_division=0.0))


def auroc(y: Array, proba: Array) -> float:
    """Return the area under the receiver operating characteristic (AUROC).

    With two classes, the area of class 1; with more, the unweighted mean over classes
    of one class against the rest. Classes that do not occur in y are skipped.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        A value in [0, 1], 0.5 for random predictions; nan if y has fewer than two
        classes.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
        >>> metrics.auroc(np.array([0, 0, 1, 1]), proba)
        0.75
    """
    from sklearn.metrics import roc_auc_score

    return _one_against_rest(roc_auc_score, y, proba)


def average_precision(y: Array, proba: Array) -> float:
    """Return the average precision.

    The area under the precision-recall curve, without interpolation. With two classes,
    the area of class 1; with more, the unweighted mean over classes of one class
    against the rest. Classes that do not occur in y are skipped.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        A value in [0, 1]; the frequency of the class for random predictions; nan if y
        has fewer than two classes.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> metrics.average_precision(y, proba)
        1.0
    """
    from sklearn.metrics import average_precision_score

    return _one_against_rest(average_precision_score, y, proba)


def _one_against_rest(
    score: Callable[[Array, Array], float], y: Array, proba: Array
) -> float:
    """Return the mean score of one class against the rest; of class 1 if binary."""
    y = check_proba(y, proba)
    classes = np.unique(y)
    if len(classes) < 2:
        return float("nan")
    if proba.shape[1] == 2:
        classes = classes[1:]
    return float(np.mean([score(y == code, proba[:, code]) for code in classes]))


def log_loss(y: Array, proba: Array) -> float:
    """Return the mean negative log-probability of the true class, in nats.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K]; clipped from below at the resolution of
            float64, so that a probability of 0 costs 36 nats instead of infinity.

    Returns:
        A loss >= 0; nan without samples.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> round(metrics.log_loss(y, proba), 3)
        0.4
    """
    y = check_proba(y, proba)
    if len(y) == 0:
        return float("nan")
    # log_loss of scikit-learn rejects a y with a single class
    chosen = proba[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1)).mean())


def brier(y: Array, proba: Array) -> float:
    """Return the Brier score, scaled as in scikit-learn.

    With two classes, the mean squared error of the probability of class 1, in [0, 1];
    with more, the squared errors summed over classes, in [0, 2].

    References:
        Verification of forecasts expressed in terms of probability. Brier, 1950.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].

    Returns:
        A score, lower is better; nan without samples.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> round(metrics.brier(y, proba), 3)
        0.125
    """
    y = check_proba(y, proba)
    if len(y) == 0:
        return float("nan")
    num_classes = proba.shape[1]
    error = ((proba - np.eye(num_classes)[y]) ** 2).sum(axis=1).mean()
    return float(error / 2 if num_classes == 2 else error)


def reliability_curve(
    y: Array, proba: Array, num_bins: int = 15
) -> tuple[Array, Array, Array]:
    """Return accuracy by confidence, the data of a reliability diagram.

    The confidence is the probability of the predicted class. The bins have equal width
    and include their lower end, the last one also 1.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].
        num_bins: Number of bins between 0 and 1.

    Returns:
        Mean confidence, accuracy and count of each bin, each [num_bins]. An empty bin
        has count 0, and nan for the others.

    Raises:
        ConfigError: If num_bins is below 1.
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> confidence, accuracy, count = metrics.reliability_curve(y, proba, 4)
        >>> confidence.round(3).tolist(), count.tolist()
        ([nan, nan, 0.65, 0.85], [0, 0, 2, 2])
    """
    y = check_proba(y, proba)
    if num_bins < 1:
        raise ConfigError(
            f"num_bins must be at least 1, got {num_bins}. The default is 15."
        )
    top = proba.max(axis=1, initial=0)
    correct = proba.argmax(axis=1) == y if len(y) else np.zeros(0)
    edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    index = np.searchsorted(edges, top, side="right")
    count = np.bincount(index, minlength=num_bins)
    filled = np.where(count > 0, count, np.nan)
    confidence = np.bincount(index, weights=top, minlength=num_bins) / filled
    accuracies = np.bincount(index, weights=correct, minlength=num_bins) / filled
    return confidence, accuracies, count


def expected_calibration_error(y: Array, proba: Array, num_bins: int = 15) -> float:
    """Return the expected calibration error (ECE) over equal-width bins.

    The mean absolute difference between confidence and accuracy of the bins, weighted
    by their number of samples.

    References:
        On calibration of modern neural networks. Guo et al., 2017. arXiv:1706.04599.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].
        num_bins: Number of bins between 0 and 1.

    Returns:
        A value in [0, 1]; nan without samples.

    Raises:
        ConfigError: If num_bins is below 1.
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> round(metrics.expected_calibration_error(y, proba), 3)
        0.3
    """
    confidence, accuracies, count = reliability_curve(y, proba, num_bins)
    if len(y) == 0:
        return float("nan")
    filled = count > 0
    gap = np.abs(confidence - accuracies)[filled]
    return float(np.average(gap, weights=count[filled]))


def classification_scores(
    y: Array, proba: Array, *, names: Collection[str] | None = None
) -> dict[str, float]:
    """Return classification metrics by name.

    Args:
        y: Class codes, [N].
        proba: Class probabilities, [N, K].
        names: Names of the metrics to compute; None: all.

    Returns:
        accuracy, balanced_accuracy, macro_f1, auroc, log_loss, brier and
        expected_calibration_error; all nan without samples.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y = np.array([0, 0, 1, 1])
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> metrics.classification_scores(y, proba)["accuracy"]
        0.75
    """
    y = check_proba(y, proba)
    predicted = proba.argmax(axis=1) if len(y) else y
    scores: dict[str, Callable[[], float]] = {
        "accuracy": lambda: accuracy(y, predicted),
        "balanced_accuracy": lambda: balanced_accuracy(y, predicted),
        "macro_f1": lambda: macro_f1(y, predicted),
        "auroc": lambda: auroc(y, proba),
        "log_loss": lambda: log_loss(y, proba),
        "brier": lambda: brier(y, proba),
        "expected_calibration_error": lambda: expected_calibration_error(y, proba),
    }
    return {n: f() for n, f in scores.items() if names is None or n in names}


def matching_scores(y: Array, p: Array) -> dict[str, float]:
    """Return all metrics of matching, the binary classification of pairs, by name.

    Args:
        y: 1 or True for matching pairs, else 0, [P].
        p: Predicted probability of a match, [P].

    Returns:
        auroc, average_precision, log_loss, brier and expected_calibration_error; all
        nan without pairs.

    Raises:
        DataError: If shapes, codes or probabilities are invalid.

    Example:
        >>> import numpy as np
        >>> y, p = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.1])
        >>> scores = metrics.matching_scores(y, p)
        >>> scores["auroc"], round(scores["average_precision"], 3)
        (0.75, 0.833)
    """
    check_arrays(y=y, p=p)
    proba = np.stack([1 - p, p], axis=1)
    return {
        "auroc": auroc(y, proba),
        "average_precision": average_precision(y, proba),
        "log_loss": log_loss(y, proba),
        "brier": brier(y, proba),
        "expected_calibration_error": expected_calibration_error(y, proba),
    }
