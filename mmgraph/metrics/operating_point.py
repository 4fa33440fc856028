"""Decisions of a binary classifier at a threshold of the probability.

The positive class is code 1. Letters: `N` samples, `T` thresholds.
"""

from typing import NamedTuple

import numpy as np

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.bootstrap import LEVEL, Interval, resampled_means
from mmgraph.metrics.validation import Array, check_arrays

RATES = ("sensitivity", "specificity", "ppv", "npv", "net_benefit")


class OperatingPoint(NamedTuple):
    """Rates of correct decisions at a threshold, with 95% bootstrap intervals.

    Attributes:
        threshold: Probability from which on a sample is classified as positive.
        num_positive: Number of samples of the positive class.
        num_negative: Number of samples of the negative class.
        sensitivity: Share of the positive samples that are classified as positive.
        specificity: Share of the negative samples that are classified as negative.
        ppv: Share of positive samples among those classified as positive.
        npv: Share of negative samples among those classified as negative.
        net_benefit: True positives minus false positives that are weighted by the odds
            of the threshold, per sample.
    """

    threshold: float
    num_positive: int
    num_negative: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    net_benefit: Interval


def operating_point(
    y: Array,
    probability: Array,
    threshold: float,
    *,
    groups: Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
    """Return the rates of correct decisions at a threshold.

    Predictive values and net benefit depend on the share of positive samples: they hold
    for a population with that of the data.

    Args:
        y: Class codes 0 and 1, [N].
        probability: Probability of class 1, [N].
        threshold: Probability between 0 and 1 from which on a sample is classified as
            positive.
        groups: Groups that are resampled as a whole, [N]; samples with fewer than 10.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        Rates with 95% percentile bootstrap intervals; nan without a sample in the
        denominator.

    Raises:
        DataError: If codes, probabilities or shapes are invalid.
        ConfigError: If the threshold is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> y, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
        >>> point = metrics.operating_point(y, probability, 0.5)
        >>> point.sensitivity.mean, point.ppv.mean
        (0.5, 0.5)

    References:
        Decision Curve Analysis, Vickers, Elkin, 2006 (net benefit).
    """
    codes, chance = _check(y, probability)
    limit = float(_check_thresholds(threshold))
    cells = _outcomes(codes, chance, limit)
    rates = _rates(cells.mean(0) if len(cells) else np.full(4, np.nan), limit)
    bounds = np.full((2, len(RATES)), np.nan)
    if len(cells) > 1:
        drawn = resampled_means(cells, groups, resamples=resamples, seed=seed)
        tail = 100 * (1 - LEVEL) / 2
        values = _rates(drawn.T, limit).T
        known = ~np.isnan(values).all(0)
        bounds[:, known] = np.nanpercentile(
            values[:, known], [tail, 100 - tail], axis=0
        )
    intervals = [
        Interval(*map(float, each)) for each in zip(rates, *bounds, strict=True)
    ]
    positive = int(codes.sum())
    return OperatingPoint(limit, positive, len(codes) - positive, *intervals)


class DecisionCurve(NamedTuple):
    """Net benefit of decisions at each threshold.

    Attributes:
        thresholds: Thresholds, [T].
        model: Net benefit of the model, [T].
        everyone: Net benefit of classifying all samples as positive, [T]; that of
            classifying none is 0.
    """

    thresholds: Array
    model: Array
    everyone: Array


def decision_curve(
    y: Array, probability: Array, thresholds: Array | None = None
) -> DecisionCurve:
    """Return the net benefit of decisions by a model, and of treating everyone.

    At a threshold p, a false positive costs p / (1 - p) times what a true positive
    gains. A model is useful at thresholds at which its net benefit is above both that
    of treating everyone and 0, that of treating nobody.

    Args:
        y: Class codes 0 and 1, [N].
        probability: Probability of class 1, [N].
        thresholds: Probabilities between 0 and 1, [T]; default: 0.01 to 0.99.

    Returns:
        Net benefit per sample at each threshold; nan without samples.

    Raises:
        DataError: If codes, probabilities or shapes are invalid.
        ConfigError: If a threshold is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> y, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
        >>> metrics.decision_curve(y, probability, np.array([0.2, 0.5])).model
        array([0.4375, 0.    ])

    References:
        Decision Curve Analysis, Vickers, Elkin, 2006.
    """
    codes, chance = _check(y, probability)
    default = np.linspace(0.01, 0.99, 99)
    limits = default if thresholds is None else _check_thresholds(thresholds)
    odds = limits / (1 - limits)
    if not len(codes):
        nothing = np.full(len(limits), np.nan)
        return DecisionCurve(limits, nothing, nothing)
    called = chance >= limits[:, None]
    share = codes.mean()
    gained = (called & (codes == 1)).mean(1) - (called & (codes == 0)).mean(1) * odds
    return DecisionCurve(limits, gained, share - (1 - share) * odds)


def choose_threshold(
    y: Array,
    probability: Array,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> float:
    """Return the threshold with a required sensitivity or specificity.

    Use out-of-fold predictions of training samples, or validation samples: a threshold
    that is chosen on the test samples makes their rates too optimistic.

    Args:
        y: Class codes 0 and 1, [N].
        probability: Probability of class 1, [N].
        sensitivity: Required sensitivity, above 0; the largest threshold with it.
        specificity: Required specificity, above 0; the smallest threshold with it.
            Without both requirements, the sum of sensitivity and specificity is largest
            (Youden's index).

    Returns:
        One of the probabilities, or a number above all of them.

    Raises:
        DataError: If codes, probabilities or shapes are invalid, or a class has no
            sample.
        ConfigError: If both are required, or a requirement is not above 0 and at most
            1.

    Example:
        >>> import numpy as np
        >>> y, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
        >>> metrics.choose_threshold(y, probability, sensitivity=1.0)
        0.4
    """
    codes, chance = _check(y, probability)
    given = {"sensitivity": sensitivity, "specificity": specificity}
    required = {name: rate for name, rate in given.items() if rate is not None}
    if len(required) > 1 or not all(0 < rate <= 1 for rate in required.values()):
        got = ", ".join(f"{name}={rate}" for name, rate in required.items())
        raise ConfigError(
            f"Either sensitivity or specificity must be above 0 and at most 1, got "
            f"{got}. Require one of them."
        )
    if len(np.unique(codes)) < 2:
        raise DataError("choose_threshold needs samples of both classes, got one.")
    limits = np.unique(chance)
    limits = np.append(limits, np.nextafter(limits[-1], np.inf))
    ranked = np.sort(chance[codes == 1]), np.sort(chance[codes == 0])
    missed, cleared = (np.searchsorted(x, limits) / len(x) for x in ranked)
    if sensitivity is not None:
        return float(limits[np.flatnonzero(1 - missed >= sensitivity - 1e-12)[-1]])
    if specificity is not None:
        return float(limits[np.flatnonzero(cleared >= specificity - 1e-12)[0]])
    return float(limits[(cleared - missed).argmax()])


def _outcomes(codes: Array, chance: Array, threshold: float) -> Array:
    """Return whether each sample is a true or false positive or negative, [N, 4]."""
    called, true = chance >= threshold, codes == 1
    outcomes = called & true, called & ~true, ~called & ~true, ~called & true
    return np.column_stack(outcomes).astype(np.float64)


def _rates(shares: Array, threshold: float) -> Array:
    """Return the rates of `RATES` from shares of TP, FP, TN and FN, [4, ...]."""
    tp, fp, tn, fn = shares
    pairs = (tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = [np.where(total > 0, part / total, np.nan) for part, total in pairs]
    return np.stack([*ratios, tp - fp * threshold / (1 - threshold)])


def _check(y: Array, probability: Array) -> tuple[Array, Array]:
    """Return codes and probabilities.

    Raises:
        DataError: If codes, probabilities or shapes are invalid.
    """
    check_arrays(y=y, probability=probability)
    codes, chance = np.asarray(y), np.asarray(probability)
    if codes.ndim != 1 or codes.shape != chance.shape:
        raise DataError(
            "probability must have one entry per sample, got shapes "
            f"{list(codes.shape)} and {list(chance.shape)}. Give that of class 1."
        )
    if codes.dtype.kind not in "biuf" or not np.isin(codes, (0, 1)).all():
        raise DataError(
            "y must hold the codes 0 and 1, got others. Compare labels with the "
            "positive class: labels == 'disease'.",
            parameter="y",
        )
    if chance.dtype.kind not in "fiub" or not ((chance >= 0) & (chance <= 1)).all():
        raise DataError(
            "probability must be between 0 and 1, got other values. Give "
            "probabilities, not logits."
        )
    return codes.astype(np.int64), chance.astype(np.float64)


def _check_thresholds(thresholds: Array | float) -> Array:
    try:
        limits = np.asarray(thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        limits = np.array(np.nan)
    if not ((limits > 0) & (limits < 1)).all():
        raise ConfigError(
            f"threshold must be between 0 and 1, got {thresholds!r}. Give a "
            "probability, such as 0.2.",
            parameter="threshold",
        )
    return limits
