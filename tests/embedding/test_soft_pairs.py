"""Retrieval from a transport plan in place of pairs."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from mmgraph import DataError, FusionRetriever, MultimodalData, load_dataset
from mmgraph.alignment import CCA, transport
from mmgraph.embedding.soft_pairs import join_pairs


def draw(num=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 4))
    return {"image": x, "text": x[:, ::-1] + 0.1 * rng.normal(size=(num, 4))}


def separate(arrays):
    """Return samples of which each has one modality, images first."""
    num = len(arrays["image"])
    blocks = {}
    for position, (name, x) in enumerate(arrays.items()):
        rows = np.full((2 * num, x.shape[1]), np.nan)
        rows[position * num : (position + 1) * num] = x
        blocks[name] = rows
    return MultimodalData.from_arrays(blocks)


def embeddings(model, data):
    return [model.embed(data, modalities=[name]) for name in data.modalities]


def test_a_permutation_is_the_fit_of_joined_samples():
    arrays = draw()
    order = np.random.default_rng(1).permutation(40)
    shuffled = {"image": arrays["image"], "text": arrays["text"][order]}
    plan = np.zeros((40, 40))
    plan[order, np.arange(40)] = 1 / 40
    joined = MultimodalData.from_arrays(arrays)
    expected = embeddings(FusionRetriever().fit(joined), joined)
    for each in (plan, csr_array(plan)):
        found = FusionRetriever().fit(separate(shuffled), pairs=each)
        for a, b in zip(embeddings(found, joined), expected, strict=True):
            assert np.allclose(a @ a.T, b @ b.T, atol=1e-4)


def test_plans_of_rows_and_of_samples_are_the_same():
    data = separate(draw())
    plan = np.eye(40) + 0.3 / 40
    every = np.zeros((80, 80))
    every[:40, 40:] = plan
    found = FusionRetriever().fit(data, pairs=plan)
    other = FusionRetriever().fit(data, pairs=every)
    for a, b in zip(embeddings(found, data), embeddings(other, data), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_rows_are_fitted_to_the_mean_of_the_rows_that_send_to_them():
    data = MultimodalData.from_arrays(draw(3))
    plan = np.array([[3.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    joined = join_pairs(data, plan)
    values = joined.data.columns["text"].values
    expected = data.columns["text"].values
    assert np.array_equal(values, expected[[0, 0, 2]])  # the third keeps its own
    mixing = joined.mixing["text"].numpy()
    assert np.allclose(mixing, [[0.6, 0.4, 0], [0.6, 0.4, 0], [0, 0, 1]])
    groups = joined.data.groups
    assert groups[0] == groups[1] != groups[2]


def test_soft_plans_differ_from_their_partners():
    arrays = draw()
    data = separate(arrays)
    hard = FusionRetriever().fit(data, pairs=np.eye(40))
    near = np.exp(-((arrays["image"][:, None] - arrays["image"]) ** 2).sum(-1))
    soft = FusionRetriever().fit(data, pairs=near)
    assert not np.allclose(
        embeddings(hard, data)[0][:40] @ embeddings(hard, data)[1][40:].T,
        embeddings(soft, data)[0][:40] @ embeddings(soft, data)[1][40:].T,
        atol=1e-2,
    )


@pytest.mark.slow
def test_halves_of_mfeat_without_pairs():
    """No training sample has both modalities; chance is 0.1."""
    data = load_dataset("mfeat").select(["fac", "pix", "kar"])
    order = np.random.default_rng(0).permutation(len(data))
    train, test = data[order[:400]], data[order[400:500]]
    bridge = np.arange(400) % 2 == 0
    known = train.mask({"pix": bridge, "fac": ~bridge})
    z = CCA(20).fit(known).transform(known)
    found = transport(z["fac"], z["pix"])
    unpaired = known.select(["fac", "pix"])
    model = FusionRetriever(supervision="pairs").fit(unpaired, pairs=found.plan)
    a, b = embeddings(model, test.select(["fac", "pix"]))
    scores = a @ b.T
    true = np.diag(scores)[:, None]
    assert ((scores > true).sum(1) < 10).mean() > 0.6


def test_plans_of_other_samples_are_refused():
    data = separate(draw())
    model = FusionRetriever()
    with pytest.raises(DataError, match=r"shape \[40, 40\].*got \[40, 39\]"):
        model.fit(data, pairs=np.ones((40, 39)))
    with pytest.raises(DataError, match="masses of at least 0, got other values"):
        model.fit(data, pairs=-np.eye(40))
    with pytest.raises(DataError, match="masses of at least 0, got other values"):
        model.fit(data, pairs=np.full((40, 40), np.nan))
    with pytest.raises(DataError, match="got no mass"):
        model.fit(data, pairs=np.zeros((40, 40)))
    with pytest.raises(DataError, match="got other mass"):
        model.fit(data, pairs=np.ones((80, 80)))
    three = MultimodalData.from_arrays({**draw(), "audio": np.ones((40, 1))})
    with pytest.raises(DataError, match=r"two modalities, got 3 \(image, text, audio"):
        model.fit(three, pairs=np.eye(40))
