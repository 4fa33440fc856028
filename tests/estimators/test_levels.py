"""Levels of fusion: which base learners and graph networks an estimator has."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from mmgraph import (
    ConfigError,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
    Relation,
    Schema,
)
from mmgraph.experts.links import EXPERT_KINDS, kinds_of_level
from mmgraph.nn import EvidencePool
from mmgraph.nn.evidence_pool import SubmodelPool
from mmgraph.workflows.load import load_estimator

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {"members": 1, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
KINDS = ("linear", "joint")
LEVELS = ("data", "feature", "model")


def make_data(num: int = 48, sequences: bool = False) -> MultimodalData:
    """Return samples of which a third lacks a modality, and one lacks all."""
    rng = np.random.default_rng(0)
    y = np.arange(num) % 2
    a, b = rng.normal(size=(2, num, 2)) + y[:, None]
    arrays = {"a": a, "b": b}
    if sequences:
        arrays["b"] = [row[:, None] + rng.normal(size=(2, 12)).T for row in b[:, :1]]
    present = np.ones((num, 2), bool)
    present[::6, 0], present[1::6, 1], present[5] = False, False, False
    return MultimodalData.from_arrays(arrays, y=y, present=present)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def fitted(data):
    return {
        level: FusionClassifier(**SMALL, experts=KINDS, level=level).fit(data)
        for level in LEVELS
    }


def test_level_chooses_the_kinds_of_base_learners():
    single = ("linear", "spline", "forest", "convolution")
    assert kinds_of_level(EXPERT_KINDS, "all") == EXPERT_KINDS
    assert kinds_of_level(EXPERT_KINDS, "model") == single
    assert set(kinds_of_level(EXPERT_KINDS, "data")) == set(EXPERT_KINDS) - set(single)
    assert kinds_of_level(EXPERT_KINDS, "feature") == ()


def test_model_level_is_the_pool_of_single_base_learners(data, fitted):
    default = FusionClassifier(**SMALL, experts=("linear",)).fit(data)
    default.model_.beta.zero_()
    expected = default.predict_proba(data)
    assert np.array_equal(fitted["model"].predict_proba(data), expected)


def test_each_level_has_what_it_is_named_after(fitted):
    counts = {
        level: (
            [len(each) for each in clf.model_.ensemble.expert_lists],
            len(clf.model_.ensemble.joint),
            clf.history_.steps > 0,
        )
        for level, clf in fitted.items()
    }
    assert counts == {
        "data": ([0, 0], 2, False),
        "feature": ([0, 0], 0, True),
        "model": ([2, 2], 0, False),
    }


def test_base_learners_of_all_modalities_predict_from_one_modality(data, fitted):
    alone = data.select(["a"])
    predicted = fitted["data"].predict_proba(alone)[alone.present[:, 0], 1]
    assert predicted.std() > 0.1  # a weight of 1 - 1/n would give the prior


def test_graph_predicts_from_one_modality(data, fitted):
    fitted["feature"].model_.beta.fill_(1.0)
    alone = data.select(["b"])
    predicted = fitted["feature"].predict_proba(alone)
    prior = predicted[~alone.present[:, 0]]
    assert len(prior)
    assert not np.isclose(predicted[alone.present[:, 0]], prior[0]).any()
    np.testing.assert_allclose(prior, 0.5, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_saved_model_has_its_level(level, data, fitted, tmp_path):
    fitted[level].save_pretrained(tmp_path)
    again = load_estimator(tmp_path)
    assert again.level == level
    assert np.array_equal(again.predict_proba(data), fitted[level].predict_proba(data))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert ("not measured" in card) == (level == "feature")


@pytest.mark.parametrize("level", LEVELS)
def test_transform_returns_states_or_evidence(level, data, fitted):
    clf = fitted[level]
    z, names = clf.transform(data), clf.get_feature_names_out()
    assert z.shape == (len(data), len(names))
    if level == "feature":
        assert names[0] == "member0_state0"
        return
    assert not z[5].any()  # nothing observed
    first = {"data": "joint_expert0_output0", "model": "a_expert0_output0"}
    assert names[0] == first[level]
    assert z[~data.present[:, 0], 0].any() == (level == "data")


@pytest.mark.parametrize("level", LEVELS)
def test_one_array_and_a_regressor(level):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    reg = FusionRegressor(**SMALL | {"epochs": 20}, experts=KINDS, level=level)
    assert reg.fit(x, x[:, 0]).score(x, x[:, 0]) > 0.1


@pytest.mark.slow
def test_submodels_of_single_modalities_predict_alone():
    data = make_data(60, sequences=True)
    clf = FusionClassifier(**SMALL, experts=("submodels",), level="data").fit(data)
    assert isinstance(clf.model_.ensemble.pool, SubmodelPool)
    for name in ("a", "b"):
        alone = data.select([name])
        predicted = clf.predict_proba(alone)[alone.present[:, 0], 1]
        assert predicted.std() > 0.1


@pytest.mark.slow
def test_level_is_chosen_by_a_search(data):
    search = GridSearchCV(
        FusionClassifier(**SMALL, experts=KINDS), {"level": ["data", "model"]}, cv=2
    )
    assert search.fit(data, data.y).best_params_["level"] in ("data", "model")


def test_checkpoint_directory_keeps_base_learners_of_a_level(data, fitted, tmp_path):
    options = {**SMALL, "experts": KINDS, "level": "data"}
    clf = FusionClassifier(**options, checkpoint_dir=tmp_path / "run").fit(data)
    assert np.array_equal(clf.predict_proba(data), fitted["data"].predict_proba(data))


def test_pool_without_base_learners_is_the_prior():
    pool = EvidencePool(2, 0, 3)
    pool.prior.copy_(torch.tensor([0.1, 0.2, 0.3]))
    present = torch.tensor([[True, False], [False, False]])
    evidence = torch.zeros(2, 2, 0, 3)
    assert torch.equal(pool(evidence, present), pool.prior.expand(2, 3))
    assert pool.by_modality(evidence) is None
    assert pool.interaction_weight(present).tolist() == [[1.0], [0.0]]


def test_pool_of_joint_base_learners_weights_them_by_one():
    pool = EvidencePool(2, 0, 3, num_joint=2)
    joint = torch.randn(3, 2, 3)
    present = torch.tensor([[True, False], [True, True], [False, False]])
    scores = pool(torch.zeros(3, 2, 0, 3), present, joint)
    expected = joint.mean(1) * present.any(1, keepdim=True)
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"level": "late"},
            "level must be one of all, data, feature, model, got 'late'",
        ),
        (
            {"level": "data", "experts": ("linear",)},
            "experts must be a list with one of joint, submodels, relations for "
            "level='data', got",
        ),
        (
            {"level": "data", "experts": ("submodels",)},
            "experts must hold 'joint' for level='data' and data without sequences",
        ),
        (
            {"level": "model", "experts": ("joint",)},
            "experts must be a list with an expert of one modality too, got",
        ),
        (
            {"level": "model", "completion": True},
            "completion must be False for level='model', which has no graph networks",
        ),
    ],
)
def test_level_that_lacks_what_it_needs_is_refused(options, message, data):
    with pytest.raises(ConfigError, match=message):
        FusionClassifier(**options).fit(data)


@pytest.mark.parametrize("readout", ["low_rank", "gated", "mean", "attention"])
def test_readouts_combine_modalities(data, readout, tmp_path):
    star = FusionClassifier(**SMALL, experts=("linear",)).fit(data)
    assert star.schema_.readout == ("fuse",)
    model = FusionClassifier(**SMALL, experts=("linear",), readout=readout).fit(data)
    assert model.schema_.readout == ("a", "b")
    assert not model.schema_.relations
    model.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert loaded.readout == readout
    assert np.array_equal(loaded.predict_proba(data), model.predict_proba(data))


def test_schemas_that_read_modalities_are_kept(data):
    relation = Relation("a", "b")
    schema = Schema(data.schema.modalities, (), (relation,), ("b",))
    for given in (data.with_schema(schema), data):
        options = {"readout": "gated", "experts": ("linear",), **SMALL}
        options |= {"schema": schema} if given is data else {}
        model = FusionRegressor(**options).fit(given)
        assert model.schema_.readout == ("b",)
        assert model.schema_.relations == (relation,)


def test_readout_is_chosen_by_search(data):
    grid = {"readout": ["auto", "product"]}
    estimator = FusionClassifier(**SMALL, experts=("linear",))
    search = GridSearchCV(estimator, grid, cv=2).fit(data, data.y)
    assert search.best_params_["readout"] in grid["readout"]
    with pytest.raises(ConfigError, match="readout must be one of auto, fuse, mean"):
        FusionClassifier(readout="bilinear").fit(data)
