"""Constraints on the parameters of estimators."""

import inspect

import numpy as np
import pytest

import mmgraph as mg
from mmgraph.estimators.validation import CONSTRAINTS, PAIR_CONSTRAINTS, check_params

CLASSES = [
    mg.FusionClassifier,
    mg.FusionRegressor,
    mg.FusionRetriever,
    mg.FusionMatcher,
    mg.FusionSurvival,
]
UNCONSTRAINED = {"completion", "device", "left", "right"}  # or checked elsewhere


@pytest.mark.parametrize("cls", CLASSES)
def test_every_parameter_has_a_constraint_that_its_default_satisfies(cls):
    parameters = set(inspect.signature(cls).parameters) - UNCONSTRAINED
    assert parameters <= set(cls._constraints)
    check_params(cls().get_params(deep=False), cls._constraints)


def test_every_constraint_belongs_to_a_parameter():
    names = {name for cls in CLASSES for name in inspect.signature(cls).parameters}
    assert set(CONSTRAINTS) | set(PAIR_CONSTRAINTS) <= names


@pytest.mark.parametrize(
    ("cls", "option", "value", "message"),
    [
        (mg.FusionRetriever, "epochs", -1, "None or a whole number of at least 0, got"),
        (mg.FusionMatcher, "epochs", 0.5, "None or a whole number of at least 0, got"),
        (mg.FusionClassifier, "epochs", 0, "None or a whole number above 0, got 0"),
        (mg.FusionMatcher, "negatives", 0, "a whole number above 0, got 0"),
        (mg.FusionRetriever, "contrast_size", 0, "None or a whole number above 0"),
        (mg.FusionRetriever, "aligned", "image", "None or a list of modalities, got"),
        (mg.FusionRetriever, "hubness", ["csls"], "one of none, csls, inverted_softm"),
        (
            mg.FusionClassifier,
            "seed",
            True,
            r"a whole number from 0 to 2\*\*32 - 1, got T",
        ),
        (mg.FusionClassifier, "checkpoint_dir", 3, "the path of a folder, or None"),
        (mg.FusionClassifier, "missing_rate", np.nan, "between 0 and 1, got nan"),
    ],
)
def test_invalid_values_are_refused(cls, option, value, message):
    params = cls().set_params(**{option: value}).get_params(deep=False)
    with pytest.raises(mg.ConfigError, match=f"{option} must be {message}"):
        check_params(params, cls._constraints)


def test_numpy_scalars_are_valid():
    estimator = mg.FusionRetriever().set_params(
        epochs=np.int64(0), verbose=np.True_, learning_rate=np.float32(0.1)
    )
    check_params(estimator.get_params(deep=False), estimator._constraints)
