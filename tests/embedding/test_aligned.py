"""Modalities in a shared embedding space."""

import math
from typing import Any

import aligned
import numpy as np
import pytest
import tiny_models
import torch

from mmgraph import (
    ConfigError,
    DataError,
    FusionMatcher,
    FusionRetriever,
    MultimodalData,
    PretrainedEncoder,
)
from mmgraph.benchmark.pairs import PAIR_TASKS
from mmgraph.embedding.aligned import SHRINKAGE, AlignedMap
from mmgraph.embedding.modality_weights import partner_gain

NUM, TRAIN, WIDTH = 160, 80, 12
NAMES = ["image", "text"]
BOTH_WAYS = [("image", "text"), ("text", "image")]


def make(turned: int = 0) -> MultimodalData:
    """Return two views of one vector, in cones of their own, and a plain modality.

    As many channels as are ``turned`` cannot be compared between the two views.
    """
    rng = np.random.default_rng(0)
    z = rng.normal(size=(NUM, WIDTH))
    turn = np.eye(WIDTH)
    turn[:turned, :turned] = np.linalg.qr(rng.normal(size=(turned, turned)))[0]
    arrays = {
        "image": z + 0.6 * rng.normal(size=z.shape) + 3 * rng.normal(size=WIDTH),
        "text": z @ turn + 0.6 * rng.normal(size=z.shape),
        "sound": z[:, :3] + 0.3 * rng.normal(size=(NUM, 3)),
    }
    return MultimodalData.from_arrays(arrays)


def one_of_both(data: MultimodalData) -> MultimodalData:
    """Keep one modality of every sample, so that there are no pairs."""
    even = np.arange(len(data)) % 2 == 0
    none = np.zeros(len(data), bool)
    return data.mask({"image": even, "text": ~even, "sound": none})


def recall(ret: FusionRetriever, data: MultimodalData, a: str, b: str) -> float:
    z, w = (ret.embed(data, modalities=[m]) for m in (a, b))
    scores = z @ w.T
    return float(((scores > np.diag(scores)[:, None]).sum(1) < 5).mean())


def aligned_weight(ret: FusionRetriever) -> float:
    return float(ret.model_.space.aligned_weight)


def test_nothing_needs_to_be_learned():
    data = make()
    lone = one_of_both(data[:TRAIN])
    with pytest.raises(DataError, match="two modalities"):
        FusionRetriever(supervision="pairs").fit(lone)
    ret = FusionRetriever(aligned=NAMES).fit(lone)
    for a, b in BOTH_WAYS:
        assert recall(ret, data[TRAIN:], a, b) > 0.8
    sound = ret.embed(data[TRAIN:], modalities=["sound"])
    assert np.isnan(sound).all()  # no sample has it together with another one
    assert np.isnan(ret.embed(one_of_both(data)[:1], modalities=["text"])).all()


@pytest.mark.parametrize(("a", "b"), BOTH_WAYS)
def test_pairs_and_aligned_vectors_together_improve_on_either(a, b):
    data = make(turned=3)
    train, rest = data[:TRAIN], data[TRAIN:]
    both = FusionRetriever(aligned=NAMES).fit(train)
    aligned_only = FusionRetriever(aligned=NAMES).fit(one_of_both(train))
    learned = FusionRetriever().fit(train)
    of_both, *of_one = (
        recall(ret, rest, a, b) for ret in (both, aligned_only, learned)
    )
    assert of_both > max(of_one) + 0.05


def test_unrelated_vectors_have_zero_weight():
    data = make(turned=WIDTH)
    ret = FusionRetriever(aligned=NAMES).fit(data[:TRAIN])
    plain = FusionRetriever().fit(data[:TRAIN])
    assert aligned_weight(ret) == 0
    a, b = (r.embed(data, modalities=["image"]) for r in (ret, plain))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)


def test_modalities_that_share_no_space_are_found_as_before():
    data = make()
    ret = FusionRetriever(aligned=NAMES).fit(data[:TRAIN])
    assert 0 < aligned_weight(ret) < 1
    assert ret.schema_.modality_names == ("image", "text", "sound")
    assert recall(ret, data[TRAIN:], "sound", "image") > 0.15  # 5 of 80 by chance .06


def test_cells_that_are_not_observed_add_nothing():
    data = make()
    arrays = {name: data.features()[name].copy() for name in NAMES}
    arrays["image"][TRAIN:, 0] = np.nan
    holes = MultimodalData.from_arrays(arrays)
    ret = FusionRetriever(aligned=NAMES).fit(data.select(NAMES)[:TRAIN])
    z = ret.embed(holes[TRAIN:], modalities=["image"])
    assert np.isfinite(z).all()
    assert recall(ret, holes[TRAIN:], "image", "text") > 0.8


def test_a_sample_alone_is_what_it_is_among_others():
    data = make().mask(
        {"image": np.arange(NUM) % 3 > 0, "text": np.arange(NUM) % 4 > 0}
    )
    ret = FusionRetriever(aligned=NAMES).fit(data[:TRAIN])
    together = ret.embed(data[TRAIN:])
    alone = [ret.embed(data[i : i + 1])[0] for i in range(TRAIN, NUM)]
    np.testing.assert_allclose(np.stack(alone), together, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_only_directions_count(scale):
    data = make()
    arrays = dict(data.features())
    arrays["image"] = arrays["image"] * np.float32(scale)
    other = MultimodalData.from_arrays(arrays)
    scores = [
        recall(FusionRetriever(aligned=NAMES).fit(d[:TRAIN]), d[TRAIN:], *NAMES)
        for d in (data, other)
    ]
    assert scores[1] == pytest.approx(scores[0], abs=0.05)


def test_without_any_vector_there_is_nothing_to_learn_from():
    data = make().select(NAMES)[:TRAIN]
    none = np.zeros(TRAIN, bool)
    for empty in (data[:0], data.mask({"image": none, "text": none})):
        with pytest.raises(DataError, match="needs samples with two modalities"):
            FusionRetriever(aligned=NAMES).fit(empty)


def test_map_takes_the_mean_off_and_gives_unit_length():
    x = torch.tensor([[1.0, 3.0], [3.0, torch.nan], [torch.nan, torch.nan]])
    aligned = AlignedMap([True, False], 2)
    other = torch.ones(3, 5)
    aligned.fit([x, other])
    centre = torch.tensor([4 / (2 + SHRINKAGE), 3 / (1 + SHRINKAGE)])
    torch.testing.assert_close(aligned.centre, torch.stack([centre, torch.zeros(2)]))
    z = aligned.evidence([x, other])
    first = (x[0] - centre) / (x[0] - centre).norm()
    torch.testing.assert_close(z[0, 0], first)
    torch.testing.assert_close(z[1, 0], torch.tensor([1.0, 0.0]))
    assert not z[2, 0].any()
    assert not z[:, 1].any()


def test_gain_of_partners_against_scikit_learn():
    from sklearn.metrics import ndcg_score

    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    apart = torch.ones(6, 6, dtype=torch.bool)
    eye, both = np.eye(6), (similarity.numpy(), similarity.T.numpy())
    expected = np.mean([ndcg_score(eye, each) for each in both])
    assert partner_gain(similarity, apart) == pytest.approx(expected)
    apart[0, 1:] = apart[1:, 0] = False  # no rivals: found
    similarity[1:, 1:] = torch.eye(5)
    assert partner_gain(similarity, apart) == 1.0


def test_matcher_uses_aligned_vectors():
    data = make()
    train, rest = data[:30], data[TRAIN:]
    order = np.roll(np.arange(len(rest)), 1)
    gaps = []
    for names in (NAMES, ()):
        mat = FusionMatcher("image", "text", aligned=names).fit(train)
        p, q = mat.predict_proba(rest, rest), mat.predict_proba(rest, rest[order])
        gaps.append((p[:, None] > q).mean())
    assert gaps[0] > gaps[1]
    assert gaps[0] > 0.95


@pytest.mark.parametrize(
    "estimator",
    [FusionRetriever(aligned=NAMES), FusionMatcher("image", "text", aligned=NAMES)],
)
def test_saved_models_predict_the_same(estimator, tmp_path):
    data = make().select(NAMES)
    fitted = estimator.fit(data[:TRAIN])
    fitted.save_pretrained(tmp_path / "model")
    again = type(estimator).from_pretrained(tmp_path / "model")
    predict: Any = (
        (lambda e: e.embed(data))
        if isinstance(estimator, FusionRetriever)
        else (lambda e: e.predict_proba(data, data[::-1]))
    )
    np.testing.assert_array_equal(predict(again), predict(fitted))


def test_graph_takes_aligned_vectors():
    options: dict[str, Any] = {"epochs": 1, "members": 2, "hidden_channels": 8}
    ret = FusionRetriever(aligned=NAMES, **options).fit(make()[:TRAIN])
    ret.model_.beta.fill_(0.5)
    assert np.isfinite(ret.embed(make()[TRAIN:])).all()


def test_classes_and_aligned_vectors_are_combined():
    data = make()
    y = (data.features()["sound"][:, 0] > 0).astype(int)
    ret = FusionRetriever(aligned=NAMES, supervision="labels")
    ret.fit(one_of_both(data.replace(y=y))[:TRAIN])
    space = ret.model_.space
    assert float(space.balance) == pytest.approx(0.05)
    assert recall(ret, data[TRAIN:], "image", "text") > 0.5


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("image", "aligned must be None or a list"),
        (["image"], "none or at least two different modalities.*got 'image'"),
        (["image", "image"], "at least two different"),
        (["image", "smell"], "of image, text, sound, series, got 'image', 'smell'"),
        (["image", "sound"], r"one length, got image \(12\), sound \(3\)"),
        (["image", "series"], r"image \(12\), series \(a sequence\)"),
    ],
)
def test_what_cannot_share_a_space_is_refused(names, message):
    data = make()
    arrays = dict(data.features())
    arrays["series"] = [np.zeros((1 + i % 3, WIDTH)) for i in range(NUM)]
    with pytest.raises(ConfigError, match=message):
        FusionRetriever(aligned=names).fit(MultimodalData.from_arrays(arrays))


# Pretrained models


def described() -> MultimodalData:
    texts = [tiny_models.some_text(i) for i in range(30)]
    columns = {"title": texts, "body": texts[::-1]}
    return MultimodalData.from_arrays(columns)


@pytest.mark.usefixtures("forget_encoders")
def test_what_one_model_encodes_is_aligned(models, tmp_path):
    pytest.importorskip("transformers")
    from PIL import Image

    for i in range(12):
        picture = Image.fromarray(tiny_models.some_picture(i))
        picture.save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(tiny_models.some_text(i))
    data = MultimodalData.from_folder(tmp_path, raw=True)
    both = dict.fromkeys(("image", "text"), models["clip"])
    ret = FusionRetriever(encoders=both).fit(data)
    assert ret.model_.space.aligned.aligned == (True, True)
    assert aligned_weight(ret) == pytest.approx(0.9)  # too few samples to choose
    two = {"image": models["image"], "text": models["text"]}
    ret = FusionRetriever(encoders=two).fit(data)
    assert not any(ret.model_.space.aligned.aligned)


@pytest.mark.usefixtures("forget_encoders")
def test_texts_of_one_model_are_aligned_by_default(models):
    pytest.importorskip("transformers")
    data, text = described(), models["text"]
    same = {"title": text, "body": text}
    assert FusionRetriever(encoders=same).fit(data).model_.space.aligned.channels
    for options in (
        {"encoders": same, "aligned": ()},
        {"encoders": {"title": text}},
        {"encoders": same | {"body": PretrainedEncoder(text, pooling="cls")}},
    ):
        ret = FusionRetriever(**options).fit(data)
        assert not ret.model_.space.aligned.channels


# The measurement of benchmarks/aligned.py


def test_a_vector_is_the_mean_of_the_likeliest_classes():
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [9.0, 9.0, 9.0 + math.log(2)]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    expected = torch.tensor([[0.5, 0.5], [2.25, 2.25]])
    found = aligned.mean_of_likely(logits, vectors)
    torch.testing.assert_close(found, expected)
    many = torch.cat([torch.arange(20.0)[None], torch.zeros(1, 20)])
    sharp = aligned.mean_of_likely(many, torch.eye(20))
    assert (sharp > 0).sum(1).tolist() == [aligned.TOP, aligned.TOP]


def test_names_are_there_where_the_picture_is_and_stand_beside_it():
    data = make().mask({"image": np.arange(NUM) % 2 > 0})
    names = dict.fromkeys(data.ids.tolist(), np.ones(4))
    more = aligned.with_names(data, names)
    present = more.columns["names"].present
    np.testing.assert_array_equal(present, data.columns["image"].present)
    np.testing.assert_array_equal(more.ids, data.ids)
    task = aligned.with_modalities(PAIR_TASKS["tuxpaint-retrieval"], ["names"])
    directions = [str(direction) for direction in task.directions]
    assert directions[:2] == ["image+names to text", "text to image+names"]


def test_measurement_names_a_missing_package(tmp_path, capsys):
    with pytest.raises(SystemExit):
        aligned.read_arguments(["--packages", str(tmp_path)])
    assert "must hold timm/data/_info; see --help" in capsys.readouterr().err
