"""Documentation of estimators: every parameter and every fitted attribute."""

import inspect
import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

import mmgraph as mg

SMALL = {"members": 1, "hidden_channels": 8, "num_heads": 2, "seed": 0}
SUPERVISED = {**SMALL, "epochs": 1, "experts": ("linear",)}
ESTIMATORS = {
    "FusionClassifier": mg.FusionClassifier(**SUPERVISED),
    "FusionRegressor": mg.FusionRegressor(**SUPERVISED),
    "FusionSurvival": mg.FusionSurvival(**SUPERVISED),
    "FusionRetriever": mg.FusionRetriever(**SMALL, out_channels=4),
    "FusionMatcher": mg.FusionMatcher("a", "b", **SMALL, out_channels=4, epochs=1),
}
# parameters whose meaning depends on the estimator
OWN_MEANING = {"experts", "base_learners", "epochs", "batch_size", "encoders"}

every = pytest.mark.parametrize("name", ESTIMATORS)


def make_data() -> mg.MultimodalData:
    x = np.random.default_rng(0).normal(size=(24, 3))
    arrays = {"a": x, "b": x[:, ::-1]}
    return mg.MultimodalData.from_arrays(arrays, y=(x[:, 0] > 0).astype(int))


def entries(cls: type, section: str) -> dict[str, str]:
    """Return the text of each entry of a section of a docstring, by name."""
    lines = inspect.getdoc(cls).splitlines()
    found: dict[str, list[str]] = {}
    for line in lines[lines.index(f"{section}:") + 1 :]:
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name, text = entry.groups()
            found[name] = [text]
        elif line:
            found[name].append(line.strip())
    return {name: " ".join(texts) for name, texts in found.items()}


@pytest.fixture(scope="module")
def fitted() -> dict[str, BaseEstimator]:
    data = make_data()
    pairs = np.column_stack([data.y, 1 + np.arange(len(data))])
    return {
        name: clone(each).fit(data.replace(y=pairs) if "Survival" in name else data)
        for name, each in ESTIMATORS.items()
    }


def test_every_public_estimator_is_tested():
    classes = [getattr(mg, name) for name in mg.__all__]
    public = {
        each.__name__
        for each in classes
        if inspect.isclass(each) and issubclass(each, BaseEstimator)
    }
    assert public == set(ESTIMATORS)


@every
def test_every_parameter_is_documented_in_order(name):
    cls = getattr(mg, name)
    parameters = list(inspect.signature(cls).parameters)
    assert list(entries(cls, "Args")) == parameters


@every
def test_every_fitted_attribute_is_documented(name, fitted):
    estimator = fitted[name]
    documented = entries(type(estimator), "Attributes")
    public = [a for a in dir(estimator) if a.endswith("_") and not a.startswith("_")]
    assert set(public) <= set(documented)
    optional = {"n_features_in_"}  # of arrays only
    assert set(documented) - optional <= set(public)


@every
@pytest.mark.parametrize("section", ["Example", "References"])
def test_every_estimator_has_an_example_and_references(name, section):
    assert f"\n{section}:\n" in inspect.getdoc(getattr(mg, name))


@pytest.mark.parametrize("section", ["Args", "Attributes"])
def test_equal_names_have_equal_documentation(section):
    texts: dict[str, set[str]] = {}
    for name in ESTIMATORS:
        for entry, text in entries(getattr(mg, name), section).items():
            texts.setdefault(entry, set()).add(text)
    texts.pop("history_", None)  # of matchers only with epochs above 0
    differing = {entry for entry, each in texts.items() if len(each) > 1}
    assert differing <= OWN_MEANING


@every
def test_unknown_parameter_is_refused_with_the_name_of_the_class(name):
    constructor = inspect.unwrap(getattr(mg, name).__init__)  # without type checks
    message = rf"{name}\.__init__\(\) got an unexpected keyword argument 'epoch'"
    with pytest.raises(TypeError, match=message):
        constructor(ESTIMATORS[name], epoch=3)


@every
def test_notebooks_show_parameters_before_and_after_a_fit(name, fitted):
    for estimator, state in (
        (ESTIMATORS[name], "Not fitted"),
        (fitted[name], "Fitted"),
    ):
        html = estimator._repr_html_()
        assert "text/html" in estimator._repr_mimebundle_()
        assert name in html
        assert state in html
        assert "members" in html
