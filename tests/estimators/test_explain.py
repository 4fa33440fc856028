"""Shapley values of modalities."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from mmgraph import (
    DataError,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
    MultimodalStream,
)
from mmgraph.estimators.explain import ORDERS, explain

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL: dict[str, Any] = {"members": 2, "epochs": 1, "experts": ("linear",)}
NUM, NAMES = 40, ("a", "b", "c")
RNG = np.random.default_rng(0)
PRESENT = RNG.random((NUM, 3)) > 0.3
PRESENT[0], PRESENT[1] = True, False
ROWS = {name: RNG.normal(size=(NUM, 2)) for name in NAMES}
Y = (ROWS["a"][:, 0] + ROWS["b"][:, 0] * ROWS["c"][:, 0] > 0).astype(int)


def make(y: Any = Y) -> MultimodalData:
    return MultimodalData.from_arrays(ROWS, y=y, present=PRESENT)


@pytest.fixture(scope="module")
def classifier() -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(make())


def game(data: MultimodalData) -> np.ndarray:
    """Prediction of two numbers with interaction of modalities, equal for all rows."""
    a, b, c = data.present.T.astype(float)
    return np.stack([1 + 2 * a + 4 * b * c, a * b * c - b], axis=1)


def by_definition(present: np.ndarray) -> np.ndarray:
    """The mean over all orders of what each adds to those before it, ``[N, 3, 2]``."""
    values = np.zeros((len(present), 3, 2))
    for order in permutations(range(3)):
        keep = np.zeros_like(present)
        for m in order:
            before = game(make().mask(keep))
            keep[:, m] = True
            values[:, m] += (game(make().mask(keep)) - before) / 6
    return values


def test_values_are_the_mean_over_all_orders():
    explanation = explain(game, make())
    assert explanation.modalities == NAMES
    np.testing.assert_array_equal(explanation.base, [1, 0])
    np.testing.assert_allclose(explanation.values, by_definition(PRESENT), atol=1e-12)
    np.testing.assert_allclose(
        explanation.values[0], [[2, 1 / 3], [2, -2 / 3], [2, 1 / 3]]
    )


def test_random_orders_come_near_and_sum_up_exactly(monkeypatch):
    exact = explain(game, make()).values
    few, many = (explain(game, make(), orders=n).values for n in (1, 400))
    np.testing.assert_allclose(few.sum(1), exact.sum(1), atol=1e-12)
    # an order and its reverse are exact where only pairs interact
    np.testing.assert_allclose(few[..., 0], exact[..., 0], atol=1e-12)
    assert np.abs(many - exact).max() < 0.1
    assert not few[~PRESENT].any()
    other = explain(game, make(), orders=1, seed=5).values
    assert not np.array_equal(few, other)
    monkeypatch.setattr("mmgraph.estimators.explain.MAX_EXACT", 2)
    drawn = explain(game, make(), orders=ORDERS)
    np.testing.assert_array_equal(explain(game, make()).values, drawn.values)


def test_samples_are_asked_about_in_pieces_and_never_twice(monkeypatch):
    asked = []

    def count(data: MultimodalData) -> np.ndarray:
        asked.append(len(data))
        return game(data)

    whole = explain(count, make()).values
    assert asked == [1, (2 ** PRESENT.sum(1)).sum()]
    monkeypatch.setattr(
        "mmgraph.estimators.explain.ASKED_AT_ONCE", 20
    )  # two samples of 8 coalitions
    np.testing.assert_array_equal(explain(count, make()).values, whole)
    assert len(asked) == 2 + 1 + NUM // 2
    assert explain(game, make()[:0]).values.shape == (0, 3, 2)


def test_base_and_values_are_the_probabilities(classifier):
    explanation = classifier.explain(make())
    proba = classifier.predict_proba(make())
    np.testing.assert_allclose(
        explanation.base + explanation.values.sum(1), proba, atol=1e-6
    )
    np.testing.assert_allclose(
        explanation.base, proba[1], atol=1e-7
    )  # nothing observed
    assert not explanation.values[~PRESENT].any()
    assert np.abs(explanation.values[PRESENT]).min() > 0


def test_what_is_left_out_is_missing(classifier):
    explanation = classifier.explain(make().select(["c", "a"]))
    assert explanation.modalities == NAMES
    hidden = make().mask({"b": np.zeros(NUM, bool)})
    np.testing.assert_array_equal(explanation.values, classifier.explain(hidden).values)


def test_a_regressor_explains_in_units_of_its_target():
    y = 1000 + 50 * ROWS["a"][:, 0]
    model = FusionRegressor(**SMALL).fit(make(y))
    explanation = model.explain(make(y))
    assert explanation.values.shape == (NUM, 3, 1)
    assert explanation.base[0] == pytest.approx(y.mean(), rel=1e-6)
    total = explanation.base + explanation.values.sum(1)
    np.testing.assert_allclose(total[:, 0], model.predict(make(y)), rtol=1e-6)


def test_several_labels_are_explained_each():
    labels = np.stack([Y, 1 - Y, ROWS["b"][:, 1] > 0], axis=1)
    model = FusionClassifier(**SMALL).fit(make(labels))
    explanation = model.explain(make())
    total = explanation.base + explanation.values.sum(1)
    np.testing.assert_allclose(total, model.predict_proba(make()), atol=1e-6)


def test_a_stream_is_explained_piece_by_piece(classifier, tmp_path):
    make().to_parquet(tmp_path / "part.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, memory=100)
    explanation, whole = classifier.explain(stream), classifier.explain(make())
    np.testing.assert_allclose(explanation.values, whole.values, atol=1e-7)
    np.testing.assert_array_equal(explanation.base, whole.base)


@pytest.mark.parametrize("orders", [0, -1, True])
def test_orders_must_be_a_number_of_them(classifier, orders):
    with pytest.raises(DataError, match="orders must be a whole number of at least 1"):
        classifier.explain(make(), orders=orders)
