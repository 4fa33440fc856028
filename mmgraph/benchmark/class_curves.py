"""Counts of a scored test part from which the figures of a classification are drawn.

Letters: ``N`` samples, ``K`` classes.
"""

import numpy as np

from mmgraph.benchmark.results import Record

NUM_BINS = 15
FALSE_POSITIVE_RATES = np.linspace(0, 1, 51)
MAX_CLASSES = 12  # of a confusion matrix that fits on a page


def class_counts(codes: np.ndarray, proba: np.ndarray) -> Record:
    """Return what the reliability curve, the ROC and the confusion matrix need.

    Args:
        codes: True classes, int [N].
        proba: Probabilities [N, K]; the largest is the confidence.
    """
    counts: Record = {"reliability": reliability_counts(codes, proba)}
    if (curve := roc_values(codes, proba)) is not None:
        counts["roc"] = curve
    if proba.shape[1] <= MAX_CLASSES:
        counts["confusion"] = confusion_counts(codes, proba)
    return counts


def reliability_counts(codes: np.ndarray, proba: np.ndarray) -> dict[str, list[float]]:
    """Return the counts of a reliability curve, per bin of confidence.

    Args:
        codes: True classes, int [N].
        proba: Probabilities [N, K]; the largest is the confidence.

    Returns:
        For 15 equal bins: `count`, and the sums `confidence` and `correct`.
        All zero for no samples.
    """
    from mmgraph.metrics import reliability_curve

    confidence, share, count = reliability_curve(codes, proba, NUM_BINS)
    filled = count > 0
    return {
        "count": count.astype(float).tolist(),
        "confidence": np.where(filled, confidence * count, 0.0).round(4).tolist(),
        "correct": np.where(filled, share * count, 0.0).round(4).tolist(),
    }


def roc_values(codes: np.ndarray, proba: np.ndarray) -> list[float] | None:
    """Return true-positive rates at 51 equally spaced false-positive rates.

    With two classes, they are those of the second class. With more, each class is
    compared with all others, and the curves of the classes that occur are averaged.

    Returns:
        51 numbers; None if fewer than two classes occur.
    """
    from sklearn.metrics import roc_curve

    occurring = np.unique(codes)
    if len(occurring) < 2:
        return None
    positives = [1] if proba.shape[1] == 2 else occurring
    curves = []
    for positive in positives:
        false, true, _ = roc_curve(codes == positive, proba[:, positive])
        curves.append(np.interp(FALSE_POSITIVE_RATES, false, true))
    values: list[float] = np.mean(curves, axis=0).round(5).tolist()
    return values


def confusion_counts(codes: np.ndarray, proba: np.ndarray) -> list[list[int]]:
    """Return the number of samples by true and most probable class, [K, K]."""
    num = proba.shape[1]
    pairs = codes * num + proba.argmax(1)
    counts = np.bincount(pairs, minlength=num**2).reshape(num, num)
    rows: list[list[int]] = counts.tolist()
    return rows
