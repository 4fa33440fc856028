"""Estimators keep scikit-learn's conventions and work inside its tools."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmgraph import (
    FusionClassifier,
    FusionMatcher,
    FusionRegressor,
    FusionRetriever,
    MultimodalData,
)

SMALL: dict[str, Any] = {
    "members": 2,
    "epochs": 1,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear",),
}
ESTIMATORS = (FusionClassifier, FusionRegressor)


def arrays(num: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 3))
    return x, (x[:, 0] > 0).astype(int)


def data(num: int = 40) -> MultimodalData:
    x, y = arrays(num)
    groups = np.arange(num) // 4
    return MultimodalData.from_arrays({"a": x, "b": -x[:, :2]}, y=y, groups=groups)


EXPECTED_FAILURES = {
    "check_do_not_raise_errors_in_init_or_set_params": (
        "the tests check the types of arguments when they run; users' runs do not"
    ),
}


# these compare float32 states near zero to 1e-7; test_embedding compares them to 1e-6
TO_THE_LAST_BIT = (
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
)


def _absent(self):
    raise AttributeError("transform")


class OnlyClassifier(FusionClassifier):
    """A classifier without states."""


class OnlyRegressor(FusionRegressor):
    """A regressor without states."""


# scikit-learn wraps a `transform` that a class has when it is made
OnlyClassifier.transform = OnlyRegressor.transform = property(_absent)
WITHOUT_STATES = {FusionClassifier: OnlyClassifier, FusionRegressor: OnlyRegressor}


@parametrize_with_checks(
    [kind(**SMALL) for kind in ESTIMATORS],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_check(estimator, check):
    if check.func.__name__ in TO_THE_LAST_BIT:
        estimator = WITHOUT_STATES[type(estimator)](**SMALL)
    check(estimator)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_read_set_and_cloned(kind):
    estimator = kind(**SMALL, seed=3)
    assert {k: estimator.get_params()[k] for k in SMALL} == SMALL
    other = clone(estimator.set_params(members=3))
    assert other is not estimator
    assert other.get_params() == estimator.get_params()
    assert other.members == 3
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        estimator.set_params(colour=1)
    assert "seed=3" in repr(estimator)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_estimator_that_is_not_fitted_is_refused(kind, tmp_path):
    with pytest.raises(NotFittedError, match=f"This {kind.__name__} instance is not"):
        kind().predict(data())
    with pytest.raises(NotFittedError, match=f"This {kind.__name__} instance is not"):
        kind().save_pretrained(tmp_path)


@pytest.mark.slow
def test_cross_validation_indexes_multimodal_data():
    samples = data()
    scores = cross_val_score(FusionClassifier(**SMALL), samples, samples.y, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.8
    groups = samples.groups
    grouped = cross_val_score(
        FusionClassifier(**SMALL), samples, samples.y, groups=groups, cv=GroupKFold(2)
    )
    assert grouped.mean() > 0.8
    scores = cross_val_score(FusionRegressor(**SMALL), samples, samples.y, cv=2)
    assert scores.mean() > 0


def test_estimator_is_the_end_of_a_pipeline_and_of_a_search():
    x, y = arrays()
    pipeline = make_pipeline(StandardScaler(), FusionClassifier(**SMALL)).fit(x, y)
    assert pipeline.score(x, y) > 0.8
    search = GridSearchCV(FusionClassifier(**SMALL), {"members": [1, 2]}, cv=2)
    samples = data()
    assert search.fit(samples, samples.y).best_params_["members"] in (1, 2)
    assert search.predict_proba(samples).shape == (40, 2)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_array_may_have_missing_cells_and_rows(kind):
    x, y = arrays()
    x[3, 1], x[5] = np.nan, np.nan
    estimator = kind(**SMALL).fit(x, y)
    assert estimator.n_features_in_ == 3
    predicted = estimator.predict(x)
    assert predicted.shape == (40,)
    assert np.isfinite(predicted).all()
    assert estimator.score(x, y) > 0.3


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_missing_labels_of_an_array_are_left_out(kind):
    x, y = arrays()
    holes = y.astype(float)
    holes[:4] = np.nan
    left = kind(**SMALL).fit(x[4:], y[4:].astype(float))
    assert np.array_equal(kind(**SMALL).fit(x, holes).predict(x), left.predict(x))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_names_of_a_frame_are_remembered(kind):
    x, y = arrays()
    frame = pd.DataFrame(x, columns=["u", "v", "w"])
    estimator = kind(**SMALL).fit(frame, y)
    assert estimator.feature_names_in_.tolist() == ["u", "v", "w"]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[["v", "u", "w"]])


def test_column_of_classes_is_read_as_a_row():
    x, y = arrays()
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = FusionClassifier(**SMALL).fit(x, y[:, None])
    row = FusionClassifier(**SMALL).fit(x, y)
    assert np.array_equal(column.predict_proba(x), row.predict_proba(x))


def test_values_too_large_for_32_bits_are_refused():
    x, y = arrays()
    with pytest.raises(ValueError, match="Modality 'x' must be finite or NaN in float"):
        FusionClassifier(**SMALL).fit(1e300 * x, y)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        FusionClassifier(**SMALL).fit(np.where(x > 1, np.inf, x), y)


@pytest.mark.parametrize("kind", [*ESTIMATORS, FusionMatcher, FusionRetriever])
def test_constructor_keeps_just_its_arguments(kind):
    given = {"members": 7, "experts": ["linear"], "hidden_channels": 5}
    estimator = kind(**given)
    assert vars(estimator) == estimator.get_params()
    assert estimator.experts is given["experts"]
    assert clone(estimator).get_params() == estimator.get_params()
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        kind(width=5)


class Seeded(FusionRetriever):
    """A retriever with a constructor of its own."""

    def __init__(self, *, seed: int = 3, note: str = "") -> None:
        super().__init__(seed=seed, members=2)
        self.note = note


def test_constructor_of_a_subclass_keeps_its_own_arguments():
    estimator = clone(Seeded(note="mine"))
    assert estimator.get_params() == {"seed": 3, "note": "mine"}
    assert (estimator.members, estimator.out_channels) == (2, 256)
