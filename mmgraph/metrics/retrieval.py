"""Scores of ranked galleries.

Letters: `Q` queries, `G` gallery entries, `k` places.

Every function takes the similarity of each query to each gallery entry and which
entries are right answers. The rules, the same for all of them:

- Higher similarity ranks first; **ties count against the model**: a right entry ranks
  behind the wrong ones of the same similarity, so equal similarities never flatter.
- A similarity of -inf was not retrieved (the entry or the query lacks the modality).
  A right entry with it is a miss: it has no rank and adds nothing. Whoever scores only
  what is present takes the other entries out of both tables first.
- A query without a right entry in the gallery is not counted. No query left is nan.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.validation import Array

Ks = tuple[int, ...]


def same_key(query_keys: Array, gallery_keys: Array) -> NDArray[np.bool_]:
    """Return which entries are right: those with the key of the query.

    Ids as keys ask for the very partner (instance), classes for any entry of the
    class (category).

    Args:
        query_keys: Numbers or strings, [Q].
        gallery_keys: Of the same type, [G].

    Returns:
        [Q, G]. A missing key (NaN or None) is equal to nothing.

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
            f"{list(gallery_keys.shape)}. Give one id or class each."
        )
    known = np.array([key is not None for key in query_keys], dtype=bool)
    equal = np.asarray(query_keys[:, None] == gallery_keys[None], dtype=bool)
    return equal & known[:, None]


def first_ranks(similarity: Array, relevant: Array) -> NDArray[np.float64]:
    """Return the rank of the first right entry of each query, 1 being the best.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].

    Returns:
        [Q]; inf where no right entry was retrieved, nan where there is none.

    Raises:
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    found, total = _ranked(similarity, relevant)
    places = np.where(found, np.arange(1.0, found.shape[1] + 1), np.inf)
    return np.where(total > 0, places.min(axis=1, initial=np.inf), np.nan)


def recall_at_k(similarity: Array, relevant: Array, k: int) -> float:
    """Return the share of queries with a right entry among the first k.

    That is Recall@K as cross-modal retrieval reports it (elsewhere: hit rate); with
    one right entry per query it is recall in every sense.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].
        k: Number of places, may exceed G.

    Returns:
        A share in [0, 1]; nan where no query has a right entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the tables do not fit each other or a similarity is NaN.

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
    """Return the mean of one over the rank of the first right entry.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].

    Returns:
        A value in [0, 1], 0 for a query whose right entries were not retrieved; nan
        where no query has a right entry.

    Raises:
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    return _mean(1 / first_ranks(similarity, relevant))


def median_rank(similarity: Array, relevant: Array) -> float:
    """Return the median rank of the first right entry.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].

    Returns:
        A rank >= 1; inf where half of the queries or more found nothing right; nan
        where no query has a right entry.

    Raises:
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    return _median(first_ranks(similarity, relevant))


def _median(ranks: NDArray[np.float64]) -> float:
    counted = np.sort(ranks[~np.isnan(ranks)])
    if not len(counted):
        return float("nan")
    low, high = counted[(len(counted) - 1) // 2], counted[len(counted) // 2]
    return float((low + high) / 2)  # np.median of infinities warns


def mean_average_precision(
    similarity: Array, relevant: Array, k: int | None = None
) -> float:
    """Return mAP: the precision at each right entry, averaged over right entries.

    Give ids to `same_key` for the mAP of instances, classes for that of categories.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].
        k: Places that count; the precisions are then divided by the number of right
            entries that fit, min(k, right). None counts all.

    Returns:
        A value in [0, 1]; right entries that were not retrieved count 0; nan where no
        query has a right entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    return _mean(average_precisions(similarity, relevant, k))


def average_precisions(
    similarity: Array, relevant: Array, k: int | None = None
) -> NDArray[np.float64]:
    """Return the average precision of each query, see `mean_average_precision`.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].
        k: Places that count; None counts all.

    Returns:
        [Q], each in [0, 1]; nan where there is no right entry.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    _check_k(k)
    found, total = _ranked(similarity, relevant)
    places = np.arange(1, found.shape[1] + 1)
    precision = np.where(found, found.cumsum(axis=1) / places, 0)[:, :k].sum(axis=1)
    return _divide(precision, total if k is None else np.minimum(total, k))


def ndcg(similarity: Array, gains: Array, k: int | None = None) -> float:
    """Return the normalized discounted cumulative gain.

    The sum of gain / log2(1 + rank), divided by that of the best order.

    References:
        Cumulated gain-based evaluation of IR techniques. Jarvelin and Kekalainen,
        2002 (with the gain itself, not 2^gain - 1).

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        gains: How right each entry is, >= 0, or booleans, [Q, G].
        k: Places that count; None counts all.

    Returns:
        A value in [0, 1]; among equal similarities the smaller gain ranks first; nan
        where no query has an entry with a gain.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the tables do not fit each other, a similarity is NaN, or a
            gain is negative or not finite.
    """
    _check_k(k)
    similarity, gains = _tables(similarity, np.asarray(gains, dtype=np.float64))
    if gains.size and not (np.isfinite(gains).all() and gains.min() >= 0):
        raise DataError(
            "gains must be finite and at least 0, got others. Give 0 to wrong entries."
        )
    discount = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    worth = np.take_along_axis(
        np.where(similarity == -np.inf, 0, gains), _order(similarity, gains), axis=1
    )
    ideal = -np.sort(-gains, axis=1)
    return _mean(
        _divide((worth * discount)[:, :k].sum(1), (ideal * discount)[:, :k].sum(1))
    )


def retrieval_scores(
    similarity: Array, relevant: Array, ks: Ks = (1, 5, 10)
) -> dict[str, float]:
    """Return every retrieval score by its name, from one ranking.

    Args:
        similarity: [Q, G], -inf for what was not retrieved.
        relevant: Booleans [Q, G].
        ks: Places for Recall@K.

    Returns:
        recall_at_1, recall_at_5, recall_at_10 (by `ks`), mrr, median_rank, map, ndcg;
        all nan where no query has a right entry.

    Raises:
        ConfigError: If a k is below 1.
        DataError: If the tables do not fit each other or a similarity is NaN.
    """
    return {
        **rank_scores(first_ranks(similarity, relevant), ks),
        "map": mean_average_precision(similarity, relevant),
        "ndcg": ndcg(similarity, relevant),
    }


def rank_scores(ranks: Array, ks: Ks = (1, 5, 10)) -> dict[str, float]:
    """Return the scores that the ranks of first right entries decide, by name.

    Args:
        ranks: [Q] as of `first_ranks`, of one or several tables.
        ks: Places for Recall@K.

    Returns:
        recall_at_1, recall_at_5, recall_at_10 (by `ks`), mrr and median_rank; all nan
        where no query has a right entry.

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
    """Return where right entries were retrieved, best place first, and how many are.

    [Q, G] and [Q].
    """
    similarity, relevant = _tables(similarity, relevant)
    if relevant.dtype != bool:
        raise DataError(
            f"relevant must be booleans, got {relevant.dtype}. Compare keys with "
            "same_key; ndcg takes graded gains."
        )
    found = relevant & (similarity > -np.inf)
    order = _order(similarity, relevant)
    return np.take_along_axis(found, order, axis=1), relevant.sum(axis=1)


def _order(similarity: Array, gains: Array) -> NDArray[np.int64]:
    """Return the places, best similarity first, among equals the smallest gain."""
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
            "similarity must not be NaN, got some. Give -inf to what cannot be "
            "retrieved."
        )
    return similarity, relevant


def _check_k(k: int | None) -> None:
    if k is not None and k < 1:
        raise ConfigError(f"k must be at least 1, got {k}. Defaults are 1, 5 and 10.")


def _divide(part: Array, whole: Array) -> NDArray[np.float64]:
    """Return the quotient; nan where there is nothing to divide by."""
    return part / np.where(whole > 0, whole, np.nan)


def _mean(values: NDArray[Any]) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else float("nan")
