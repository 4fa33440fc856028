"""Baselines with modality dropout, and their blend."""

import numpy as np
import pytest

from mmgraph import MultimodalData
from mmgraph.baselines import BASELINES, Blend, LogisticDropout
from mmgraph.metrics import log_loss
from mmgraph.missing import leave_out, mcar

AUGMENTED = ("logistic_drop", "extra_trees_drop", "boosting_drop")


def make_data(num_samples=150, seed=0):
    """Modality `a` is strong, `b` and `c` are weaker copies of it."""
    rng = np.random.default_rng(seed)
    y = np.arange(num_samples) % 2
    noise = {"a": 0.3, "b": 2.0, "c": 2.0}
    arrays = {
        name: (2 * y - 1)[:, None] + scale * rng.normal(size=(num_samples, 2))
        for name, scale in noise.items()
    }
    return MultimodalData.from_arrays(arrays, y=y)


class Recorder:
    """Classifier that keeps what it is fitted on."""

    def fit(self, x, y):
        self.x, self.y = x, y
        return self


def test_training_rows_are_used_six_times_and_never_empty(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(LogisticDropout, "_make", lambda self, y: recorder)
    LogisticDropout(seed=3).fit(make_data(50))
    assert recorder.x.shape == (6 * 50, 3 * 2 + 3)
    assert np.array_equal(recorder.y, np.tile(np.arange(50) % 2, 6))
    missing = recorder.x[:, -3:].astype(bool)
    assert not missing[:50].any()
    assert not missing.all(axis=1).any()
    # a mean rate of 0.45 before one modality of each row is kept
    assert 0.3 < missing[50:].mean() < 0.45
    assert (recorder.x[:, :2][missing[:, 0]] == 0).all()


@pytest.mark.parametrize("name", AUGMENTED)
def test_dropout_is_reproducible_and_depends_on_the_seed(name, few_trees):
    data, test = make_data(), make_data(40, 1)
    test = leave_out("a").plan(test).apply(test)
    first, second, other = (
        BASELINES[name](seed=seed).fit(data).predict_proba(test) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("name", "plain", "least"),
    [
        ("logistic_drop", "mean_logistic", 0.01),
        ("boosting_drop", "hist_gradient_boosting", 0.05),
    ],
)
def test_dropout_helps_where_the_strong_modality_is_missing(name, plain, least):
    data, test = make_data(300), make_data(300, 1)
    hidden = leave_out("a").plan(test).apply(test)
    scores = [
        log_loss(test.y, BASELINES[kind]().fit(data).predict_proba(hidden))
        for kind in (name, plain)
    ]
    assert scores[0] < scores[1] - least


def test_blend_is_the_mean_of_its_three_members():
    data = mcar(0.3).plan(make_data()).apply(make_data())
    test = make_data(40, 1)
    members = ("late_logistic", "logistic_drop", "boosting_drop")
    proba = [BASELINES[m](seed=4).fit(data).predict_proba(test) for m in members]
    np.testing.assert_allclose(
        Blend(seed=4).fit(data).predict_proba(test), np.mean(proba, axis=0)
    )
