"""FusionMatcher: pairs with missing sides, hard negatives, re-ranking, saving."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmgraph import ConfigError, DataError, FusionMatcher, MultimodalData
from mmgraph.embedding.negatives import draw_pairs

NUM, TRAIN = 120, 80
RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=(NUM, 3))
ARRAYS = {
    "image": LATENT @ RNG.normal(size=(3, 5)) + 0.1 * RNG.normal(size=(NUM, 5)),
    "text": LATENT @ RNG.normal(size=(3, 4)) + 0.1 * RNG.normal(size=(NUM, 4)),
    "sound": LATENT[:, :2] + 0.5 * RNG.normal(size=(NUM, 2)),
}
PRESENT = RNG.random((NUM, 3)) > 0.2
GRAPH: dict[str, Any] = {
    "epochs": 2,
    "members": 2,
    "hidden_channels": 8,
    "num_heads": 2,
}
SIDES: dict[str, Any] = {"left": ["image", "sound"], "right": ["text"]}


def make(present: Any = None, **plain: Any) -> MultimodalData:
    return MultimodalData.from_arrays(ARRAYS, present=present, **plain)


@pytest.mark.parametrize("present", [None, PRESENT])
def test_matching_pairs_are_separated_from_others(present):
    data = make(present)
    mat = FusionMatcher(**SIDES).fit(data[:TRAIN])
    test = make()[TRAIN:]
    moved = test[np.roll(np.arange(len(test)), 7)]
    match, other = mat.predict_proba(test, test), mat.predict_proba(test, moved)
    y = np.repeat([1, 0], len(test))
    assert roc_auc_score(y, np.r_[match, other]) > 0.85
    assert match.mean() > 0.55 > 0.4 > other.mean()
    assert match.mean() - other.mean() > 0.2
    assert mat.predict(test, test).mean() == (match > 0.5).mean()


def test_probabilities_are_calibrated_on_pairs_as_in_training():
    mat = FusionMatcher(**SIDES).fit(make()[:TRAIN])
    test = make()[TRAIN:]
    rows = np.arange(len(test))
    other = [mat.predict_proba(test, test[np.roll(rows, k)]) for k in range(1, 8)]
    p = np.r_[mat.predict_proba(test, test), np.concatenate(other)]
    y = np.r_[np.ones(len(test)), np.zeros(p.size - len(test))]
    weight = np.where(y, 1.0, 1 / 7)
    error = np.average((p - y) ** 2, weights=weight)
    assert error < 0.18


def test_likeness_counts_beyond_what_is_usual():
    data = make()
    mat = FusionMatcher(**SIDES).fit(data[:TRAIN])
    before = mat.predict_proba(data, data)
    pool = mat.model_.pool
    pool.reference.sides[1] = pool.reference.sides[
        0
    ]  # left sides meet what is near to them
    after = mat.predict_proba(data, data)
    assert pool.reference.num_samples == TRAIN
    assert (after < before).mean() > 0.9


def test_side_with_nothing_is_undecided():
    data = make(PRESENT)
    mat = FusionMatcher(**SIDES).fit(data[:TRAIN])
    p = mat.predict_proba(data, data)
    nothing = ~PRESENT[:, [0, 2]].any(1) | ~PRESENT[:, 1]
    assert nothing.any()
    assert (p[nothing] == 0.5).all()
    assert (p[~nothing] != 0.5).all()
    assert not mat.predict(data, data)[nothing].any()


def test_only_its_own_modalities_of_a_side_are_read():
    data = make()
    mat = FusionMatcher(**SIDES).fit(data[:TRAIN])
    expected = mat.predict_proba(data, data)
    left, right = data.select(["image", "sound"]), data.select(["text"])
    assert np.array_equal(mat.predict_proba(left, right), expected)
    less = mat.predict_proba(data.select(["image"]), right)
    assert not np.array_equal(less, expected)


def test_candidates_are_scored_as_pairs_are():
    data = make()
    mat = FusionMatcher(**SIDES).fit(data[:TRAIN])
    test = data[TRAIN:]
    rows = RNG.integers(0, len(test), (len(test), 3))
    rows[0, 2] = -1
    scores = mat.rescore(test, test, rows)
    assert np.isnan(scores[0, 2])
    assert np.isfinite(scores).sum() == rows.size - 1
    expected = mat.predict_proba(test, test[rows[:, 0]])
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-6)
    back = mat.rescore(test, test, rows, query="right")
    expected = mat.predict_proba(test[rows[:, 0]], test)
    np.testing.assert_allclose(back[:, 0], expected, atol=1e-6)


def test_negatives_are_of_other_groups_and_the_hard_ones_similar():
    similarity = torch.eye(6) + torch.eye(6).roll(1, 1) * 0.9
    groups = torch.tensor([0, 0, 1, 2, 3, 4])
    apart = groups[:, None] != groups
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[5, 1] = False
    generator = torch.Generator().manual_seed(0)
    a, b, y = draw_pairs(similarity, apart, valid, 4, generator)
    match = y[:, 0] > 0
    assert torch.equal(a[match], torch.arange(5))
    assert torch.equal(a[match], b[match])
    assert (groups[a[~match]] != groups[b[~match]]).all()
    assert not (b == 5).any()
    hard = torch.arange(len(a)) >= 5 + 24
    share = (similarity[a, b] > 0.5).float()
    assert share[hard].mean() > share[~match & ~hard].mean() + 0.3


@pytest.mark.parametrize("options", [{}, GRAPH])
def test_saved_matcher_gives_the_same_bits(tmp_path, options):
    data = make(PRESENT)
    mat = FusionMatcher(**SIDES, **options).fit(data[:TRAIN])
    if options:
        closed = mat.predict_proba(data, data)
        mat.model_.beta.fill_(1.0)
        assert not np.array_equal(mat.predict_proba(data, data), closed)
    mat.save_pretrained(tmp_path)
    loaded = FusionMatcher.from_pretrained(tmp_path)
    assert np.array_equal(
        loaded.predict_proba(data, data), mat.predict_proba(data, data)
    )
    assert loaded.get_params() == mat.get_params()


def test_wrong_use_is_refused():
    data = make()
    with pytest.raises(ConfigError, match="right must name at least one modality"):
        FusionMatcher(left=["image"]).fit(data)
    with pytest.raises(ConfigError, match="must have no modality in common"):
        FusionMatcher(left=["image"], right=["image"]).fit(data)
    with pytest.raises(DataError, match="of at least two groups, got"):
        FusionMatcher(**SIDES).fit(make(groups=np.zeros(NUM)))
    mat = FusionMatcher(**SIDES).fit(data)
    with pytest.raises(DataError, match="must have as many samples, got 3 and 2"):
        mat.predict_proba(data[:3], data[:2])
    with pytest.raises(DataError, match="of the left side must have one of"):
        mat.predict_proba(data.select(["text"]), data)
    with pytest.raises(DataError, match="rows must be whole numbers"):
        mat.rescore(data[:2], data, np.full((2, 1), NUM))
    with pytest.raises(ConfigError, match="query must be 'left' or 'right'"):
        mat.rescore(data[:2], data, np.zeros((2, 1), int), query="both")
