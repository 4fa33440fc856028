"""Sample weights and class weights in fit and score."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score

from mmgraph import (
    ConfigError,
    DataError,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
    MultimodalStream,
)
from mmgraph.distributed import SINGLE_PROCESS
from mmgraph.estimators import base
from mmgraph.train import History

SMALL = {"members": 2, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
LINEAR = {**SMALL, "experts": ("linear",)}
KINDS = (FusionClassifier, FusionRegressor)


def make(num: int = 60, seed: int = 0) -> MultimodalData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 4))
    y = (x[:, 0] + x[:, 2] + rng.normal(size=num) > 0.8).astype(int)
    return MultimodalData.from_arrays({"a": x[:, :2], "b": x[:, 2:]}, y=y)


def nothing(data: MultimodalData) -> MultimodalData:
    return data.mask(np.zeros(data.shape, dtype=bool))[:1]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_weight_zero_equal_removed_ones(kind):
    data = make()
    weight = (np.arange(60) % 3 > 0).astype(float)
    weighted = kind(**LINEAR).fit(data, sample_weight=weight)
    removed = kind(**LINEAR).fit(data[weight > 0], sample_weight=weight[weight > 0])
    assert np.array_equal(weighted.predict(data), removed.predict(data))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_change_nothing(kind):
    data = make()
    options = {**SMALL, "experts": ("linear", "spline", "joint")}
    plain, ones = kind(**options).fit(data), kind(**options)
    ones.fit(data, sample_weight=np.ones(60))
    np.testing.assert_allclose(ones.predict(data), plain.predict(data), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("experts", [("linear",), ("forest",), ("linear", "joint")])
def test_every_part_follows_the_heavy_samples(experts):
    """The sign of the effect is opposite in the two halves of the samples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2))
    half = np.arange(150) % 2 == 0
    y = np.where(half, x[:, 0], -x[:, 0]) > 0
    data = MultimodalData.from_arrays({"a": x[:, :1], "b": x[:, 1:]}, y=y.astype(int))
    weight = np.where(half, 0.1, 10)
    clf = FusionClassifier(**{**SMALL, "experts": experts})
    clf.fit(data, sample_weight=weight)
    assert clf.score(data, sample_weight=weight) > 0.9
    assert clf.score(data[weight > 1]) > 0.9


def test_the_prior_counts_weights():
    data, weight = make(), np.arange(60.0)
    clf = FusionClassifier(**LINEAR).fit(data, sample_weight=weight)
    share = (weight[data.y == 1].sum() + 0.5) / (weight.sum() + 1)
    assert clf.predict_proba(nothing(data))[0, 1] == pytest.approx(share, abs=1e-6)
    reg = FusionRegressor(**LINEAR).fit(data, sample_weight=weight)
    mean = np.average(data.y, weights=weight)
    assert reg.predict(nothing(data))[0] == pytest.approx(mean, abs=1e-6)


def test_balanced_classes_have_equal_priors():
    data = make(200)
    clf = FusionClassifier(**LINEAR, class_weight="balanced").fit(data)
    assert clf.predict_proba(nothing(data))[0] == pytest.approx([0.5, 0.5], abs=1e-6)
    by_hand = len(data) / (2 * np.bincount(data.y))
    given = dict(enumerate(by_hand.tolist()))
    same = FusionClassifier(**LINEAR, class_weight=given).fit(data)
    weighted = FusionClassifier(**LINEAR).fit(data, sample_weight=by_hand[data.y])
    for other in (same, weighted):
        assert np.array_equal(other.predict_proba(data), clf.predict_proba(data))
    plain = FusionClassifier(**LINEAR).fit(data)
    assert clf.predict_proba(data)[:, 1].mean() > plain.predict_proba(data)[:, 1].mean()


def test_class_weights_multiply_sample_weights_and_are_saved(tmp_path):
    data, weight = make(), 1 + np.arange(60) % 3
    clf = FusionClassifier(**LINEAR, class_weight={1: 4.0})
    clf.fit(data, sample_weight=weight)
    product = FusionClassifier(**LINEAR)
    product.fit(data, sample_weight=weight * np.where(data.y == 1, 4, 1))
    assert np.array_equal(clf.predict_proba(data), product.predict_proba(data))
    clf.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert loaded.class_weight == {1: 4.0}
    assert np.array_equal(loaded.predict_proba(data), clf.predict_proba(data))


def test_scores_are_weighted_like_those_of_scikit_learn():
    data, weight = make(), np.arange(60.0)
    clf, reg = (kind(**LINEAR).fit(data) for kind in KINDS)
    expected = accuracy_score(data.y, clf.predict(data), sample_weight=weight)
    assert clf.score(data, sample_weight=weight) == pytest.approx(expected)
    expected = r2_score(data.y, reg.predict(data), sample_weight=weight)
    assert reg.score(data, sample_weight=weight) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(5), r"sample_weight must hold 60 finite numbers.*got shape \[5\]"),
        (np.ones((60, 2)), r"got shape \[60, 2\]"),
        (np.full(60, -1.0), r"got -1\.0 in row 0"),
        (np.full(60, np.nan), "got nan in row 0"),
        (np.zeros(60), "got only zeros"),
        (["x"] * 60, "got other values"),
    ],
)
def test_invalid_sample_weights_are_refused(weight, message):
    with pytest.raises(DataError, match=message):
        FusionClassifier(**LINEAR).fit(make(), sample_weight=weight)


def test_samples_without_label_and_weight_are_refused():
    y = np.where(np.arange(60) < 30, np.nan, 1.0)
    weight = (np.arange(60) < 30).astype(float)
    with pytest.raises(DataError, match="a labeled sample with a weight above 0"):
        FusionRegressor(**LINEAR).fit(make(), y, sample_weight=weight)


def test_invalid_class_weights_are_refused():
    data = make()
    for wrong in ("equal", {1: 0.0}, {1: float("nan")}):
        with pytest.raises(ConfigError, match="class_weight must be None, 'balanced'"):
            FusionClassifier(**LINEAR, class_weight=wrong).fit(data)
    with pytest.raises(ConfigError, match="classes such as 0, got 'a'"):
        FusionClassifier(**LINEAR, class_weight={"a": 2.0}).fit(data)
    labels = np.eye(2)[data.y]
    with pytest.raises(ConfigError, match="must be None for several labels"):
        FusionClassifier(**LINEAR, class_weight="balanced").fit(data, labels)


def stream(data: MultimodalData, tmp_path, memory: int) -> MultimodalStream:
    for part in range(4):
        rows = np.arange(len(data)) // (len(data) // 4) == part
        data[rows].to_parquet(tmp_path / f"{part}.parquet")
    return MultimodalStream.from_parquet(tmp_path, memory=memory)


def test_weights_of_a_stream_that_fits_into_memory(tmp_path):
    data, weight = make(80), np.arange(80.0)
    whole = FusionClassifier(**LINEAR).fit(data, sample_weight=weight)
    streamed = FusionClassifier(**LINEAR)
    streamed.fit(stream(data, tmp_path, 1 << 26), sample_weight=weight)
    assert np.array_equal(whole.predict_proba(data), streamed.predict_proba(data))


def test_weights_of_a_stream_reach_every_batch(tmp_path, monkeypatch):
    seen = []

    def no_training(graph, pool, data, options, **_):
        seen.append(data)
        return 0.0, History(0, (), ())

    monkeypatch.setattr(base, "fit_members", no_training)
    data, weight = make(1200), 1.0 + np.arange(1200) % 7
    part = stream(data, tmp_path, 1 << 18)
    clf = FusionClassifier(**LINEAR, class_weight={1: 3.0})
    clf.fit(part, sample_weight=weight)
    batches = seen[0].batches(64, torch.Generator().manual_seed(0), SINGLE_PROCESS)
    expected = weight * np.where(data.y == 1, 3, 1)
    ratios = []
    for _ in range(20):
        batch = next(batches)
        used = (batch.member_weights > 0).all(0).numpy()
        ratios.append(batch.member_weights[0, used].numpy() / expected[batch.ids[used]])
    np.testing.assert_allclose(np.concatenate(ratios), ratios[0][0], rtol=1e-5)
    prior = clf.model_.ensemble.pool.prior.exp()
    share = expected[data.y == 1].sum() / expected.sum()
    assert float(prior[1]) == pytest.approx(share, abs=0.1)


def test_weights_are_part_of_the_progress(tmp_path):
    data = make()
    options = {**LINEAR, "checkpoint_dir": tmp_path / "progress"}
    fitted = FusionClassifier(**options).fit(data, sample_weight=np.arange(60))
    assert not (tmp_path / "progress").exists()
    assert all(p.isfinite().all() for p in fitted.model_.parameters())
    assert isinstance(fitted.model_.beta, torch.Tensor)
