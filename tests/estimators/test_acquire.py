"""Expected information of missing modalities."""

import numpy as np
import pytest

from mmgraph import (
    ConfigError,
    DataError,
    DataWarning,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
)
from mmgraph.acquisition import acquire, class_belief, tilt, value_belief

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {
    "members": 1,
    "epochs": 1,
    "experts": ("linear",),
    "hidden_channels": 4,
    "num_heads": 1,
}
RNG = np.random.default_rng(0)
NAMES = ("a", "b", "noise")


def make(num: int = 200, seed: int = 0, **plain) -> MultimodalData:
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(num, 1))
    arrays = {
        "a": shape + 2 * rng.normal(size=(num, 1)),
        "b": shape + 0.3 * rng.normal(size=(num, 1)),
        "noise": rng.normal(size=(num, 1)),
    }
    plain = {
        "y": (shape[:, 0] > 0).astype(int),
        "ids": np.arange(num) + 1000 * seed,
    } | plain
    return MultimodalData.from_arrays(arrays, **plain)


def hide(data, *names):
    return data.mask({name: np.zeros(len(data), bool) for name in names})


# The belief: its expectation is today's prediction


def distributions(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), size=shape[:-1])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_mean_prediction_is_todays(classes):
    later, today = distributions(50, 20, classes), distributions(50, classes)
    outcomes = class_belief(later, today)
    mean = np.einsum("qj,qjk->qk", outcomes.weights, outcomes.predictions)
    np.testing.assert_allclose(mean, today, atol=1e-6)
    np.testing.assert_allclose(outcomes.weights.sum(1), 1)
    np.testing.assert_allclose(outcomes.predictions.sum(2), 1)
    assert (outcomes.value > 0).all()


def test_predictions_around_todays_are_weighted_and_not_changed():
    later, today = distributions(30, 40, 2), np.full((30, 2), 0.5)
    outcomes = class_belief(later, today)
    np.testing.assert_allclose(outcomes.predictions, later, atol=1e-9)
    # w is of the form exp(lambda p): log weights are linear in p
    logs, p = np.log(outcomes.weights), later[..., 0]
    for i in range(30):
        slope, level = np.polyfit(p[i], logs[i], 1)
        np.testing.assert_allclose(logs[i], slope * p[i] + level, atol=1e-6)


def test_todays_prediction_outside_of_the_hull_shifts_predictions():
    later = np.tile([[0.9, 0.1], [0.7, 0.3]], (1, 5, 1))
    weights, exact = tilt(later - np.array([[[0.2, 0.8]]]))
    assert not exact.any()
    assert np.isfinite(weights).all()
    outcomes = class_belief(later, np.array([[0.2, 0.8]]))
    np.testing.assert_allclose(outcomes.weights, 0.1)
    odds = np.log(outcomes.predictions[0, :2, 0] / outcomes.predictions[0, :2, 1])
    before = np.log(later[0, :2, 0] / later[0, :2, 1])
    assert odds[0] - before[0] == pytest.approx(odds[1] - before[1])


def test_a_modality_that_is_the_label_has_the_value_of_the_entropy():
    today = np.array([[0.3, 0.7], [0.5, 0.5]])
    later = np.tile(np.repeat(np.eye(2), [12, 8], axis=0), (2, 1, 1))
    entropy = -(today * np.log(today)).sum(1)
    np.testing.assert_allclose(class_belief(later, today).value, entropy, rtol=1e-6)


def test_equal_predictions_have_no_value():
    today = distributions(5, 3)
    later = np.repeat(today[:, None], 20, axis=1)
    np.testing.assert_allclose(class_belief(later, today).value, 0, atol=1e-12)


def test_values_of_numbers_are_half_the_variance_in_units_of_the_target():
    later = np.array([[[1.0], [3.0], [5.0]]])
    outcomes = value_belief(np.array([2.0]))(later, np.array([[0.0]]))
    np.testing.assert_allclose(outcomes.predictions[..., 0], [[-2, 0, 2]])
    assert outcomes.value[0] == pytest.approx((8 / 3) / 4 / 2)


# Values of a model


def ignoring(data):
    """Class probabilities that depend on the modalities a and b only."""
    x = {n: np.nan_to_num(v[:, 0].astype(float)) for n, v in data.features().items()}
    p = 1 / (1 + np.exp(-(0.3 * x["a"] + 4 * x["b"])))
    return np.stack([1 - p, p], axis=1)


def test_a_modality_that_the_model_ignores_has_exactly_no_value():
    result = acquire(ignoring, hide(make(20), "b", "noise"), make(seed=1), class_belief)
    assert (result.value[:, 2] == 0).all()
    assert (result.value[:, 1] > 0.1).all()
    assert np.isnan(result.value[:, 0]).all()
    assert result.best == ["b"] * 20
    assert (result.low[:, 1, 1] < 0.3).mean() > 0.9
    assert (result.high[:, 1, 1] > 0.7).mean() > 0.9


@pytest.fixture(scope="module")
def classifier() -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(make())


def test_the_informative_modality_has_the_largest_value(classifier):
    hidden = hide(make(40, seed=2), "b", "noise")
    result = classifier.acquire(hidden, make())
    assert result.modalities == NAMES
    assert result.best.count("b") == 40
    assert np.nanmean(result.value[:, 1]) > 10 * np.nanmean(result.value[:, 2])
    assert result.value.shape == (40, 3)
    assert result.low.shape == (40, 3, 2)
    p = classifier.predict_proba(hidden)
    inside = (result.low[:, 1] <= p + 1e-6) & (p - 1e-6 <= result.high[:, 1])
    assert inside.all()


def test_content_of_the_missing_slot_is_never_read(classifier):
    data = make(30, seed=2)
    one, other = (hide(d, "b") for d in (data, make(30, seed=2, y=None)))
    poisoned = MultimodalData.from_arrays(
        {**data.features(), "b": np.full((30, 1), 1e6)},
        present={
            "a": np.ones(30, bool),
            "b": np.zeros(30, bool),
            "noise": np.ones(30, bool),
        },
        ids=data.ids,
    )
    values = [classifier.acquire(d, make()).value for d in (one, other, poisoned)]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_donors_are_matched_without_the_candidate():
    """A planted fault: matching on the candidate itself makes its value vanish."""
    data, donors = hide(make(30), "b"), make(seed=1)
    result = acquire(ignoring, data, donors, class_belief)
    shuffled = donors.columns["b"].take(np.random.default_rng(0).permutation(200))
    from dataclasses import replace

    other = acquire(
        ignoring,
        data,
        replace(donors, columns={**donors.columns, "b": shuffled}),
        class_belief,
    )
    assert other.value[:, 1].mean() == pytest.approx(result.value[:, 1].mean(), rel=0.3)


def donors_used(data, donors, **options):
    """Return the content of donors that predictions were made with."""
    seen = set()

    def predict(part):
        x = part.features()["b"][:, 0]
        if len(part) == len(data) * options.get("num_donors", 20):
            seen.update(x[~np.isnan(x)].tolist())
        return ignoring(part)

    acquire(predict, data, donors, class_belief, candidates=["b"], **options)
    return seen


def test_a_sample_is_never_its_own_donor_nor_is_one_of_its_group():
    data = make(60)
    first = hide(data[:1], "b")
    own = float(data.features()["b"][0, 0])
    assert own not in donors_used(first, data, num_donors=59)
    assert len(donors_used(first, data, num_donors=59)) == 59
    groups = np.repeat(np.arange(6), 10)
    grouped = data.replace(groups=groups)
    used = donors_used(hide(grouped[:1], "b"), grouped, num_donors=50)
    assert used == set(data.features()["b"][10:, 0].tolist())


def test_too_few_donors_have_no_value():
    donors = make(seed=1).mask({"b": np.arange(200) < 4})
    result = acquire(ignoring, hide(make(10), "b"), donors, class_belief)
    assert np.isnan(result.value).all()
    assert result.best == [None] * 10
    assert result.plan(3) == [[]] * 10


def test_costs_divide_values_and_plans_keep_to_the_budget(classifier):
    hidden = hide(make(10, seed=2), "a", "b", "noise")
    free = classifier.acquire(hidden, make())
    assert free.best == ["b"] * 10
    costly = classifier.acquire(hidden, make(), cost={"b": 1e6})
    np.testing.assert_array_equal(free.value, costly.value)
    assert costly.best == ["a"] * 10
    assert free.plan(1) == [["b"]] * 10
    assert {tuple(plan) for plan in free.plan(2)} == {("b", "a")}
    assert all(len(plan) == 2 for plan in costly.plan(10))
    assert free.plan(0) == [[]] * 10
    with pytest.raises(ConfigError, match="budget must be at least 0, got -1"):
        free.plan(-1)


def test_only_candidates_have_a_value(classifier):
    hidden = hide(make(10, seed=2), "b", "noise")
    result = classifier.acquire(hidden, make(), ["noise"])
    assert np.isnan(result.value[:, 1]).all()
    assert result.best == ["noise"] * 10


def test_a_regressor_has_values_in_units_of_its_target():
    y = 50 + 10 * make().features()["b"][:, 0].astype(float)
    model = FusionRegressor(**SMALL).fit(make().replace(y=y))
    result = model.acquire(hide(make(30, seed=2), "b", "noise"), make())
    assert result.best == ["b"] * 30
    assert result.low.shape == (30, 3, 1)
    assert 20 < result.low[:, 1].mean() < result.high[:, 1].mean() < 80
    assert 0.1 < np.nanmean(result.value[:, 1]) < 0.6  # at most 0.5 on average


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"candidates": ["x"]}, DataError, "candidates"),
        ({"cost": {"x": 1}}, DataError, "cost"),
        ({"cost": {"b": 0}}, ConfigError, "cost must be above 0, got 0 for 'b'"),
        (
            {"num_donors": 2},
            ConfigError,
            "num_donors must be a whole number of at least 5",
        ),
    ],
)
def test_bad_input_is_one_clear_error(classifier, options, error, message):
    with pytest.raises(error, match=message):
        classifier.acquire(hide(make(5), "b"), make(), **options)


def test_donors_must_have_the_candidate(classifier):
    with pytest.raises(DataError, match="donors must have the candidate 'b', got none"):
        classifier.acquire(hide(make(5), "b"), hide(make(), "b"), ["b"])


def test_a_modality_that_no_donor_has_is_reported(classifier):
    with pytest.warns(DataWarning, match="No donor has b: its missing values have no"):
        result = classifier.acquire(hide(make(5, seed=2), "a", "b"), hide(make(), "b"))
    assert np.isnan(result.value[:, NAMES.index("b")]).all()
    assert (result.value[:, NAMES.index("a")] >= 0).all()
