import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from mmgraph import ConfigError, DataError, metrics


@pytest.fixture(params=[2, 3, 5])
def scored(request):
    """Codes and probabilities of 60 samples; the classes vary."""
    rng = np.random.default_rng(request.param)
    y = np.arange(60) % request.param
    proba = rng.dirichlet(np.ones(request.param), size=60)
    return y, proba


def test_label_scores_match_sklearn(scored):
    y, proba = scored
    predicted = proba.argmax(1)
    expected = oracle.balanced_accuracy_score(y, predicted)
    assert metrics.accuracy(y, predicted) == oracle.accuracy_score(y, predicted)
    assert metrics.balanced_accuracy(y, predicted) == pytest.approx(expected)
    expected = oracle.f1_score(y, predicted, average="macro")
    assert metrics.macro_f1(y, predicted) == pytest.approx(expected)


def test_probability_scores_match_sklearn(scored):
    y, proba = scored
    score = proba[:, 1] if proba.shape[1] == 2 else proba
    area = oracle.roc_auc_score(y, score, multi_class="ovr")
    assert metrics.auroc(y, proba) == pytest.approx(area)
    hot = y if proba.shape[1] == 2 else np.eye(proba.shape[1])[y]
    expected = oracle.average_precision_score(hot, score)
    assert metrics.average_precision(y, proba) == pytest.approx(expected)
    assert metrics.log_loss(y, proba) == pytest.approx(oracle.log_loss(y, proba))
    if proba.shape[1] == 2:
        expected = oracle.brier_score_loss(y, score)
    else:  # scikit-learn has it from 1.7 on
        expected = np.square(hot - proba).sum(1).mean()
    assert metrics.brier(y, proba) == pytest.approx(expected)


def test_calibration_error_matches_torchmetrics(scored):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the import may warn
        from torchmetrics.functional import calibration_error

        y, proba = scored
        expected = calibration_error(
            torch.tensor(proba, dtype=torch.float64),
            torch.tensor(y),
            task="multiclass",
            num_classes=proba.shape[1],
            n_bins=10,
        )
    value = metrics.expected_calibration_error(y, proba, num_bins=10)
    assert value == pytest.approx(float(expected), abs=1e-6)


def test_reliability_curve_by_hand():
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0], [0.4, 0.6]])
    y = np.array([0, 0, 1, 1])
    confidence, share, count = metrics.reliability_curve(y, proba, num_bins=4)
    assert count.tolist() == [0, 0, 1, 3]
    np.testing.assert_allclose(confidence, [np.nan, np.nan, 0.6, 0.9])
    np.testing.assert_allclose(share, [np.nan, np.nan, 1, 2 / 3])
    value = metrics.expected_calibration_error(y, proba, num_bins=4)
    assert value == pytest.approx((0.4 + 3 * (0.9 - 2 / 3)) / 4)


def test_a_class_that_is_not_in_y_is_skipped_without_a_warning():
    y = np.array([0, 1, 0, 1])
    proba = np.array([[0.6, 0.1, 0.3], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.9, 0]])
    assert metrics.auroc(y, proba) == pytest.approx((1.0 + 0.75) / 2)
    assert metrics.balanced_accuracy(y, proba.argmax(1)) == 0.75


def test_one_class_has_no_auroc_but_the_other_scores():
    scores = metrics.classification_scores(np.zeros(3, int), np.ones((3, 1)))
    assert math.isnan(scores["auroc"])
    assert scores["accuracy"] == 1
    assert scores["log_loss"] == scores["brier"] == 0
    assert math.isnan(metrics.auroc(np.zeros(2, int), np.full((2, 2), 0.5)))


def test_a_sure_mistake_has_a_finite_log_loss():
    value = metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]]))
    assert value == pytest.approx(52 * math.log(2))


def test_no_samples_give_nan():
    scores = metrics.classification_scores(np.zeros(0, int), np.zeros((0, 2)))
    scores |= metrics.regression_scores(np.zeros(0), np.zeros(0))
    scores |= metrics.matching_scores(np.zeros(0, int), np.zeros(0))
    assert len(scores) == 10
    assert all(math.isnan(value) for value in scores.values())


def test_classification_scores_agree_with_the_single_functions(scored):
    y, proba = scored
    scores = metrics.classification_scores(y, proba)
    assert scores["macro_f1"] == metrics.macro_f1(y, proba.argmax(1))
    assert scores["auroc"] == metrics.auroc(y, proba)
    assert scores["brier"] == metrics.brier(y, proba)


@pytest.mark.parametrize("shape", [(20,), (20, 2)])
def test_regression_scores_match_sklearn(shape):
    rng = np.random.default_rng(0)
    y, predicted = rng.normal(size=shape), rng.normal(size=shape)
    scores = metrics.regression_scores(y, predicted)
    assert scores["r2"] == pytest.approx(oracle.r2_score(y, predicted))
    expected = oracle.root_mean_squared_error(y, predicted)
    assert scores["rmse"] == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize(
    "score",
    [
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.macro_f1,
        metrics.r2,
        metrics.rmse,
        metrics.regression_scores,
    ],
)
def test_samples_without_a_label_are_rejected(score, wrong):
    known, holed = np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, wrong])
    with pytest.raises(DataError, match="y must be finite, got NaN or infinity"):
        score(holed, known)
    with pytest.raises(DataError, match="predictions must be finite, got NaN or inf"):
        score(known, holed)


@pytest.mark.parametrize("score", [metrics.r2, metrics.rmse])
def test_targets_are_numbers(score):
    with pytest.raises(
        DataError, match=r"y must be numbers of shape \[N\] or \[N, K\]"
    ):
        score(np.array(["1", "2"]), np.array(["1", "2"]))
    with pytest.raises(DataError, match=r"got float64 of shape \[2, 2, 2\]. Convert"):
        score(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))


def test_aurc_is_the_mean_height():
    rates = np.array([0, 0.1, 0.3, 0.7])
    assert metrics.aurc(rates, np.full(4, 0.8)) == pytest.approx(0.8)
    assert metrics.aurc(rates, 1 - rates) == pytest.approx(0.65)
    assert metrics.aurc(rates[:1], np.array([0.9])) == 0.9
    assert math.isnan(metrics.aurc(rates, np.array([1, np.nan, 1, 1])))


def test_equity_is_smallest_over_mean_drop():
    assert metrics.equity(np.array([0.1, 0.3])) == pytest.approx(0.5)
    assert metrics.equity(np.array([0.2, 0.2])) == pytest.approx(1)
    assert math.isnan(metrics.equity(np.array([0.0, 0.0])))
    assert math.isnan(metrics.equity(np.array([])))


def test_monotonicity_counts_subsets_that_one_more_modality_makes_worse():
    scores = {
        frozenset("a"): 0.6,
        frozenset("b"): 0.8,
        frozenset("c"): 0.5,
        frozenset("ab"): 0.7,
        frozenset("abc"): 0.9,
    }
    # a -> ab rises, b -> ab falls, ab -> abc rises; c has nothing to compare
    assert metrics.monotonicity_violations(scores) == pytest.approx(1 / 3)
    assert math.isnan(metrics.monotonicity_violations({frozenset("a"): 1.0}))


def test_without_overlap_the_paired_test_is_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(0.4, size=12)
    expected = stats.ttest_rel(a, b)
    result = metrics.paired_difference(a, b, 0.0)
    assert result.mean == pytest.approx((a - b).mean())
    assert result.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_overlap_widens_the_interval_by_the_known_factor():
    a, b = np.arange(10.0) % 3, np.zeros(10)
    plain = metrics.paired_difference(a, b, 0.0)
    wide = metrics.paired_difference(a, b, 0.25)
    factor = (wide.high - wide.low) / (plain.high - plain.low)
    assert factor == pytest.approx(math.sqrt((0.1 + 0.25) / 0.1))


def test_paired_difference_without_spread():
    same = metrics.paired_difference(np.ones(5), np.ones(5), 0.25)
    assert same == (0, 0, 0, 1)
    assert metrics.paired_difference(np.ones(5), np.zeros(5), 0.25) == (1, 1, 1, 0)
    one = metrics.paired_difference(np.ones(1), np.zeros(1), 0.25)
    assert one.mean == 1
    assert math.isnan(one.low)
    assert math.isnan(one.p)


def test_holm_by_hand():
    corrected = metrics.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.9]))
    np.testing.assert_allclose(corrected, [0.04, 0.09, np.nan, 0.09, 0.9])
    assert metrics.holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert metrics.holm(np.zeros(0)).shape == (0,)


def test_matching_scores_are_those_of_two_classes():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 50), rng.random(50)
    scores = metrics.matching_scores(y, p)
    assert scores["average_precision"] == oracle.average_precision_score(y, p)
    assert scores["brier"] == pytest.approx(np.mean((y - p) ** 2))
    both = np.stack([1 - p, p], axis=1)
    gap = metrics.expected_calibration_error(y, both)
    assert scores["expected_calibration_error"] == gap
    with pytest.raises(DataError, match="proba must be finite"):
        metrics.matching_scores(y, p * 2)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_booleans_are_the_codes_0_and_1(num_classes):
    rng = np.random.default_rng(0)
    y, proba = rng.random(20) < 0.4, rng.dirichlet(np.ones(num_classes), size=20)
    for score in (
        metrics.classification_scores,
        lambda y, proba: metrics.matching_scores(y, proba[:, 1]),
        lambda y, proba: metrics.average_precision(y, proba),
        lambda y, proba: np.array(metrics.reliability_curve(y, proba)),
    ):
        np.testing.assert_equal(score(y, proba), score(y.astype(int), proba))
    scores = metrics.matching_scores(np.array([True, False]), np.array([0.9, 0.2]))
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.8]).mean())


HALF = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    "y", [np.array([0.5, 1.0]), np.array([0, np.nan]), np.array(["0", "1"])]
)
@pytest.mark.parametrize(
    "score",
    [
        metrics.auroc,
        metrics.average_precision,
        metrics.log_loss,
        metrics.brier,
        metrics.reliability_curve,
        metrics.expected_calibration_error,
        metrics.classification_scores,
        lambda y, proba: metrics.matching_scores(y, proba[:, 1]),
    ],
)
def test_codes_are_whole_numbers(score, y):
    with pytest.raises(DataError, match=r"y must hold codes 0\.\.1 as whole numbers"):
        score(y, HALF)
    codes = np.array([0, 1])
    np.testing.assert_equal(score(codes.astype(float), HALF), score(codes, HALF))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.accuracy(np.zeros(2), np.zeros(3)),
            DataError,
            r"predictions must have the shape of y, \[2\], got \[3\]",
        ),
        (
            lambda: metrics.auroc(np.zeros(2, int), np.zeros(2)),
            DataError,
            r"proba must have shape \[N, K\].*got \[2\] for \[2\]",
        ),
        (
            lambda: metrics.brier(np.array([0, -1]), HALF),
            DataError,
            r"y must hold codes 0\.\.1, got -1\.\.0",
        ),
        (
            lambda: metrics.log_loss(np.array([0, 1]), HALF * 3),
            DataError,
            "proba must be finite, not negative and sum to 1",
        ),
        (
            lambda: metrics.log_loss(np.array([0, 1]), HALF * np.nan),
            DataError,
            "proba must be finite",
        ),
        (
            lambda: metrics.log_loss(np.array([0, 1]), HALF.astype(str)),
            DataError,
            "proba must be finite",
        ),
        (
            lambda: metrics.reliability_curve(np.array([0, 1]), HALF, 0),
            ConfigError,
            "num_bins must be at least 1, got 0",
        ),
        (
            lambda: metrics.aurc(np.zeros(2), np.zeros(3)),
            DataError,
            r"aurc needs one value per rate, got \[3\] values for \[2\]",
        ),
        (
            lambda: metrics.aurc(np.array([0.5, 0.1]), np.zeros(2)),
            DataError,
            r"rates must increase, got \[0.5, 0.1\]",
        ),
        (
            lambda: metrics.paired_difference(np.zeros(2), np.zeros(3), 0.2),
            DataError,
            r"two scores per split, got \[2\] and \[3\]",
        ),
        (
            lambda: metrics.paired_difference(np.zeros(2), np.zeros(2), -1),
            ConfigError,
            "test_over_train must be at least 0, got -1",
        ),
    ],
)
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
