"""Metrics of survival models against scikit-survival and closed forms."""

import re

import numpy as np
import pytest

from mmgraph import DataError, metrics


def cohort(seed: int, *, ties: bool):
    """Return events, times and risks of 80 samples, with or without equal times."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(10, 80) + 0.01
    risk = np.round(rng.normal(size=80), 1)
    return rng.random(80) < 0.6, np.ceil(time) if ties else time, risk


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_scikit_survival(seed, ties):
    reference = pytest.importorskip("sksurv.metrics")
    event, time, risk = cohort(seed, ties=ties)
    y = np.array(list(zip(event, time, strict=True)), dtype="?,f8")
    y.dtype.names = ("event", "time")
    expected = reference.concordance_index_censored(event, time, risk)[0]
    assert metrics.concordance_index(event, time, risk) == pytest.approx(
        expected, abs=1e-9
    )
    grid = metrics.survival_grid(event, time)
    survival = np.exp(-np.exp(risk)[:, None] * grid / 20)
    expected = reference.brier_score(y, y, survival, grid)[1]
    scores = metrics.brier_scores(event, time, survival, grid)
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    whole = metrics.survival_scores(event, time, risk, survival, grid)
    assert whole["integrated_brier_score"] == pytest.approx(
        reference.integrated_brier_score(y, y, survival, grid), abs=1e-9
    )


@pytest.mark.parametrize("ties", [False, True])
def test_kaplan_meier_equals_that_of_scikit_survival(ties):
    reference = pytest.importorskip("sksurv.nonparametric")
    event, time, _ = cohort(4, ties=ties)
    curve = metrics.kaplan_meier(event, time)
    times, survival = reference.kaplan_meier_estimator(event, time)
    np.testing.assert_array_equal(curve.times, times)
    np.testing.assert_allclose(curve.survival, survival, atol=1e-12)
    assert curve(np.array([0.0])) == 1
    assert curve(times[-1:] + 1) == curve.survival[-1]


def test_integer_weights_equal_repeated_samples():
    event, time, risk = cohort(5, ties=True)
    weight = np.random.default_rng(0).integers(0, 4, len(time))
    repeated = [np.repeat(each, weight) for each in (event, time, risk)]
    assert metrics.concordance_index(event, time, risk, weight) == pytest.approx(
        metrics.concordance_index(*repeated), abs=1e-12
    )
    curve = metrics.kaplan_meier(event, time, weight)
    np.testing.assert_allclose(
        curve(time), metrics.kaplan_meier(*repeated[:2])(time), atol=1e-12
    )


def test_censoring_of_other_samples_weights_the_scores():
    event, time, risk = cohort(6, ties=False)
    grid = metrics.survival_grid(event, time)
    survival = np.exp(-np.exp(risk)[:, None] * grid / 20)
    own = metrics.brier_scores(event, time, survival, grid)
    same = metrics.brier_scores(event, time, survival, grid, censoring=(event, time))
    np.testing.assert_array_equal(own, same)
    nobody = np.ones_like(event), time
    raw = metrics.brier_scores(event, time, survival, grid, censoring=nobody)
    died = (time[:, None] <= grid) & event[:, None]
    error = survival**2 * died + (1 - survival) ** 2 * (time[:, None] > grid)
    np.testing.assert_allclose(raw, error.mean(0), atol=1e-12)


def test_scores_are_nan_without_comparable_pairs():
    event, time = np.zeros(4), np.arange(1.0, 5.0)
    scores = metrics.survival_scores(
        event, time, np.zeros(4), np.zeros((4, 0)), metrics.survival_grid(event, time)
    )
    assert all(np.isnan(value) for value in scores.values())


@pytest.mark.parametrize(
    ("event", "time", "message"),
    [
        ([0, 2], [1.0, 1.0], "event must be 0 (censored) or 1 (observed), got 2 at"),
        (
            [0, np.nan],
            [1.0, 1.0],
            "event must be 0 (censored) or 1 (observed), got nan",
        ),
        (["no", "yes"], [1.0, 1.0], "event must be 0 (censored) or 1 (observed), got"),
        ([0, 1], [1.0, 0.0], "time must be a number above 0, got 0.0 at sample 1"),
        ([0, 1], [1.0, np.inf], "time must be a number above 0, got inf at sample 1"),
        ([0, 1, 1], [1.0, 2.0], "event and time must have one entry per sample"),
    ],
)
def test_invalid_events_and_times_are_refused(event, time, message):
    with pytest.raises(DataError, match=re.escape(message)):
        metrics.kaplan_meier(np.array(event), np.array(time))


def test_invalid_predictions_and_times_of_scores_are_refused():
    event, time, risk = cohort(7, ties=False)
    with pytest.raises(DataError, match=r"risk must be finite numbers of shape \[80\]"):
        metrics.concordance_index(event, time, np.where(event, np.nan, risk))
    half = np.full((80, 2), 0.5)
    with pytest.raises(DataError, match="times must be ascending numbers above 0"):
        metrics.brier_scores(event, time, half, np.array([2.0, 1.0]))
    with pytest.raises(DataError, match="survival must be finite numbers of shape"):
        metrics.brier_scores(event, time, half, np.array([1.0]))
    with pytest.raises(DataError, match="times must hold at least 2 times, got 1"):
        metrics.integrated_brier_score(event, time, half[:, :1], np.array([1.0]))
    event[time.argmax()] = False
    late = np.array([1.0, np.sort(time)[-2] * 2])
    censoring = event, np.minimum(time, 1.0)
    with pytest.raises(DataError, match="times must be within the follow-up"):
        metrics.brier_scores(event, time, half, late, censoring=censoring)
