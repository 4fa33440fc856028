"""Relevance, negatives and scores of sides of samples."""

import numpy as np
import pytest

from mmgraph import MultimodalData, metrics
from mmgraph.evaluation import pairs, retrieval
from mmgraph.evaluation.matching import score_matching
from mmgraph.evaluation.pairs import (
    Direction,
    content_ids,
    draw_negatives,
    relevance_matrix,
    side_vectors,
)
from mmgraph.evaluation.retrieval import score_retrieval

NUM = 60
ACROSS = Direction(("image", "sound"), ("text",))
BACK = Direction(("text",), ("image",))
CAPTION = np.arange(NUM) // 2


def stamps() -> MultimodalData:
    """Return samples in pairs of one caption; the text is the same to the bit."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(NUM, 4))[CAPTION]
    noisy = {
        name: text + 0.5 * rng.normal(size=(NUM, 4)) for name in ("image", "sound")
    }
    present = np.ones((NUM, 3), dtype=bool)
    present[::3, 1] = False
    return MultimodalData.from_arrays({**noisy, "text": text}, present=present)


def embed(data, names):
    rows = np.stack([data.features()[name] for name in names])
    known = ~np.isnan(rows)
    total = np.where(known, rows, 0).sum(0)
    return np.where(known.any(0), total, np.nan) / np.maximum(known.sum(0), 1)


def near(z, gallery, bank):
    return -((z[:, None] - gallery[None]) ** 2).sum(2)


def find(data, direction=ACROSS, keys=None, **options):
    keys = np.arange(len(data)) if keys is None else keys
    return score_retrieval(embed, near, data, direction, keys, **options)


def test_scores_are_those_of_the_metrics():
    data, sample = stamps(), np.arange(NUM)
    found = find(data, keys=CAPTION, labels=CAPTION % 3)
    z, gallery = embed(data, ACROSS.source), embed(data[::2], ACROSS.target)
    expected = metrics.retrieval_scores(
        near(z, gallery, z), CAPTION[:, None] == CAPTION[None, ::2]
    )
    assert (found["num_queries"], found["num_entries"]) == (60, 30)
    for name in ("recall_at_1", "recall_at_10", "mrr", "median_rank", "map"):
        assert found[name] == pytest.approx(expected[name])
    assert 0.2 < found["recall_at_1"] < 0.9
    same = metrics.same_key(CAPTION % 3, CAPTION[::2] % 3)
    category = metrics.mean_average_precision(near(z, gallery, z), same)
    assert found["category_map"] == pytest.approx(category)
    assert "category_map" not in find(data, keys=sample)


def test_equal_contents_count_once_and_each_of_their_samples_is_right():
    data = stamps()
    forth, back = find(data), find(data, BACK)
    assert (forth["num_queries"], forth["num_entries"]) == (60, 30)
    assert (back["num_queries"], back["num_entries"]) == (30, 60)
    assert find(data, BACK, CAPTION) == back  # the caption is the text
    keys = np.array([0, 1, 2])
    table = relevance_matrix(np.array([0, 0, 1]), np.array([-1, 1, 0]), keys).toarray()
    assert table.tolist() == [[0, 1], [1, 0]]


def test_contents_are_numbered_and_empty_ones_left_out():
    data = stamps()
    numbers = content_ids(data, ["text"])
    assert (numbers[::2] == numbers[1::2]).all()
    assert len(set(numbers.tolist())) == 30
    sound = content_ids(data, ["sound"])
    assert (sound[::3] == -1).all()
    assert len(set(sound.tolist())) == 41


def test_query_that_lost_everything_is_not_asked_and_the_gallery_stays_whole():
    data = stamps()
    present = np.ones(data.shape, dtype=bool)
    present[:20] = False
    found = find(data, masked=data.mask(present))
    assert (found["num_queries"], found["num_entries"]) == (40, 30)
    nothing = find(data, masked=data.mask(np.zeros(data.shape, dtype=bool)))
    assert nothing["num_queries"] == 0
    assert np.isnan([nothing["recall_at_1"], nothing["map"]]).all()


def test_query_without_a_right_entry_is_not_counted():
    data = stamps()
    present = np.ones(data.shape, dtype=bool)
    present[:10, 2] = False
    assert find(data.mask(present))["num_queries"] == 50
    assert find(data.mask(present))["num_entries"] == 25


def test_what_cannot_be_embedded_is_a_miss():
    data = stamps()

    def blind(side, names):
        z = embed(side, names)
        z[: len(z) // 2] = np.nan if names == ACROSS.source else z[: len(z) // 2]
        return z

    half = score_retrieval(blind, near, data, ACROSS, CAPTION)
    assert half["num_queries"] == 60
    assert half["recall_at_10"] <= 0.5


def test_queries_are_ranked_in_blocks(monkeypatch):
    data, options = stamps(), {"keys": CAPTION, "labels": CAPTION % 3}
    expected = find(data, **options)
    monkeypatch.setattr(retrieval, "CELLS", 90)
    assert find(data, **options) == pytest.approx(expected)


# Wrong partners


def wrong(part):
    return CAPTION[part, None] != CAPTION


def test_partners_are_wrong_similar_or_of_the_label():
    label, x = CAPTION % 3, side_vectors(stamps(), ("text",))
    drawn = draw_negatives(wrong, x, 0, lambda part: label[part, None] == label)
    assert list(drawn) == ["random", "similar", "same label"]
    for other in drawn.values():
        assert (CAPTION[other] != CAPTION).all()
    assert (label[drawn["same label"]] == label).all()
    assert (label[drawn["random"]] != label).any()
    similarity = {kind: (x * x[other]).sum(1).mean() for kind, other in drawn.items()}
    assert similarity["similar"] > similarity["random"] + 0.3
    again = draw_negatives(wrong, x, 0)
    assert np.array_equal(again["similar"], drawn["similar"])
    assert not np.array_equal(draw_negatives(wrong, x, 1)["random"], drawn["random"])


def test_partners_are_drawn_in_blocks(monkeypatch):
    x = side_vectors(stamps(), ("text",))
    expected = draw_negatives(wrong, x, 0)
    monkeypatch.setattr(pairs, "CELLS", 7 * NUM)
    for kind, other in draw_negatives(wrong, x, 0).items():
        assert np.array_equal(other, expected[kind])


def test_where_nobody_is_wrong_there_is_no_partner():
    x = side_vectors(stamps(), ("text",))
    drawn = draw_negatives(lambda part: np.zeros((NUM, NUM), bool)[part], x, 0)
    assert (drawn["random"] == -1).all()
    assert (drawn["similar"] == -1).all()


# Matching


def judge(left, right):
    """Compare what both sides share."""
    x, y = embed(left, ACROSS.source), embed(right, ACROSS.target)
    return np.exp(-((x - y) ** 2).sum(1) / 2)


def test_true_pairs_are_told_from_wrong_ones():
    found = score_matching(judge, stamps(), ACROSS, CAPTION, labels=CAPTION % 3)
    kinds = ["random", "similar", "random and similar", "same label"]
    assert list(found) == kinds
    assert found["random"]["num_pairs"] == 120
    assert found["random and similar"]["num_pairs"] == 240
    assert found["random"]["auroc"] > found["similar"]["auroc"] > 0.6
    middle = (found["random"]["log_loss"] + found["similar"]["log_loss"]) / 2
    assert found["random and similar"]["log_loss"] == pytest.approx(middle)


def test_wrong_partners_have_another_key_and_content():
    seen = []

    def watch(left, right):
        seen.append((left.ids, right.ids))
        return np.full(len(left), 0.5)

    data = stamps()
    for keys in (np.arange(NUM), CAPTION):  # by content alone, and by key too
        seen.clear()
        found = score_matching(watch, data, ACROSS, keys)
        assert np.array_equal(*seen[0])
        for left, right in seen[1:]:
            assert (CAPTION[left] != CAPTION[right]).all()
        assert found["random"]["auroc"] == 0.5
        assert found["random"]["log_loss"] == pytest.approx(np.log(2))


def test_pairs_that_lost_a_side_are_left_out():
    data = stamps()
    present = np.ones(data.shape, dtype=bool)
    present[:10, 2] = present[20:25, :2] = False
    found = score_matching(judge, data, ACROSS, CAPTION, masked=data.mask(present))
    assert found["random"]["num_pairs"] == 2 * 45


@pytest.mark.parametrize("rows", [0, 1, NUM])
def test_without_a_wrong_partner_there_is_no_score(rows):
    data = stamps()[:rows]
    found = score_matching(judge, data, ACROSS, np.zeros(rows, dtype=np.int64))
    assert {scores["num_pairs"] for scores in found.values()} == {0}
    assert all(np.isnan(scores["auroc"]) for scores in found.values())
