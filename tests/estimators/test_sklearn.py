"""Estimators keep scikit-learn's conventions and work inside its tools."""

from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmgraph import (
    DataError,
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
    "check_sample_weight_equivalence_on_dense_data": (
        "copies of a sample are in several folds of the stacked ensemble, a sample of "
        "weight 2 is in one; samples of weight 0 equal removed ones, see test_weights"
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
@pytest.mark.slow
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


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_sample_may_be_a_dict(kind):
    samples = data()
    ecg = [list(np.arange(3.0 + i % 3)) for i in range(40)]
    arrays = {"ecg": ecg, "note": ["well" if y else "ill" for y in samples.y]}
    more = MultimodalData.from_arrays(arrays)
    frame = pd.DataFrame({"age": np.arange(40.0), "sex": ["f", "m"] * 20})
    table = MultimodalData.from_pandas(frame, modalities={"t": ["age", "sex"]})
    columns = samples.columns | more.columns | table.columns
    samples = MultimodalData.from_columns(columns, y=samples.y)
    estimator = kind(**SMALL).fit(samples)
    sample = {
        "a": samples.columns["a"].values[3],
        "b": None,
        "ecg": ecg[3],
        "note": "well",
        "t": {"sex": "m", "age": 3},
    }
    names = [name for name in samples.modalities if name != "b"]
    one = samples[[3]].select(names)
    note = MultimodalData.from_arrays({"note": ["well"]}).columns
    one = MultimodalData.from_columns(one.columns | note)
    assert np.array_equal(estimator.predict(sample), estimator.predict(one))
    assert estimator.predict({}).shape == (1,)
    with pytest.raises(DataError, match="Modality 'z' must be in the schema"):
        estimator.predict({"z": 1.0})
    with pytest.raises(DataError, match="with modalities a, b, ecg, note, t, got nda"):
        estimator.predict(np.zeros((2, 3)))


def test_unknown_parameters_name_the_class_and_the_most_similar_one():
    message = r"FusionClassifier\(\) got an unexpected keyword argument 'epoch'\. "
    with pytest.raises(TypeError, match=f"{message}Did you mean 'epochs'\\?"):
        FusionClassifier(epoch=3)
    with pytest.raises(ValueError, match=r"'zz' for FusionRegressor\.$"):
        FusionRegressor().set_params(zz=1)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_outputs_have_names_and_inputs_too(kind, tmp_path):
    samples = data()
    estimator = kind(**SMALL).fit(samples)
    assert estimator.n_features_in_ == 2
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    names = estimator.get_feature_names_out().tolist()
    assert names[0] == "member0_state0"
    assert len(set(names)) == len(names) == estimator.transform(samples).shape[1]
    frame = estimator.set_output(transform="pandas").transform(samples)
    assert frame.columns.tolist() == names
    estimator.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.feature_names_in_.tolist() == ["a", "b"]
    assert loaded.n_features_in_ == 2


def test_samples_are_not_an_array():
    samples = data()
    for convert in (
        np.asarray,
        lambda x: BaggingClassifier(n_estimators=1).fit(x, x.y),
    ):
        with pytest.raises(DataError, match=r"cannot be an array.*guide"):
            convert(samples)


@pytest.mark.slow
@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_fits_run_in_workers_of_joblib(prefer):
    samples = data()
    estimators = [FusionClassifier(**SMALL, seed=seed) for seed in range(2)]
    expected = [e.fit(samples).predict_proba(samples) for e in map(clone, estimators)]
    jobs = (delayed(_fit)(estimator, samples) for estimator in estimators)
    for fitted, proba in zip(Parallel(2, prefer=prefer)(jobs), expected, strict=True):
        assert np.array_equal(fitted.predict_proba(samples), proba)
        assert np.array_equal(deepcopy(fitted).predict_proba(samples), proba)


def _fit(estimator: FusionClassifier, samples: MultimodalData) -> FusionClassifier:
    return estimator.fit(samples)
