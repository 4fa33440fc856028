"""Models of users in the benchmark."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from mmgraph import ConfigError, MultimodalData, evaluate, register_model
from mmgraph.benchmark.models import make_model, model_description, model_names
from mmgraph.benchmark.results import Results
from mmgraph.benchmark.run import run_bench
from mmgraph.config import BenchConfig
from mmgraph.evaluation import registry


class Prior:
    """A model of class frequencies."""

    def __init__(self, seed):
        self.seed = seed

    def fit(self, data):
        self.classes_, counts = np.unique(data.y, return_counts=True)
        self.share = counts / counts.sum()
        return self

    def predict_proba(self, data):
        return np.tile(self.share, (len(data), 1))


def prior(data, seed):
    """Class frequencies.

    More text.
    """
    assert data.y is not None
    return Prior(seed)


@pytest.fixture(autouse=True)
def points(monkeypatch):
    """Empty the registry, and return the list of entry points."""
    found = []
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    return found


@pytest.fixture
def file(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    data = MultimodalData.from_arrays({"a": x, "b": x[:, :1]}, y=y)
    data.to_parquet(tmp_path / "small.parquet")
    return tmp_path / "small.parquet"


def bench(file, *models, jobs=1):
    settings = {"missing": (0.0, 0.5), "folds": 2, "seeds": 1, "jobs": jobs}
    output = file.parent / "bench"
    config = BenchConfig(
        datasets=(str(file),), models=models, output=output, **settings
    )
    return run_bench(config), Results(output).lines()


@pytest.mark.parametrize("jobs", [1, 2])  # other processes do not have the model
def test_registered_models_run_in_the_benchmark(file, jobs):
    register_model("prior", prior)
    outcome, lines = bench(file, "prior", jobs=jobs)
    assert (outcome.finished, outcome.failed) == (2, ())
    assert {line["model"] for line in lines} == {"prior"}
    assert all(line["metrics"]["auroc"] == 0.5 for line in lines)


def test_registered_models_are_optional_and_described():
    register_model("prior", prior)
    assert "prior" not in model_names()
    assert model_names(optional=True)[-1] == "prior"
    assert model_description("prior") == "Class frequencies."


def test_entry_points_are_models(points, file):
    points.append(EntryPoint("packaged", f"{__name__}:prior", registry.GROUP))
    data = MultimodalData.from_parquet(file)
    model = make_model("packaged", data, 3)
    assert (type(model).__name__, model.seed) == ("Prior", 3)
    assert not registry.is_local("packaged")
    assert evaluate(model.fit(data), data, [0]).rows[0]["auroc"] == 0.5


@pytest.mark.parametrize(
    "name", ["mmgraph", "mmgraph_model", "late_logistic", "cca", "prior", "packaged"]
)
def test_taken_names_are_rejected(points, name):
    points.append(EntryPoint("packaged", f"{__name__}:prior", registry.GROUP))
    register_model("prior", prior)
    register_model("prior", prior)  # the same again changes nothing
    with pytest.raises(ConfigError, match=rf"got '{name}', which is taken\. Choose"):
        register_model(name, lambda data, seed: Prior(seed))


def test_entry_points_with_taken_names_are_rejected(points, file):
    points.append(EntryPoint("blend", f"{__name__}:prior", registry.GROUP))
    with pytest.raises(ConfigError, match=r"got 'blend' of .*, which is taken\. Unin"):
        bench(file, "blend")


@pytest.mark.parametrize("name", ["", "a b", "a|b", "-a", 3])
def test_other_names_are_rejected(name):
    with pytest.raises(ConfigError, match="name must be letters, digits"):
        register_model(name, prior)


def test_what_is_no_model_is_rejected(points, file):
    with pytest.raises(ConfigError, match=r"function \(data, seed\) .*, got int"):
        register_model("three", 3)
    register_model("three", lambda data, seed: 3)
    outcome, _ = bench(file, "three")
    assert "must return a model with fit, got int" in outcome.failed[0]
    points.append(EntryPoint("text", f"{__name__}:__name__", registry.GROUP))
    outcome, _ = bench(file, "text")
    assert "Entry point 'text' must be a function" in outcome.failed[0]
