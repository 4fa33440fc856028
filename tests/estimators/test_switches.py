"""Switches of estimators: graph, base learners, convolutions and encoders."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch_geometric.nn import SAGEConv

from mmgraph import (
    CheckpointError,
    ConfigError,
    FusionClassifier,
    FusionMatcher,
    FusionRegressor,
    MultimodalData,
    MultimodalStream,
)
from mmgraph.nn import Encoded
from mmgraph.serving import export
from mmgraph.workflows.load import load_estimator

SMALL = {"members": 2, "epochs": 1, "hidden_channels": 8, "num_heads": 2}


class Noisy(torch.nn.Module):
    """Encoder with parameters, buffers and dropout."""

    def __init__(self, width=8):
        super().__init__()
        self.norm, self.linear = torch.nn.BatchNorm1d(2), torch.nn.Linear(2, width)
        self.register_buffer("mean", torch.zeros(2))

    def fit(self, x, sample, num_samples):
        self.mean.copy_(x.nanmean(0))

    def forward(self, x, sample, time, num_samples):
        x = torch.where(x.isnan(), 0, x - self.mean)
        h = self.linear(self.norm(x))
        h = torch.nn.functional.dropout(h, 0.5, self.training)
        return Encoded(h, sample, time)


def sage():
    return SAGEConv((8, 8), 8)


PLUGS = {"conv": sage, "encoders": {"a": Noisy(), "b": lambda: Noisy()}}


@pytest.fixture(scope="module")
def data():
    """Samples of which a third lacks a modality, one all, and one a cell."""
    rng, num = np.random.default_rng(0), 60
    y = np.arange(num) % 2
    a, b = rng.normal(size=(2, num, 2)) + y[:, None]
    a[3, 0] = np.nan
    present = np.ones((num, 2), bool)
    present[::6, 0], present[1::6, 1], present[5] = False, False, False
    return MultimodalData.from_arrays({"a": a, "b": b}, y=y, present=present)


@pytest.fixture(scope="module")
def plugged(data):
    clf = FusionClassifier(**SMALL, experts=("linear",), **PLUGS).fit(data)
    clf.model_.beta.fill_(1.0)
    return clf


@pytest.mark.slow
def test_graph_alone_equals_the_level_feature(data):
    level = FusionClassifier(**SMALL, level="feature").fit(data)
    only = FusionClassifier(**SMALL, graph="only").fit(data)
    empty = FusionClassifier(**SMALL, base_learners=()).fit(data)
    for clf in (only, empty):
        assert clf.branch_weights_.keys() == {"graph"}
        assert np.isnan(clf.out_of_fold_score_)
        assert np.array_equal(clf.transform(data), level.transform(data))


def test_without_a_graph_no_network_is_trained(data, tmp_path):
    clf = FusionClassifier(**SMALL, base_learners=("linear",), graph=False).fit(data)
    assert clf.history_.steps == 0
    assert float(clf.model_.beta) == 0
    names = clf.get_feature_names_out()
    assert clf.transform(data).shape == (60, len(names))
    assert names[0] == "a_expert0_output0"
    clf.save_pretrained(tmp_path)
    loaded = load_estimator(tmp_path)
    assert loaded.base_learners == ("linear",)
    assert loaded.graph is False
    assert np.array_equal(loaded.predict_proba(data), clf.predict_proba(data))


def test_own_learner_alone_predicts_as_scikit_learn_does(data):
    """One complete modality: the pool is a scaling of the log-odds."""
    one = data.select(["b"])[np.flatnonzero(data.present[:, 1])]
    learner = LogisticRegression(C=0.1)
    clf = FusionClassifier(**SMALL, base_learners=[learner], graph=False).fit(one)
    weight = clf.branch_weights_["LogisticRegression"]
    x = one.columns["b"].values.astype(np.float64)
    alone = learner.fit(x, one.y).predict_proba(x)
    pool = clf.model_.ensemble.pool
    prior, bias = pool.prior.numpy(), pool.bias.numpy()
    score = prior + bias + weight * (np.log(alone) - prior)
    expected = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(one), expected, atol=1e-5)


def test_own_learners_are_scored_outside_their_fold(data):
    rng = np.random.default_rng(0)
    noise = MultimodalData.from_arrays({"a": rng.normal(size=(60, 2))}, y=data.y)
    nearest = KNeighborsClassifier(1)  # fits every training sample without error
    clf = FusionClassifier(**SMALL, base_learners=[nearest], graph=False).fit(noise)
    assert clf.out_of_fold_score_ < 0.7
    assert not hasattr(nearest, "classes_")  # clones are fitted


def test_own_learners_by_modality_leave_others_at_the_prior(data):
    learners = ["linear", {"b": GaussianNB()}]
    clf = FusionClassifier(**SMALL, base_learners=learners, graph=False).fit(data)
    assert clf.branch_weights_.keys() == {"linear", "GaussianNB", "graph"}
    alone = [{"b": LogisticRegression()}]
    single = FusionClassifier(**SMALL, base_learners=alone, graph=False).fit(data)
    only_a = single.predict_proba(data.select(["a"])[np.arange(1, 5)])
    assert np.allclose(only_a, only_a[0])  # by the pattern of modalities alone
    assert single.score(data) > 0.6


@pytest.mark.slow
def test_weights_reach_own_learners(data):
    weight = np.where(np.arange(60) < 30, 1.0, 0.01)
    options = {**SMALL, "graph": False}
    learners = [RandomForestClassifier(5)]
    fits = [
        FusionClassifier(**options, base_learners=learners).fit(data, sample_weight=w)
        for w in (None, weight, None)
    ]
    first, second, again = (clf.predict_proba(data) for clf in fits)
    assert np.abs(first - second).max() > 0.01
    assert np.array_equal(first, again)  # nothing is drawn from global random state
    clf = FusionClassifier(**options, base_learners=[KNeighborsClassifier()])
    with pytest.raises(ConfigError, match=r"support sample_weight .* KNeighbors"):
        clf.fit(data, sample_weight=weight)


@pytest.mark.slow
def test_own_regressors(data):
    target = data.y * 2.0
    reg = FusionRegressor(**SMALL, base_learners=[Ridge()]).fit(data.replace(y=target))
    assert reg.branch_weights_["Ridge"] > 0
    assert reg.score(data, target) > 0.2
    wide = np.stack([target, 1 - target], 1)
    both = FusionRegressor(**SMALL, base_learners=[Ridge()], graph=False)
    assert both.fit(data, wide).predict(data).shape == (60, 2)


@pytest.mark.slow
def test_own_learners_are_not_saved(data, tmp_path):
    clf = FusionClassifier(**SMALL, base_learners=[LogisticRegression()], graph=False)
    clf.fit(data)
    with pytest.raises(CheckpointError, match=r"got estimators of scikit-learn, which"):
        clf.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ConfigError, match="parts of mmgraph alone to be exported"):
        export(clf, tmp_path / "model.onnx")
    clf = clone(clf).set_params(checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="checkpoint_dir, got estimators"):
        clf.fit(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "yes"}, "graph must be True, False or 'only', got 'yes'"),
        ({"graph": "only", "level": "data"}, "graph must be True or False for level="),
        ({"graph": False, "level": "feature"}, "True or 'only' for level='feature'"),
        ({"graph": False, "base_learners": ()}, r"True or 'only' for base_learners=\("),
        ({"graph": False, "completion": True}, "completion must be False for graph="),
        ({"level": "model", "base_learners": ()}, "a list of base learners for level="),
        ({"base_learners": ["lin"]}, r"names are linear, .*, got \['lin'\]"),
        ({"base_learners": LogisticRegression()}, "a list of names, scikit-learn"),
        ({"base_learners": [Ridge()]}, "classifiers with predict_proba, got Ridge"),
        ({"base_learners": [SVC()]}, "classifiers with predict_proba, got SVC"),
        ({"base_learners": [{"c": LogisticRegression()}]}, r"\(a, b\), got 'c'"),
        ({"encoders": {"c": Noisy()}}, r"of the schema \(a, b\), got 'c'"),
        ({"encoders": {"a": Noisy(4)}}, r"shape \[N, 8\], got \[\d+, 4\] from Noisy"),
        (
            {"encoders": {"a": torch.nn.Linear(2, 8)}},
            r"num_samples\), got Linear",
        ),
    ],
)
def test_what_does_not_suit_is_rejected(data, options, message):
    with pytest.raises(ConfigError, match=message):
        FusionClassifier(**SMALL, **{"base_learners": ("linear",), **options}).fit(data)


def test_several_labels_have_no_own_learners(data):
    clf = FusionClassifier(**SMALL, base_learners=[LogisticRegression()])
    with pytest.raises(ConfigError, match="hold names for several labels"):
        clf.fit(data, np.stack([data.y, 1 - data.y], 1))


@pytest.mark.slow
def test_custom_modules_are_trained_and_repeatable(data, plugged):
    again = clone(plugged).fit(data)
    again.model_.beta.fill_(1.0)
    predicted = plugged.predict_proba(data)
    assert np.array_equal(again.predict_proba(data), predicted)
    assert np.array_equal(plugged.predict_proba(data), predicted)  # without dropout
    given = PLUGS["encoders"]["a"].linear.weight
    fitted = plugged.model_.graph.encoders["a"].copies.get_parameter("linear/weight")
    assert fitted.shape == (2, *given.shape)
    assert (fitted != given).any()
    drawn = plugged.model_.graph.encoders["b"].copies.get_parameter("linear/weight")
    assert (drawn[0] - drawn[1]).abs().max() > 0.01  # each member has its own
    mean = plugged.model_.graph.encoders["b"].copies.get_buffer("mean")
    expected = torch.tensor(data.columns["b"].values).mean(0).expand(2, -1)
    torch.testing.assert_close(mean, expected)


@pytest.mark.slow
def test_custom_modules_are_given_again_to_load(data, plugged, tmp_path):
    plugged.save_pretrained(tmp_path)
    loaded = load_estimator(tmp_path, **PLUGS)
    assert np.array_equal(loaded.predict_proba(data), plugged.predict_proba(data))
    loaded.save_pretrained(tmp_path / "again")
    FusionClassifier.from_pretrained(tmp_path / "again", **PLUGS)
    with pytest.raises(CheckpointError, match=r"conv= of its fit, got none\. It is"):
        load_estimator(tmp_path, encoders=PLUGS["encoders"])
    with pytest.raises(CheckpointError, match="encoders= of modality 'b' of its fit"):
        load_estimator(tmp_path, conv=sage, encoders={"a": Noisy()})
    with pytest.raises(CheckpointError, match="must describe a model"):
        load_estimator(tmp_path, **{**PLUGS, "conv": lambda: SAGEConv((8, 8), 4)})
    with pytest.raises(ConfigError, match="parts of mmgraph alone to be exported"):
        export(plugged, tmp_path / "model.onnx")


def test_custom_modules_of_another_model_are_rejected(data, tmp_path):
    clf = FusionClassifier(**SMALL, experts=("linear",), graph=False).fit(data)
    clf.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="conv must be a custom module of the fit"):
        load_estimator(tmp_path, conv=sage)
    matcher = FusionMatcher(["a"], ["b"], encoders={"a": Noisy()})
    with pytest.raises(ConfigError, match="encoders must name modalities of text"):
        matcher.fit(data)


@pytest.mark.slow
def test_switches_apply_to_streams(tmp_path):
    rng, num = np.random.default_rng(0), 600
    y = np.arange(num) % 2
    a, b = rng.normal(size=(2, num, 6)) + 0.5 * y[:, None]
    data = MultimodalData.from_arrays({"a": a, "b": b}, y=y)
    data.to_parquet(tmp_path / "samples.parquet")
    stream = MultimodalStream.from_parquet(tmp_path / "samples.parquet", memory=2**21)
    clf = FusionClassifier(**SMALL, conv=sage, base_learners=[LogisticRegression()])
    clf.fit(stream)
    assert clf.training_summary_.num_samples < num  # base learners fit a sample
    assert clf.branch_weights_["LogisticRegression"] > 0
    assert clf.score(data) > 0.7
