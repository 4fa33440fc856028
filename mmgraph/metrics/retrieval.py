"""Retrieval metrics.

Letters: `Q` queries, `G` gallery entries, `k` rank.

Every function takes the similarity of each query to each gallery entry, and which
entries are relevant. The conventions of all functions:

- Higher similarity ranks first, and **ties count against the model**: a relevant entry
  ranks behind irrelevant entries of equal similarity.
- A similarity of -inf marks an entry that was not retrieved, because the entry or the
  query lacks the modality. A relevant entry that was not retrieved is a miss. To score
  present entries only, remove the others from both tables first.
- Queries without a relevant entry in the gallery are not counted. Without any counted
  query, metrics are nan.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.validation import Array

Ks = tuple[int, ...]


def same_key(query_keys: Array, gallery_keys: Array) -> NDArray[np.bool_]:
    """Return the relevance of entries: True where the keys of query and entry match.

    With ids as keys, only the partner of a query is relevant (instance retrieval); with
    class labels, every entry of its class (category retrieval).

    Args:
        query_keys: Numbers or strings, [Q].
        gallery_keys: Keys of the same type, [G].

    Returns:
        Booleans [Q, G]. A missing key (NaN or None) matches no key.

    Raises:
        DataError: If the keys are not one per query and entry.

    Example:
        >>> import numpy as np
        >>> metrics.same_key(np.array(["a", "b"]), np.array(["b", "b", "c"]))
        array([[False, False, False],
               [ True,  True, False]])
    """
    query_keys, gallery_keys = np.asarray(query_keys), np.asarray(gallery_keys)
    if query_keys.ndim != 1 or gallery_keys.ndim != 1:
        raise DataError(
            f"keys must have shapes [Q] and [G], got {list(query_keys.shape)} and "
            f"{list(gallery_keys.shape)}. Give one id or class per entry."
        )
    present = np.array([key is not None for key in query_keys], dtype=bool)
    equal = np.asarray(query_keys[:, None] == gallery_keys[None], dtype=bool)
    return equal & present[:, None]


def first_ranks(similarity: Array, relevant: Array) -> NDArray[np.float64]:
    """Return the rank of the first relevant entry of each query; the best rank is 1.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].

    Returns:
        Ranks [Q]; inf where no relevant entry was retrieved, nan where there is none.

    Raises:
        DataError: If shapes or types are invalid, or a similarity is NaN.
    """
    hits, total = _ranked(similarity, relevant)
    ranks = np.where(hits, np.arange(1.0, hits.shape[1] + 1), np.inf)
    return np.where(total > 0, ranks.min(axis=1, initial=np.inf), np.nan)


def recall_at_k(similarity: Array, relevant: Array, k: int) -> float:
    """Return the fraction of queries with a relevant entry among the first k.

    This is Recall@K as reported in cross-modal retrieval, elsewhere called hit rate.
    With one relevant entry per query, it equals recall.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].
        k: Number of ranks, may exceed G.

    Returns:
        A fraction in [0, 1]; nan if no query has a relevant entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If shapes or types are invalid, or a similarity is NaN.

    Example:
        >>> import numpy as np
        >>> similarity = np.array([[0.9, 0.1], [0.8, 0.3]])
        >>> metrics.recall_at_k(similarity, np.eye(2, dtype=bool), k=1)
        0.5
    """
    _check_k(k)
    return _recall(first_ranks(similarity, relevant), k)


def _recall(ranks: NDArray[np.float64], k: int) -> float:
    counted = ranks[~np.isnan(ranks)]
    return float((counted <= k).mean()) if len(counted) else float("nan")


def mean_reciprocal_rank(similarity: Array, relevant: Array) -> float:
    """Return the mean reciprocal rank (MRR) of the first relevant entry.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].

    Returns:
        A value in [0, 1], 0 for a query whose relevant entries were not retrieved; nan
        if no query has a relevant entry.

    Raises:
        DataError: If shapes or types are invalid, or a similarity is NaN.
    """
    return _mean(1 / first_ranks(similarity, relevant))


def median_rank(similarity: Array, relevant: Array) -> float:
    """Return the median rank of the first relevant entry.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].

    Returns:
        A rank >= 1; inf if no relevant entry was retrieved for half of the queries or
        more; nan if no query has a relevant entry.

    Raises:
        DataError: If shapes or types are invalid, or a similarity is NaN.
    """
    return _median(first_ranks(similarity, relevant))


def _median(ranks: NDArray[np.float64]) -> float:
    counted = np.sort(ranks[~np.isnan(ranks)])
    if not len(counted):
        return float("nan")
    low, high = counted[(len(counted) - 1) // 2], counted[len(counted) // 2]
    return float((low + high) / 2)  # np.median warns for infinities


def mean_average_precision(
    similarity: Array, relevant: Array, k: int | None = None
) -> float:
    """Return the mean average precision (mAP).

    The average precision of a query is the precision at the rank of each relevant
    entry, averaged over relevant entries.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].
        k: Number of ranks that count (mAP@k); precisions are then divided by the
            smaller of k and the number of relevant entries. None counts all.

    Returns:
        A value in [0, 1]; a relevant entry that was not retrieved counts 0; nan if no
        query has a relevant entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If shapes or types are invalid, or a similarity is NaN.
    """
    return _mean(average_precisions(similarity, relevant, k))


def average_precisions(
    similarity: Array, relevant: Array, k: int | None = None
) -> NDArray[np.float64]:
    """Return the average precision of each query; see `mean_average_precision`.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].
        k: Number of ranks that count; None counts all.

    Returns:
        Values in [0, 1], [Q]; nan for a query without relevant entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If shapes or types are invalid, or a similarity is NaN.
    """
    _check_k(k)
    hits, total = _ranked(similarity, relevant)
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = np.where(hits, hits.cumsum(axis=1) / ranks, 0)[:, :k].sum(axis=1)
    return _divide(precision, total if k is None else np.minimum(total, k))


def ndcg(similarity: Array, gains: Array, k: int | None = None) -> float:
    """Return the normalized discounted cumulative gain (nDCG).

    The sum of gain / log2(1 + rank), divided by that of the ideal order.

    References:
        Cumulated gain-based evaluation of IR techniques. Jarvelin and Kekalainen,
        2002 (with the gain itself, not 2^gain - 1).

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        gains: Graded relevance >= 0, or booleans, [Q, G].
        k: Number of ranks that count; None counts all.

    Returns:
        A value in [0, 1]; among equal similarities, the smaller gain ranks first; nan
        if no query has an entry with a positive gain.

    Raises:
        ConfigError: If k is below 1.
        DataError: If shapes are invalid, a similarity is NaN, or a gain is negative or
            not finite.
    """
    _check_k(k)
    similarity, gains = _tables(similarity, np.asarray(gains, dtype=np.float64))
    if gains.size and not (np.isfinite(gains).all() and gains.min() >= 0):
        raise DataError(
            "gains must be finite and at least 0, got others. Set the gain of "
            "irrelevant entries to 0."
        )
    discount = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    gain = np.take_along_axis(
        np.where(similarity == -np.inf, 0, gains), _order(similarity, gains), axis=1
    )
    ideal = -np.sort(-gains, axis=1)
    return _mean(
        _divide((gain * discount)[:, :k].sum(1), (ideal * discount)[:, :k].sum(1))
    )


def retrieval_scores(
    similarity: Array, relevant: Array, ks: Ks = (1, 5, 10)
) -> dict[str, float]:
    """Return all retrieval metrics by name.

    Args:
        similarity: Similarities [Q, G], -inf for entries that were not retrieved.
        relevant: Relevance, booleans [Q, G].
        ks: Ranks for Recall@K.

    Returns:
        recall_at_1, recall_at_5, recall_at_10 (by `ks`), mrr, median_rank, map and
        ndcg; all nan if no query has a relevant entry.

    Raises:
        ConfigError: If a k is below 1.
        DataError: If shapes or types are invalid, or a similarity is NaN.

    Example:
        >>> import numpy as np
        >>> similarity = np.array([[0.9, 0.1], [0.8, 0.3]])
        >>> relevant = np.eye(2, dtype=bool)
        >>> scores = metrics.retrieval_scores(similarity, relevant, ks=(1,))
        >>> scores["recall_at_1"], scores["mrr"]
        (0.5, 0.75)
    """
    return {
        **rank_scores(first_ranks(similarity, relevant), ks),
        "map": mean_average_precision(similarity, relevant),
        "ndcg": ndcg(similarity, relevant),
    }


def rank_scores(ranks: Array, ks: Ks = (1, 5, 10)) -> dict[str, float]:
    """Return the metrics that depend on the ranks of first relevant entries only.

    Args:
        ranks: Results of `first_ranks` [Q], possibly of several tables.
        ks: Ranks for Recall@K.

    Returns:
        recall_at_1, recall_at_5, recall_at_10 (by `ks`), mrr and median_rank; all nan
        if no query has a relevant entry.

    Raises:
        ConfigError: If a k is below 1.

    Example:
        >>> import numpy as np
        >>> metrics.rank_scores(np.array([1.0, 4.0]), ks=(1,))
        {'recall_at_1': 0.5, 'mrr': 0.625, 'median_rank': 2.5}
    """
    for k in ks:
        _check_k(k)
    return {
        **{f"recall_at_{k}": _recall(ranks, k) for k in ks},
        "mrr": _mean(1 / ranks),
        "median_rank": _median(ranks),
    }


def _ranked(
    similarity: Array, relevant: Array
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the retrieved relevant entries by rank, and the number of relevant ones.

    Returns:
        Booleans [Q, G], best rank first, and counts [Q].
    """
    similarity, relevant = _tables(similarity, relevant)
    if relevant.dtype != bool:
        raise DataError(
            f"relevant must be booleans, got {relevant.dtype}. Compare keys by "
            "same_key, or use ndcg for graded relevance."
        )
    retrieved = relevant & (similarity > -np.inf)
    order = _order(similarity, relevant)
    return np.take_along_axis(retrieved, order, axis=1), relevant.sum(axis=1)


def _order(similarity: Array, gains: Array) -> NDArray[np.int64]:
    """Return the order of entries: highest similarity, then smallest gain first."""
    return np.lexsort((gains, -similarity), axis=1)


def _tables(similarity: Array, relevant: Array) -> tuple[Array, Array]:
    similarity, relevant = np.asarray(similarity), np.asarray(relevant)
    if similarity.ndim != 2 or similarity.shape != relevant.shape:
        raise DataError(
            f"similarity and relevance must both have shape [Q, G], got "
            f"{list(similarity.shape)} and {list(relevant.shape)}."
        )
    if np.isnan(similarity).any():
        raise DataError(
            "similarity must not be NaN, got some. Set it to -inf for entries that "
            "cannot be retrieved."
        )
    return similarity, relevant


def _check_k(k: int | None) -> None:
    if k is not None and k < 1:
        raise ConfigError(f"k must be at least 1, got {k}. Defaults are 1, 5 and 10.")


def _divide(part: Array, whole: Array) -> NDArray[np.float64]:
    """Return the quotient; nan for a divisor of zero."""
    return part / np.where(whole > 0, whole, np.nan)


def _mean(values: NDArray[Any]) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else float("nan")
