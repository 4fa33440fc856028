import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from mmgraph import ConfigError, DataError, metrics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the import may warn
    from torchmetrics.functional import retrieval as reference

TABLES = (metrics.first_ranks, metrics.retrieval_scores, metrics.ndcg)


@pytest.fixture(params=[1, 3, 40])
def ranked(request):
    """30 queries over 40 entries without ties; queries with 1, 3 or 40 right ones."""
    rng = np.random.default_rng(request.param)
    # above 0: torchmetrics leaves out a right entry with a similarity of 0
    similarity = rng.permuted(np.tile(np.arange(1.0, 41), (30, 1)), axis=1) / 40
    relevant = np.zeros((30, 40), dtype=bool)
    for row in relevant:
        row[rng.choice(40, request.param, replace=False)] = True
    return similarity, relevant


def mean_of(function, similarity, relevant, **options):
    """Average a score of torchmetrics, which takes one query, over the queries."""
    pairs = zip(torch.tensor(similarity), torch.tensor(relevant), strict=True)
    return float(np.mean([float(function(s, r, **options)) for s, r in pairs]))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_is_the_hit_rate_of_torchmetrics(ranked, k):
    expected = mean_of(reference.retrieval_hit_rate, *ranked, top_k=k)
    assert metrics.recall_at_k(*ranked, k=k) == pytest.approx(expected)


def test_recall_with_one_right_entry_is_recall(ranked):
    similarity, relevant = ranked
    if relevant.sum() > len(relevant):
        relevant = np.zeros_like(relevant)
        relevant[:, 7] = True
    expected = mean_of(reference.retrieval_recall, similarity, relevant, top_k=5)
    assert metrics.recall_at_k(similarity, relevant, k=5) == pytest.approx(expected)


def test_reciprocal_rank_matches_torchmetrics(ranked):
    expected = mean_of(reference.retrieval_reciprocal_rank, *ranked)
    assert metrics.mean_reciprocal_rank(*ranked) == pytest.approx(expected)


def test_average_precision_matches_torchmetrics_and_sklearn(ranked):
    similarity, relevant = ranked
    value = metrics.mean_average_precision(similarity, relevant)
    expected = mean_of(reference.retrieval_average_precision, similarity, relevant)
    assert value == pytest.approx(expected)
    pairs = zip(relevant, similarity, strict=True)
    each = [oracle.average_precision_score(r, s) for r, s in pairs]
    assert value == pytest.approx(np.mean(each))


def test_average_precision_of_k_places_by_hand():
    similarity = np.array([[0.9, 0.8, 0.7, 0.6]])
    relevant = np.array([[False, True, False, True]])
    value = metrics.mean_average_precision(similarity, relevant, k=2)
    assert value == pytest.approx((1 / 2) / 2)
    value = metrics.mean_average_precision(similarity, relevant, k=1)
    assert value == 0
    value = metrics.mean_average_precision(similarity, relevant, k=9)
    assert value == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("k", [None, 1, 5, 100])
def test_ndcg_matches_sklearn(ranked, k):
    similarity, relevant = ranked
    gains = relevant * np.random.default_rng(0).integers(1, 4, relevant.shape)
    expected = oracle.ndcg_score(gains, similarity, k=k)
    assert metrics.ndcg(similarity, gains, k=k) == pytest.approx(expected)
    expected = oracle.ndcg_score(relevant, similarity, k=k)
    assert metrics.ndcg(similarity, relevant, k=k) == pytest.approx(expected)


def test_ranks_by_hand():
    similarity = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [0.9, 0.5, 0.1]])
    relevant = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1]], dtype=bool)
    assert metrics.first_ranks(similarity, relevant).tolist() == [2, 1, 3]
    assert metrics.median_rank(similarity, relevant) == 2
    assert metrics.median_rank(similarity[:2], relevant[:2]) == 1.5
    mrr = metrics.mean_reciprocal_rank(similarity, relevant)
    assert mrr == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)


def test_ties_count_against_the_model():
    similarity, relevant = np.zeros((2, 4)), np.zeros((2, 4), dtype=bool)
    relevant[:, 0] = True
    assert metrics.first_ranks(similarity, relevant).tolist() == [4, 4]
    assert metrics.recall_at_k(similarity, relevant, k=3) == 0
    assert metrics.mean_average_precision(similarity, relevant) == 1 / 4
    assert metrics.ndcg(similarity, relevant) == pytest.approx(1 / np.log2(5))
    two = np.array([[True, True, False, False]])
    value = metrics.mean_average_precision(similarity[:1], two)
    assert value == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert metrics.ndcg(similarity[:1], np.array([[3, 1, 0, 0]])) < 0.7


def test_what_was_not_retrieved_is_a_miss_and_has_no_rank():
    similarity = np.array([[-np.inf, 0.2], [-np.inf, -np.inf], [0.1, 0.2]])
    relevant = np.array([[True, False], [True, True], [False, True]])
    assert metrics.first_ranks(similarity, relevant).tolist() == [np.inf, np.inf, 1]
    assert metrics.recall_at_k(similarity, relevant, k=2) == pytest.approx(1 / 3)
    assert metrics.mean_reciprocal_rank(similarity, relevant) == pytest.approx(1 / 3)
    assert metrics.median_rank(similarity, relevant) == np.inf
    assert metrics.median_rank(similarity[[0, 2]], relevant[[0, 2]]) == np.inf
    assert metrics.mean_average_precision(similarity, relevant) == pytest.approx(1 / 3)
    assert metrics.ndcg(similarity, relevant) == pytest.approx(1 / 3)


def test_right_entry_that_was_not_retrieved_lowers_the_average_precision():
    similarity = np.array([[0.9, -np.inf, 0.1]])
    relevant = np.array([[True, True, False]])
    assert metrics.mean_average_precision(similarity, relevant) == 1 / 2


def test_query_without_a_right_entry_is_not_counted(ranked):
    similarity, relevant = ranked
    more = np.concatenate([relevant, np.zeros((5, 40), dtype=bool)])
    wider = np.concatenate([similarity, similarity[:5]])
    expected = metrics.retrieval_scores(similarity, relevant)
    assert metrics.retrieval_scores(wider, more) == expected
    assert np.isnan(metrics.first_ranks(wider, more)[30:]).all()


@pytest.mark.parametrize("shape", [(0, 4), (3, 4), (3, 0), (0, 0)])
def test_nothing_to_score_is_nan(shape):
    scores = metrics.retrieval_scores(np.zeros(shape), np.zeros(shape, dtype=bool))
    assert len(scores) == 7
    assert all(math.isnan(value) for value in scores.values())


def test_all_scores_are_those_of_the_single_functions(ranked):
    scores = metrics.retrieval_scores(*ranked, ks=(1, 7))
    assert scores == {
        "recall_at_1": metrics.recall_at_k(*ranked, k=1),
        "recall_at_7": metrics.recall_at_k(*ranked, k=7),
        "mrr": metrics.mean_reciprocal_rank(*ranked),
        "median_rank": metrics.median_rank(*ranked),
        "map": metrics.mean_average_precision(*ranked),
        "ndcg": metrics.ndcg(*ranked),
    }


def test_order_of_queries_and_entries_does_not_matter(ranked):
    similarity, relevant = ranked
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(30), rng.permutation(40)
    moved = similarity[rows][:, columns], relevant[rows][:, columns]
    expected = metrics.retrieval_scores(*ranked)
    assert metrics.retrieval_scores(*moved) == pytest.approx(expected)


def test_missing_keys_are_equal_to_nothing():
    keys = np.array([1.0, np.nan, 2.0])
    assert metrics.same_key(keys, keys).tolist() == np.diag([1, 0, 1]).tolist()
    names = np.array(["a", None, "b"], dtype=object)
    assert metrics.same_key(names, names).tolist() == np.diag([1, 0, 1]).tolist()


@pytest.mark.parametrize("function", TABLES)
def test_tables_must_fit(function):
    with pytest.raises(DataError, match=r"both have shape \[Q, G\], got \[2, 3\] and"):
        function(np.zeros((2, 3)), np.zeros((3, 2), dtype=bool))
    with pytest.raises(DataError, match="similarity must not be NaN, got some"):
        function(np.full((2, 3), np.nan), np.zeros((2, 3), dtype=bool))


def test_wrong_arguments_are_rejected():
    table, right = np.zeros((2, 3)), np.zeros((2, 3), dtype=bool)
    with pytest.raises(DataError, match="relevant must be booleans, got float64"):
        metrics.recall_at_k(table, table, k=1)
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        metrics.recall_at_k(table, right, k=0)
    with pytest.raises(ConfigError, match="k must be at least 1, got -1"):
        metrics.retrieval_scores(table, right, ks=(1, -1))
    with pytest.raises(DataError, match="gains must be finite and at least 0"):
        metrics.ndcg(table, table - 1)
    with pytest.raises(DataError, match=r"keys must have shapes \[Q\] and \[G\]"):
        metrics.same_key(table, right)


def test_scores_of_parts_are_those_of_the_whole(ranked):
    similarity, relevant = ranked
    relevant = relevant & (np.arange(len(relevant)) != 3)[:, None]  # one has none
    parts = [slice(0, 7), slice(7, None)]
    ranks = [metrics.first_ranks(similarity[p], relevant[p]) for p in parts]
    scores = metrics.rank_scores(np.concatenate(ranks))
    whole = metrics.retrieval_scores(similarity, relevant)
    assert scores == {name: whole[name] for name in scores}
    each = [metrics.average_precisions(similarity[p], relevant[p]) for p in parts]
    assert np.isnan(each[0][3])
    assert np.nanmean(np.concatenate(each)) == pytest.approx(whole["map"])
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        metrics.rank_scores(ranks[0], ks=(0,))
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        metrics.average_precisions(similarity, relevant, k=0)
