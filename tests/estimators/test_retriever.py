"""FusionRetriever: any subset of modalities, supervision, options, saving."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from mmgraph import (
    CheckpointError,
    ConfigError,
    DataError,
    FusionClassifier,
    FusionRetriever,
    MultimodalData,
)
from mmgraph.embedding.contrastive import SimilarityScale, cached_step
from mmgraph.embedding.hubness import hub_corrected
from mmgraph.embedding.kernel_ridge import fit_kernel_ridge
from mmgraph.losses import sigmoid_contrastive

GRAPH: dict[str, Any] = {
    "epochs": 1,
    "members": 2,
    "hidden_channels": 8,
    "num_heads": 2,
}
NUM, TRAIN = 90, 60
RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=(NUM, 3))
Y = (LATENT[:, 0] > 0).astype(int)
ARRAYS = {
    "image": LATENT @ RNG.normal(size=(3, 5)) + 0.1 * RNG.normal(size=(NUM, 5)),
    "text": LATENT @ RNG.normal(size=(3, 4)) + 0.1 * RNG.normal(size=(NUM, 4)),
    "sound": LATENT[:, :1] + 0.5 * RNG.normal(size=(NUM, 2)),
}
PRESENT = RNG.random((NUM, 3)) > 0.2


def make(present: Any = None, **plain: Any) -> MultimodalData:
    return MultimodalData.from_arrays(ARRAYS, present=present, **plain)


def recall(a: np.ndarray, b: np.ndarray, k: int = 3) -> float:
    scores = a @ b.T
    return float(((scores > np.diag(scores)[:, None]).sum(1) < k).mean())


@pytest.mark.parametrize("present", [None, PRESENT])
def test_rows_of_one_sample_meet(present):
    data = make(present)
    ret = FusionRetriever().fit(data[:TRAIN])
    test = make()[TRAIN:]
    text, image = (ret.embed(test, modalities=[m]) for m in ("text", "image"))
    assert text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-6)
    assert recall(image, text) > 0.55
    assert recall(text, image) > 0.55
    both = ret.embed(test, modalities=["image", "sound"])
    assert recall(both, text) > recall(image, text) - 0.1
    assert not np.array_equal(both, image)


def test_query_is_all_that_a_row_has_of_what_was_asked_for():
    data = make(PRESENT)
    ret = FusionRetriever().fit(data[:TRAIN])
    z = ret.embed(data, modalities=["image", "sound"])
    assert np.array_equal(np.isnan(z).all(1), ~PRESENT[:, [0, 2]].any(1))
    assert np.isfinite(z[PRESENT[:, [0, 2]].any(1)]).all()
    only = PRESENT[:, 0] & ~PRESENT[:, 2]
    alone = ret.embed(data, modalities=["image"])
    np.testing.assert_allclose(z[only], alone[only], atol=1e-6)


def test_modality_without_partner_is_not_used():
    present = np.ones((NUM, 3), bool)
    present[:, 2] = False
    present[:5] = [False, False, True]
    ret = FusionRetriever().fit(make(present)[:TRAIN])
    assert ret.unseen_ == ["sound"]
    assert np.isnan(ret.embed(make(), modalities=["sound"])).all()


def test_classes_bring_samples_of_one_class_together():
    data = make(y=Y)
    ret = FusionRetriever(supervision="labels").fit(data[:TRAIN])
    test = data[TRAIN:]
    scores = (
        ret.embed(test, modalities=["image"]) @ ret.embed(test, modalities=["text"]).T
    )
    same = test.y[:, None] == test.y
    assert scores[same].mean() > scores[~same].mean() + 0.2
    assert float(ret.model_.space.balance) == 0


def test_pairs_lead_where_they_find_the_partner():
    space = FusionRetriever().fit(make(y=Y)[:TRAIN]).model_.space
    assert float(space.balance) > 0.5
    assert space.num_classes == 2
    alone = FusionRetriever(supervision="pairs").fit(make(y=Y)[:TRAIN]).model_.space
    assert alone.num_classes == 0


def test_unknown_labels_are_left_out():
    y = Y.astype(float)
    y[::3] = np.nan
    ret = FusionRetriever(supervision="labels").fit(make(y=y)[:TRAIN])
    assert ret.model_.space.num_classes == 2
    assert np.isfinite(ret.embed(make())).all()


def test_held_out_predictions_are_those_of_a_fit_without_the_group():
    x = torch.from_numpy(ARRAYS["image"][:30]).float()
    groups = torch.arange(30) // 3
    target = torch.from_numpy(ARRAYS["text"][:30])
    regression = fit_kernel_ridge(x, torch.arange(30), groups, torch.Generator())
    kept = groups != 4
    kernel = regression.kernel
    ridge = torch.eye(int(kept.sum()), dtype=torch.double)
    weights = torch.linalg.solve(kernel[kept][:, kept] + ridge, target[kept])
    expected = kernel[~kept][:, kept] @ weights
    torch.testing.assert_close(
        regression.leave_group_out(target)[~kept], expected, atol=1e-6, rtol=0
    )


def test_cached_gradients_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    x, layer = torch.randn(12, 4), torch.nn.Linear(4, 6)
    scale, positive = SimilarityScale(), torch.eye(12, dtype=torch.bool)

    def gradients(size: int) -> list[torch.Tensor]:
        layer.zero_grad(), scale.zero_grad()
        every = torch.ones(12, 12, dtype=torch.bool)

        def loss_of(z: torch.Tensor) -> torch.Tensor:
            a, b = z.chunk(2, dim=-1)
            return sigmoid_contrastive(scale(a @ b.T), positive, every)

        chunks = torch.arange(12).split(size)
        cached_step(lambda at: layer(x[at]), chunks, loss_of)
        parameters = [*layer.parameters(), *scale.parameters()]
        return [p.grad.clone() for p in parameters]

    for ours, whole in zip(gradients(5), gradients(12), strict=True):
        assert whole.any()
        torch.testing.assert_close(ours, whole)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["siglip", "infonce"])
def test_graph_can_move_embeddings(loss):
    options = {**GRAPH, "epochs": 40, "loss": loss, "batch_size": 16}
    ret = FusionRetriever(**options, contrast_size=32).fit(make()[:TRAIN])
    ret.model_.beta.fill_(1.0)
    moved = ret.embed(make()[TRAIN:], modalities=["text"])
    ret.model_.beta.fill_(0.0)
    closed = ret.embed(make()[TRAIN:], modalities=["text"])
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert np.abs(moved - closed).max() > 1e-3


def test_index_returns_ids_of_what_has_the_modality():
    data = make(PRESENT, ids=[f"s{i}" for i in range(NUM)])
    ret = FusionRetriever().fit(data[:TRAIN])
    index = ret.index(data[TRAIN:], modalities=["image"])
    z = ret.embed(data[TRAIN:], modalities=["image"])
    asked = ~np.isnan(z).any(1)
    hits = index.search(z[asked], k=1)
    assert list(hits.ids[:, 0]) == list(data[TRAIN:].ids[asked])


@pytest.mark.parametrize("options", [{}, GRAPH, {"supervision": "labels"}])
def test_saved_retriever_gives_the_same_bits(tmp_path, options):
    data = make(PRESENT, y=Y)
    ret = FusionRetriever(**options).fit(data[:TRAIN])
    ret.model_.beta.fill_(0.5 if "epochs" in options else 0.0)
    ret.save_pretrained(tmp_path)
    loaded = FusionRetriever.from_pretrained(tmp_path)
    assert np.array_equal(loaded.embed(data), ret.embed(data), equal_nan=True)
    assert loaded.get_params() == ret.get_params()
    assert clone(loaded).get_params() == ret.get_params()
    with pytest.raises(CheckpointError, match="must hold a FusionClassifier"):
        FusionClassifier.from_pretrained(tmp_path)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_hubs_are_discounted():
    rng = np.random.default_rng(0)
    bank = unit(rng.normal(size=(50, 4)) + np.array([4, 0, 0, 0]))
    queries, gallery = unit(rng.normal(size=(9, 4))), unit(rng.normal(size=(20, 4)))
    gallery[0], gallery[3] = [1, 0, 0, 0], np.nan
    there = np.arange(20) != 3
    cosine = hub_corrected(queries, gallery, bank, "none")
    np.testing.assert_allclose(cosine[:, there], queries @ gallery[there].T, atol=1e-6)
    assert np.isneginf(cosine[:, 3]).all()
    for kind, times in (("csls", 2), ("inverted_softmax", 1)):
        scores = hub_corrected(queries, gallery, bank, kind)
        alone = hub_corrected(queries[:1], gallery, bank, kind)
        np.testing.assert_allclose(alone, scores[:1], atol=1e-5)
        discount = (times * cosine[:, there] - scores[:, there]).mean(0)
        assert discount.argmax() == 0
        assert np.isneginf(scores[:, 3]).all()


def test_wrong_use_is_refused():
    data = make()
    with pytest.raises(DataError, match="must be MultimodalData, got ndarray"):
        FusionRetriever().fit(ARRAYS["image"])
    with pytest.raises(DataError, match="needs samples with two modalities"):
        FusionRetriever().fit(data.select(["image"]))
    with pytest.raises(DataError, match="needs y with at least two classes"):
        FusionRetriever(supervision="labels").fit(data)
    with pytest.raises(ConfigError, match="supervision must be one of auto"):
        FusionRetriever().set_params(supervision="all").fit(data)
    with pytest.raises(ConfigError, match="hubness must be one of"):
        FusionRetriever().set_params(hubness="yes").fit(data)
    with pytest.raises(ConfigError, match="contrast_size must be None or"):
        FusionRetriever(contrast_size=0).fit(data)
    with pytest.raises(ConfigError, match="out_channels must be a whole number"):
        FusionRetriever(out_channels=0).fit(data)
    ret = FusionRetriever().fit(data)
    with pytest.raises(DataError, match="'smell'"):
        ret.embed(data, modalities=["smell"])


def test_a_model_can_be_saved_without_training_rows(tmp_path):
    """No landmark is a row any more, and rows of one sample still match."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(80, 3))
    arrays = {"image": shape @ rng.normal(size=(3, 6)), "text": shape}
    data = MultimodalData.from_arrays(arrays)
    retriever = FusionRetriever().fit(data)
    retriever.save_pretrained(tmp_path, training_rows=False)
    saved = FusionRetriever.from_pretrained(tmp_path)
    for old, new in zip(
        retriever.model_.space.pair_maps, saved.model_.space.pair_maps, strict=True
    ):
        distance = (new.landmark[:, None] - old.landmark).abs().amax(2).amin(1)
        assert len(new.landmark) <= len(old.landmark) / 5
        assert distance.min() > 1e-3
    z = [saved.embed(data, modalities=[name]) for name in ("image", "text")]
    assert ((z[0] @ z[1].T).argmax(1) == np.arange(80)).mean() > 0.3
