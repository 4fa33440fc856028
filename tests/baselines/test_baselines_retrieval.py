"""Baselines of retrieval: what they find, and the invariants of any model."""

from functools import cache

import numpy as np
import pytest
import torch

from mmgraph import MultimodalData, metrics
from mmgraph.baselines import RETRIEVAL_BASELINES

CONTENTS = (np.nan, np.inf, -np.inf, 1e30)
NUM, TRAIN = 160, 120
every = pytest.mark.parametrize("name", RETRIEVAL_BASELINES)


@cache
def hidden() -> tuple[np.ndarray, np.ndarray]:
    """Return the common cause of all modalities, which is also the class."""
    rng = np.random.default_rng(0)
    y = np.arange(NUM) % 4
    return y, rng.normal(size=(NUM, 6)) + 4 * np.eye(6)[y]


def make_data(content: float = 0.5) -> MultimodalData:
    """Return samples of three modalities; content stands where nothing is present."""
    rng, (y, cause) = np.random.default_rng(1), hidden()
    arrays = {
        name: cause @ rng.normal(size=(6, width)) + 0.1 * rng.normal(size=(NUM, width))
        for name, width in (("image", 9), ("text", 7), ("sound", 5))
    }
    present = rng.random((NUM, 3)) > 0.2
    present[TRAIN], present[TRAIN + 1] = True, [True, False, False]
    arrays["image"][3, 2] = np.nan  # a missing cell of an observed row
    for i, rows in enumerate(arrays.values()):
        rows[~present[:, i]] = content
    return MultimodalData.from_arrays(arrays, y=y, present=present)


@cache
def fitted(name: str):
    return RETRIEVAL_BASELINES[name](seed=0).fit(make_data()[:TRAIN])


def similarity(model, data, source=("image",), target=("text",)) -> np.ndarray:
    return model.similarity(data, data, source, target)


@every
@pytest.mark.parametrize(
    ("source", "target"),
    [(["image"], ["text"]), (["text"], ["image"]), (["image", "sound"], ["text"])],
)
def test_unseen_partners_are_found(name, source, target):
    test = make_data()[TRAIN:]
    test = test[np.flatnonzero(test.select(source + target).present.all(axis=1))]
    found = similarity(fitted(name), test, source, target)
    by_class = metrics.same_key(test.y, test.y)
    assert metrics.mean_average_precision(found, by_class) > 0.6
    if name != "semantic_matching":
        own = np.eye(len(test), dtype=bool)
        assert metrics.recall_at_k(found, own, k=5) > 0.6


@every
def test_side_without_its_modality_is_not_compared(name):
    test = make_data()[TRAIN:]
    found = similarity(fitted(name), test)
    image, text = test.present[:, 0], test.present[:, 1]
    assert np.array_equal(found > -np.inf, image[:, None] & text[None])
    assert not np.isnan(found).any()


@every
def test_content_that_is_not_present_changes_no_bit(name):
    test = make_data()[TRAIN:]
    sides = ["image", "sound"], ["text", "image"]
    expected = similarity(fitted(name), test, *sides)
    for content in CONTENTS:
        poisoned = make_data(content)
        found = similarity(fitted(name), poisoned[TRAIN:], *sides)
        assert np.array_equal(found, expected)
    again = RETRIEVAL_BASELINES[name](seed=0).fit(poisoned[:TRAIN])
    assert np.array_equal(similarity(again, test, *sides), expected)


@every
def test_query_alone_equals_query_among_others(name):
    test = make_data()[TRAIN:]
    together = similarity(fitted(name), test, ["image", "sound"], ["text"])
    for i in (0, 1, 5):
        alone = fitted(name).similarity(test[[i]], test, ["image", "sound"], ["text"])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


@every
def test_same_seed_gives_same_bits(name):
    data, state = make_data(), torch.random.get_rng_state()
    again = RETRIEVAL_BASELINES[name](seed=0).fit(data[:TRAIN])
    assert np.array_equal(similarity(again, data), similarity(fitted(name), data))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_another_seed_gives_another_network():
    data = make_data()
    other = RETRIEVAL_BASELINES["two_tower"](seed=1).fit(data[:TRAIN])
    expected = similarity(fitted("two_tower"), data)
    assert not np.array_equal(similarity(other, data), expected)


@every
def test_unseen_modality_is_not_compared(name):
    data = make_data()
    train = data[:TRAIN].mask({"sound": np.zeros(TRAIN, dtype=bool)})
    model = RETRIEVAL_BASELINES[name](seed=0).fit(train)
    found = similarity(model, data[TRAIN:], ["sound"], ["text"])
    assert (found == -np.inf).all()
    both = similarity(model, data[TRAIN:], ["image", "sound"], ["text"])
    assert np.array_equal(both, similarity(model, data[TRAIN:]))


@every
def test_modality_that_nobody_has_may_be_given_as_none(name):
    test = make_data()[TRAIN:]
    nothing = MultimodalData.from_arrays({"image": [None] * 3, "text": [None] * 3})
    found = fitted(name).similarity(nothing, test, ["image"], ["text"])
    assert found.shape == (3, len(test))
    assert (found == -np.inf).all()


@every
def test_nothing_to_learn_from_compares_nothing(name):
    data = make_data()
    alone = np.eye(3, dtype=bool)[np.arange(NUM) % 3]  # never two together
    model = RETRIEVAL_BASELINES[name](seed=0).fit(data.mask(alone)[:TRAIN])
    found = similarity(model, data[TRAIN:])
    assert not np.isnan(found).any()
    if name in ("cca", "ridge_pca"):
        assert (found == -np.inf).all()


@pytest.mark.parametrize("y", [None, "one class"])
def test_semantic_matching_needs_classes(y):
    data = make_data().replace(y=None if y is None else np.zeros(NUM))
    model = RETRIEVAL_BASELINES["semantic_matching"]().fit(data)
    assert (similarity(model, data) == -np.inf).all()
