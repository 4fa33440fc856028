"""Survival estimator: targets, censoring, baseline, saved models and messages."""

import re

import numpy as np
import pytest
import torch

import mmgraph as mg
from mmgraph.experts.boosting import boosted_trees
from mmgraph.experts.forest import fit_forest
from mmgraph.experts.linear import fit_linear
from mmgraph.nn import Survival

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {"members": 1, "epochs": 1, "hidden_channels": 8, "num_heads": 2}


def make_data(num: int = 72, seed: int = 0) -> mg.MultimodalData:
    """Return samples whose hazard depends on both modalities, a third incomplete."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, num, 2))
    time = rng.exponential(np.exp(-1.5 * a[:, 0] - b[:, 0]))
    censored = rng.exponential(2, num)
    present = np.ones((num, 2), bool)
    present[::6, 0], present[1::6, 1], present[5] = False, False, False
    y = np.column_stack([time <= censored, np.minimum(time, censored)])
    return mg.MultimodalData.from_arrays({"a": a, "b": b}, y=y, present=present)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def model(data):
    return mg.FusionSurvival(**SMALL, experts=("linear", "forest", "joint")).fit(data)


def test_risk_orders_new_samples_and_curves_follow_it(model):
    new = make_data(200, seed=1)
    assert model.score(new) > 0.65
    risk, curves = model.predict(new), model.predict_survival_function(new)
    assert curves.shape == (200, len(model.event_times_))
    assert (np.diff(curves, axis=1) <= 0).all()
    assert ((curves >= 0) & (curves <= 1)).all()
    order = risk.argsort()
    assert (np.diff(curves[order], axis=0) <= 1e-12).all()
    expected = model.baseline_.survival ** np.exp(risk[:1, None])
    np.testing.assert_allclose(curves[:1], expected)
    early, late = model.event_times_[0] / 2, model.event_times_[-1] * 2
    ends = model.predict_survival_function(new[:1], [early, late])
    np.testing.assert_allclose(ends, [[1, curves[0, -1]]])


def test_baseline_is_kaplan_meier_and_exposures_sum_to_the_events(model, data):
    event, time = data.y.T
    curve = mg.metrics.kaplan_meier(event, time)
    expected = curve(model.event_times_)
    np.testing.assert_allclose(model.baseline_.survival, expected)
    pairs = model.exposures(data.y)
    assert pairs[:, 1].sum() == pytest.approx(event.sum(), rel=1e-6)
    nothing = data.mask(np.zeros(data.shape, bool))
    np.testing.assert_allclose(model.predict(nothing), 0, atol=1e-6)
    assert model.score(nothing) == 0.5


def test_all_forms_of_targets_are_equal(model, data):
    pytest.importorskip("pandas")
    structured = np.array(
        [(bool(e), t) for e, t in data.y], dtype=[("died", "?"), ("days", "f8")]
    )
    bare = data.replace(y=None)
    for y in (structured, data.y.tolist(), structured[["days", "died"]]):
        assert model.score(bare, y) == model.score(data)
        np.testing.assert_array_equal(bare.replace(y=y).y, data.y)
    again = mg.FusionSurvival(**model.get_params()).fit(bare, structured)
    np.testing.assert_array_equal(again.predict(data), model.predict(data))
    frame = data.to_pandas().rename(columns={"y.0": "died", "y.1": "days"})
    columns = {name: [f"{name}.0", f"{name}.1"] for name in "ab"}
    read = mg.MultimodalData.from_pandas(frame, columns, y=["died", "days"])
    np.testing.assert_array_equal(read.y, data.y)


def test_samples_without_event_or_time_are_left_out(model, data):
    y = data.y.copy()
    y[[3, 7], [0, 1]] = np.nan
    kept = np.delete(np.arange(len(data)), [3, 7])
    small = {**SMALL, "experts": ("linear",), "level": "model"}
    fewer = mg.FusionSurvival(**small).fit(data[kept])
    unknown = mg.FusionSurvival(**small).fit(data.replace(y=y))
    np.testing.assert_array_equal(unknown.predict(data), fewer.predict(data))
    assert unknown.score(data.replace(y=y)) == fewer.score(data[kept])
    assert np.isnan(unknown.exposures(y)[[3, 7]]).all()


def test_a_saved_model_predicts_the_same(model, data, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = mg.FusionSurvival.from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        loaded.predict_survival_function(data), model.predict_survival_function(data)
    )
    assert "Concordance index" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("event_times", lambda x: x[::-1]),
        ("survival", lambda x: [2.0, *x[1:]]),
        ("cumulative_hazard", lambda x: [-1.0, *x[1:]]),
        ("cumulative_hazard", lambda x: x[1:]),
    ],
)
def test_a_damaged_baseline_is_refused(model, key, change):
    config = model._target_config()
    config[key] = change(config[key])
    with pytest.raises(mg.CheckpointError, match="Times of events must ascend from 0"):
        mg.FusionSurvival()._target_from_config(config)


def test_an_evaluation_has_concordance_and_brier_score(model):
    result = mg.evaluate(model, make_data(120, seed=2), [0, 0.6], seeds=1)
    first, second = (row["concordance"] for row in result.rows)
    assert first > second > 0.5
    assert 0 < result.rows[0]["integrated_brier_score"] < 0.25
    assert "concordance index" in repr(result)


def test_contributions_divide_the_log_likelihood(model):
    new = make_data(120, seed=2)
    result = mg.contributions(model, new)
    event, exposure = model.exposures(new.y).T
    risk = model.predict(new)
    full = (event * risk - exposure * np.exp(risk)).mean()
    gain = sum(row["share"] for row in result.rows)
    assert gain == pytest.approx(full + exposure.mean(), abs=1e-6)


def with_y(data, column, value, rows=slice(0, 1)):
    y = data.y.copy()
    y[rows, column] = value
    return data.replace(y=y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: with_y(d, 0, 2.0), "event must be 0 (censored) or 1 (observed)"),
        (lambda d: with_y(d, 1, 0.0), "time must be a number above 0, got 0.0"),
        (lambda d: with_y(d, 1, -3.0), "time must be a number above 0, got -3.0"),
        (
            lambda d: with_y(d, 0, 0.0, slice(None)),
            "fit needs at least one observed event, got only censored samples",
        ),
        (
            lambda d: with_y(d, 0, np.nan, slice(None)),
            "fit needs at least one observed event, got no known target",
        ),
        (
            lambda d: d.replace(y=d.y[:, 0]),
            "y must hold an event and a time per sample",
        ),
        (lambda d: d.replace(y=None), "fit needs labels, got data without y"),
    ],
)
def test_invalid_targets_are_refused(data, change, message):
    with pytest.raises(mg.DataError, match=re.escape(message)):
        mg.FusionSurvival(**SMALL).fit(change(data))


def test_other_structured_arrays_and_times_are_refused(model, data):
    both = np.zeros(len(data), dtype=[("a", "f8"), ("b", "f8")])
    with pytest.raises(
        mg.DataError, match="y must have a field of booleans, the event"
    ):
        mg.FusionSurvival(**SMALL).fit(data, both)
    with pytest.raises(mg.DataError, match=r"times must be finite numbers \[T\]"):
        model.predict_survival_function(data, ["soon"])


def test_estimators_as_base_learners_are_refused(data):
    from sklearn.linear_model import Ridge

    message = "base_learners must hold names for a survival model, got estimators"
    with pytest.raises(mg.ConfigError, match=message):
        mg.FusionSurvival(**SMALL, base_learners=["linear", Ridge()]).fit(data)


def survival_targets(num: int = 400, seed: int = 0):
    """Return features, events, exposures and true log hazards of exponential times."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 2))
    risk = 0.8 * x[:, 0] - 0.4 * x[:, 1]
    time, censored = rng.exponential(np.exp(-risk)), rng.exponential(2, num)
    return x, time <= censored, np.minimum(time, censored), risk


def test_linear_base_learner_is_the_poisson_regression_of_scikit_learn():
    from sklearn.linear_model import PoissonRegressor

    x, event, exposure, _ = survival_targets()
    target = torch.from_numpy(event / exposure)[:, None].float()
    weight, ridge = torch.from_numpy(exposure)[None].float(), torch.tensor([3.0])
    columns = torch.from_numpy(x).float()
    [fitted] = fit_linear(columns, target, weight, ridge, "log", tolerance=1e-7)
    reference = PoissonRegressor(alpha=3 / exposure.sum(), tol=1e-10).fit(
        x, event / exposure, exposure
    )
    np.testing.assert_allclose(fitted[:2, 0], reference.coef_, atol=1e-4)
    assert float(fitted[2, 0]) == pytest.approx(reference.intercept_, abs=1e-4)


@pytest.mark.full_trees
def test_trees_rank_hazards_out_of_bag():
    x, event, exposure, risk = survival_targets()
    y = torch.from_numpy(np.column_stack([event, exposure])).float()
    folds = torch.arange(len(x)) % 5
    columns = torch.from_numpy(x).float()
    [(scores, _)] = fit_forest(columns, y, Survival(), folds, False, 0)
    assert np.corrcoef(scores[:, 0], risk)[0, 1] > 0.6
    assert abs(float(scores.mean())) < 0.5  # hazards, not times, on a log scale
    target = (event / exposure)[:, None].astype(np.float32)
    arguments = x.astype(np.float32), target, Survival(), 0
    trees = boosted_trees(*arguments, exposure.astype(np.float32))
    assert trees is not None
    censored = boosted_trees(x.astype(np.float32), target * 0, Survival(), 0)
    assert censored is None


def test_loss_ignores_unknown_targets_and_is_minimal_at_the_true_hazard():
    task = Survival()
    y = torch.tensor([[1.0, 0.5], [0.0, 1.5], [torch.nan, 1.0]])
    logits = torch.zeros(3, 1, requires_grad=True)
    loss = task.loss(logits, y)
    loss.backward()
    assert loss.item() == 1.0
    np.testing.assert_allclose(logits.grad[:, 0], [-0.25, 0.75, 0])
    assert bool(task.loss(torch.full((3, 1), 1e4), y).isfinite())
