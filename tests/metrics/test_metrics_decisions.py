"""Decisions at a threshold: rates, intervals, decision curves, chosen thresholds."""

import re

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from mmgraph import ConfigError, DataError, metrics


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    y = (rng.random(300) < 0.3).astype(int)
    return y, np.clip(0.3 + 0.25 * y + 0.2 * rng.normal(size=300), 0, 1).round(2)


@pytest.mark.parametrize("threshold", [0.2, 0.43, 0.9])
def test_rates_are_those_of_the_confusion_matrix(predictions, threshold):
    y, probability = predictions
    tn, fp, fn, tp = confusion_matrix(y, probability >= threshold).ravel()
    point = metrics.operating_point(y, probability, threshold)
    expected = {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "net_benefit": tp / 300 - fp / 300 * threshold / (1 - threshold),
    }
    for name, value in expected.items():
        interval = getattr(point, name)
        assert interval.mean == pytest.approx(value, abs=1e-12)
        assert interval.low <= value <= interval.high
        assert interval.low < interval.high or value in (0, 1)
    assert (point.num_positive, point.num_negative) == (y.sum(), 300 - y.sum())


def test_intervals_have_the_width_of_a_binomial_share():
    y = np.ones(400, dtype=int)
    probability = np.where(np.arange(400) < 320, 0.9, 0.1)
    point = metrics.operating_point(y, probability, 0.5)
    error = np.sqrt(0.8 * 0.2 / 400)
    assert point.sensitivity.low == pytest.approx(0.8 - 1.96 * error, abs=0.01)
    assert point.sensitivity.high == pytest.approx(0.8 + 1.96 * error, abs=0.01)
    assert np.isnan(point.specificity).all()


def test_groups_are_resampled_as_a_whole(predictions):
    y, probability = (np.repeat(each[:30], 10) for each in predictions)
    alone = metrics.operating_point(y, probability, 0.4)
    whole = metrics.operating_point(
        y, probability, 0.4, groups=np.repeat(np.arange(30), 10)
    )
    width = [x.sensitivity.high - x.sensitivity.low for x in (alone, whole)]
    assert width[1] > 2 * width[0]


def test_decision_curve_is_the_net_benefit_at_each_threshold(predictions):
    y, probability = predictions
    curve = metrics.decision_curve(y, probability)
    assert len(curve.thresholds) == 99
    for i in (4, 29, 60):
        point = metrics.operating_point(y, probability, curve.thresholds[i])
        assert curve.model[i] == pytest.approx(point.net_benefit.mean, abs=1e-12)
        everyone = metrics.operating_point(y, np.ones(300), curve.thresholds[i])
        assert curve.everyone[i] == pytest.approx(everyone.net_benefit.mean)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.0])
def test_chosen_thresholds_have_the_required_rate(predictions, rate):
    y, probability = predictions
    limit = metrics.choose_threshold(y, probability, sensitivity=rate)
    assert (probability[y == 1] >= limit).mean() >= rate
    above = probability[probability > limit].min()
    assert (probability[y == 1] >= above).mean() < rate
    limit = metrics.choose_threshold(y, probability, specificity=rate)
    assert (probability[y == 0] < limit).mean() >= rate
    below = probability[probability < limit].max()
    assert (probability[y == 0] < below).mean() < rate


def test_the_default_threshold_maximizes_youdens_index(predictions):
    y, probability = predictions
    limit = metrics.choose_threshold(y, probability)
    false, true, limits = roc_curve(y, probability, drop_intermediate=False)
    chosen = (probability[y == 1] >= limit).mean() - (
        probability[y == 0] >= limit
    ).mean()
    assert chosen == pytest.approx((true - false).max())
    assert limit in limits


def test_no_samples_have_no_rates():
    nothing = np.zeros(0, dtype=int), np.zeros(0)
    point = metrics.operating_point(*nothing, 0.5)
    assert np.isnan(point.sensitivity).all()
    assert np.isnan(metrics.decision_curve(*nothing).model).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda y, p: metrics.operating_point(y + 1, p, 0.5),
            DataError,
            "y must hold the codes 0 and 1, got others",
        ),
        (
            lambda y, p: metrics.operating_point(y, 3 * p, 0.5),
            DataError,
            "probability must be between 0 and 1, got other values",
        ),
        (
            lambda y, p: metrics.operating_point(y, p[:-1], 0.5),
            DataError,
            "probability must have one entry per sample, got shapes [300] and [299]",
        ),
        (
            lambda y, p: metrics.operating_point(y, p, 1.0),
            ConfigError,
            "threshold must be between 0 and 1, got 1.0",
        ),
        (
            lambda y, p: metrics.choose_threshold(y, p, sensitivity=0.0),
            ConfigError,
            "must be above 0 and at most 1, got sensitivity=0.0",
        ),
        (
            lambda y, p: metrics.choose_threshold(
                y, p, sensitivity=0.9, specificity=0.9
            ),
            ConfigError,
            "Either sensitivity or specificity must be above 0",
        ),
        (
            lambda y, p: metrics.choose_threshold(0 * y, p),
            DataError,
            "choose_threshold needs samples of both classes, got one",
        ),
    ],
)
def test_invalid_arguments_are_refused(predictions, call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(*predictions)
