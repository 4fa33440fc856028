"""The invariants on every estimator and baseline, from fit to prediction."""

import inspect
from functools import cache

import numpy as np
import pytest
import torch

import mmgraph
from mmgraph import MultimodalData
from mmgraph.baselines import BASELINES

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {"members": 2, "epochs": 2, "hidden_channels": 8, "num_heads": 2}
BUILDERS = {
    "FusionClassifier": lambda seed: mmgraph.FusionClassifier(
        **SMALL, experts=("linear",), seed=seed
    ),
    "FusionClassifier-completion": lambda seed: mmgraph.FusionClassifier(
        **SMALL, completion=True, feed_forward="mixture", seed=seed
    ),
    **{
        f"FusionClassifier-{level}": lambda seed, level=level: mmgraph.FusionClassifier(
            **SMALL, level=level, experts=("linear", "joint"), seed=seed
        )
        for level in ("data", "feature", "model")
    },
    "FusionRegressor": lambda seed: mmgraph.FusionRegressor(**SMALL, seed=seed),
    "FusionSurvival": lambda seed: mmgraph.FusionSurvival(**SMALL, seed=seed),
    "FusionRetriever": lambda seed: mmgraph.FusionRetriever(**SMALL, seed=seed),
    "FusionRetriever-closed": lambda seed: mmgraph.FusionRetriever(
        supervision="labels", experts=("linear",), seed=seed
    ),
    "FusionMatcher": lambda seed: mmgraph.FusionMatcher(
        **SMALL, left=["labs", "ecg"], right=["text"], seed=seed
    ),
    **{
        name: lambda seed, kind=kind: kind(seed=seed)
        for name, kind in BASELINES.items()
    },
}
NUM, TRAIN = 44, 32
NAMES = ("labs", "ecg", "text")
CONTENTS = (np.nan, np.inf, -np.inf, 1e30, 5e-324)

every = pytest.mark.parametrize("name", BUILDERS)


def make_present() -> np.ndarray:
    """Return a mask with corners: all, one modality, nothing at all."""
    present = np.random.default_rng(3).random((NUM, 3)) > 0.25
    present[[0, TRAIN]] = True
    present[[1, TRAIN + 1]] = [True, False, False]
    present[[2, TRAIN + 2, TRAIN + 3]] = False
    return present


def make_data(content: float = 0.5) -> MultimodalData:
    """Return 44 samples; ``content`` fills, with its times, what is not present."""
    rng, present = np.random.default_rng(0), make_present()
    y = rng.integers(0, 2, NUM)
    labs = rng.normal(size=(NUM, 3)) + y[:, None]
    labs[4, 1] = np.nan  # a missing cell of an observed row
    text = rng.normal(size=(NUM, 4)) - y[:, None]
    lengths = [1 + i % 5 * 6 for i in range(NUM)]
    ecg = [rng.normal(size=(n, 2)) + label for n, label in zip(lengths, y, strict=True)]
    times = [np.arange(n) / 2 for n in lengths]
    labs[~present[:, 0]], text[~present[:, 2]] = content, content
    for i in np.flatnonzero(~present[:, 1]):
        ecg[i], times[i] = np.full_like(ecg[i], content), np.full(lengths[i], content)
    arrays = {"labs": labs, "ecg": ecg, "text": text}
    return MultimodalData.from_arrays(
        arrays, y=y, times={"ecg": times}, present=present
    )


def fit(name: str, data: MultimodalData, seed: int = 0) -> object:
    """Fit on the first samples, with a weight of the graph of retriever and matcher."""
    if name == "FusionSurvival":  # cases have their event earlier
        time = 1 + np.random.default_rng(5).exponential(size=len(data)) - data.y / 2
        data = data.replace(y=np.column_stack([np.arange(len(data)) % 3 > 0, time]))
    estimator = BUILDERS[name](seed).fit(data[:TRAIN])
    if name in ("FusionRetriever", "FusionMatcher"):
        estimator.model_.beta.fill_(0.5)
    return estimator


@cache
def fitted(name: str) -> object:
    """Return the estimator fitted on clean data, the same one for all tests."""
    with torch.random.fork_rng(devices=[]):
        return fit(name, make_data())


def predict(estimator: object, data: MultimodalData) -> np.ndarray:
    """Return probabilities, or values of a regressor, or embeddings.

    What has no embedding, all NaN, is shown as zero.
    """
    if isinstance(estimator, mmgraph.FusionRetriever):
        z = estimator.embed(data)
        nothing = np.isnan(z).all(1)
        assert np.array_equal(nothing, ~data.present.any(1))
        return np.where(nothing[:, None], 0, z)
    if isinstance(estimator, mmgraph.FusionMatcher):
        return estimator.predict_proba(data, data)
    predicted = getattr(estimator, "predict_proba", estimator.predict)(data)
    assert len(predicted) == len(data)
    return predicted


def test_every_public_estimator_has_a_case():
    public = {
        name
        for name in mmgraph.__all__
        if inspect.isclass(value := getattr(mmgraph, name)) and hasattr(value, "fit")
    }
    assert public <= {name.split("-")[0] for name in BUILDERS}
    assert {"FusionClassifier", "FusionRegressor"} <= public
    assert set(BASELINES) <= set(BUILDERS)


@every
def test_content_that_is_not_present_changes_no_bit(name):
    test = make_data()[TRAIN:]
    expected = predict(fitted(name), test)
    for content in CONTENTS:
        poisoned = make_data(content)
        assert np.array_equal(predict(fitted(name), poisoned[TRAIN:]), expected)
    assert np.array_equal(predict(fit(name, poisoned), test), expected)


@every
def test_masking_a_modality_equals_removing_it(name):
    test = make_data()[TRAIN:]
    for i, modality in enumerate(NAMES):
        present = np.ones(test.shape, bool)
        present[1:, i] = False  # the first sample keeps it, and so its width
        arrays = {key: _rows(test, key) for key in NAMES}
        times = {"ecg": _times(test)}
        arrays[modality][1:] = [None] * (len(test) - 1)
        if modality == "ecg":
            times["ecg"][1:] = [None] * (len(test) - 1)
        removed = MultimodalData.from_arrays(arrays, times=times)
        masked = predict(fitted(name), test.mask(present))
        assert np.array_equal(predict(fitted(name), removed), masked)


@pytest.mark.parametrize(
    "name",
    list(BUILDERS),
)
def test_modality_that_nobody_has_may_be_given_as_none(name):
    test = make_data()[TRAIN:]
    present = np.ones(test.shape, bool)
    present[:, 0] = False
    arrays = {"ecg": _rows(test, "ecg"), "text": _rows(test, "text")}
    arrays = {"labs": [None] * len(test), **arrays}
    removed = MultimodalData.from_arrays(arrays, times={"ecg": _times(test)})
    masked = predict(fitted(name), test.mask(present))
    assert np.array_equal(predict(fitted(name), removed), masked)


@pytest.mark.parametrize("name", ["FusionClassifier", "FusionRegressor"])
@pytest.mark.parametrize("modality", NAMES)
def test_every_modality_matters(name, modality):
    test = make_data()[TRAIN:]
    without = test.mask(np.array([[m != modality for m in NAMES]] * len(test)))
    predicted = predict(fitted(name), test), predict(fitted(name), without)
    assert not np.array_equal(*predicted)


def _rows(data: MultimodalData, name: str) -> list[np.ndarray | None]:
    column = data.columns[name]
    single = name != "ecg"
    parts = np.split(column.values, column.offsets[1:-1])
    return [None if not len(p) else (p[0] if single else p) for p in parts]


def _times(data: MultimodalData) -> list[np.ndarray | None]:
    column = data.columns["ecg"]
    assert column.time is not None
    parts = np.split(column.time, column.offsets[1:-1])
    return [p if len(p) else None for p in parts]


@every
def test_sample_alone_equals_sample_among_others(name):
    test = make_data()[TRAIN:]
    together = predict(fitted(name), test)
    for group in ([0], [1], [2], [5], [4, 7], [6, 6, 1]):
        alone = predict(fitted(name), test[np.array(group)])
        np.testing.assert_allclose(alone, together[group], atol=1e-6, rtol=0)


EXPLAINING = [
    name
    for name in BUILDERS
    if hasattr(getattr(mmgraph, name.split("-")[0], None), "explain")
]


@pytest.mark.parametrize("name", EXPLAINING)
def test_what_is_explained_is_what_is_predicted(name):
    estimator, test = fitted(name), make_data()[TRAIN:]
    explanation = estimator.explain(test)
    predicted = predict(estimator, test).reshape(len(test), -1)
    np.testing.assert_allclose(
        explanation.base + explanation.values.sum(1), predicted, atol=1e-6
    )
    assert not explanation.values[~test.present].any()
    for content in CONTENTS:
        poisoned = estimator.explain(make_data(content)[TRAIN:])
        assert np.array_equal(poisoned.values, explanation.values)
    for group in ([0], [1], [4, 7], [6, 6, 1]):
        alone = estimator.explain(test[np.array(group)]).values
        np.testing.assert_allclose(alone, explanation.values[group], atol=1e-6, rtol=0)


@every
def test_order_of_samples_does_not_matter(name):
    test = make_data()[TRAIN:]
    order = np.random.default_rng(1).permutation(len(test))
    moved = predict(fitted(name), test[order])
    expected = predict(fitted(name), test)[order]
    np.testing.assert_allclose(moved, expected, atol=1e-6, rtol=0)


@every
def test_order_of_modalities_does_not_matter(name):
    test = make_data()[TRAIN:]
    moved = predict(fitted(name), test.select(["text", "ecg", "labs"]))
    expected = predict(fitted(name), test)
    np.testing.assert_allclose(moved, expected, atol=1e-6, rtol=0)


@every
def test_nothing_observed_is_one_finite_prediction(name):
    data = make_data()
    nothing = data[TRAIN:].mask(np.zeros((NUM - TRAIN, 3), bool))
    predicted = predict(fitted(name), nothing)
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(
        predicted, np.broadcast_to(predicted[:1], predicted.shape), atol=1e-6
    )
    among_others = predict(fitted(name), data[TRAIN:])[2]
    np.testing.assert_allclose(among_others, predicted[0], atol=1e-6)


@pytest.mark.parametrize("name", [n for n in BUILDERS if "Classifier" in n])
def test_nothing_observed_is_the_class_frequency(name):
    data = make_data()[:TRAIN]
    nothing = data.mask(np.zeros(data.shape, bool))
    counts = np.bincount(data.y) + 0.5
    share = counts / counts.sum()
    np.testing.assert_allclose(predict(fitted(name), nothing)[0], share, atol=1e-6)


def test_nothing_observed_is_the_mean_target():
    data = make_data()[:TRAIN]
    nothing = data.mask(np.zeros(data.shape, bool))
    predicted = predict(fitted("FusionRegressor"), nothing)[0]
    np.testing.assert_allclose(predicted, data.y.mean(), atol=1e-6)


def test_nothing_observed_is_the_kaplan_meier_curve():
    estimator, data = fitted("FusionSurvival"), make_data()[TRAIN:]
    nothing = data.mask(np.zeros(data.shape, bool))
    curves = estimator.predict_survival_function(nothing)
    expected = np.broadcast_to(estimator.baseline_.survival, curves.shape)
    np.testing.assert_allclose(curves, expected, atol=1e-6)


@every
def test_probabilities_sum_to_one(name):
    predicted = predict(fitted(name), make_data())
    assert np.isfinite(predicted).all()
    if predicted.ndim == 2 and not name.startswith("FusionRetriever"):
        np.testing.assert_allclose(predicted.sum(1), 1, atol=1e-6)
        assert (predicted >= 0).all()


@every
def test_same_seed_gives_same_bits(name):
    data, before = make_data(), np.random.get_state()[1].copy()  # noqa: NPY002
    state = torch.random.get_rng_state()
    expected = predict(fitted(name), data)
    torch.manual_seed(777)
    moved = torch.random.get_rng_state()
    again = fit(name, data)
    assert np.array_equal(predict(again, data), expected)
    assert torch.equal(torch.random.get_rng_state(), moved)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    torch.random.set_rng_state(state)


@pytest.mark.parametrize("name", ["FusionClassifier", "FusionRegressor"])
def test_another_seed_gives_another_model(name):
    data = make_data()
    other = predict(fit(name, data, seed=1), data)
    assert not np.array_equal(other, predict(fitted(name), data))


@pytest.mark.parametrize("name", ["FusionClassifier", "FusionRegressor"])
def test_number_of_threads_does_not_matter(name):
    data, one = make_data(), predict(fitted(name), make_data())
    torch.set_num_threads(2)
    np.testing.assert_allclose(predict(fitted(name), data), one, atol=1e-6, rtol=0)
