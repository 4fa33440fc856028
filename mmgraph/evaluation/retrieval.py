"""Scores of retrievers: ranks of the relevant gallery entries.

Letters: `N` samples, `Q` queries, `G` gallery entries.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.data.splits import encode_groups
from mmgraph.data.targets import class_numbers
from mmgraph.errors import ConfigError, DataError
from mmgraph.evaluation.pairs import (
    Direction,
    IntArray,
    Names,
    check_removable,
    content_ids,
    first_unique,
    has_any,
    join_names,
    read_features,
    relevance_matrix,
    trained_modalities,
)
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.metrics import average_precisions, first_ranks, rank_scores
from mmgraph.metrics.scores import mean_scores

CELLS = 1 << 22  # similarities per block of ranking

Array = NDArray[np.floating]
Embed = Callable[[MultimodalData, tuple[str, ...]], Array]
Similarity = Callable[[Array, Array, Array], Array]

SKIPPED_QUERIES = (
    "Modalities are removed from the queries only; empty queries are skipped."
)
CATEGORIES = "Category mAP: every entry with the label of the query is relevant."


def score_retrieval(
    embed: Embed,
    similarity: Similarity,
    data: MultimodalData,
    direction: Direction,
    keys: IntArray,
    *,
    masked: MultimodalData | None = None,
    labels: IntArray | None = None,
) -> dict[str, float]:
    """Rank the gallery for each query and score the ranks of the relevant entries.

    Equal queries and equal entries count once. Empty queries are skipped, and queries
    without a relevant entry are not counted. The gallery is that of the unmasked data,
    whatever was removed from the queries.

    Args:
        embed: Function from samples and modalities to embeddings; a row of NaN is
            never retrieved.
        similarity: Function from a block of query embeddings, the gallery embeddings
            and all query embeddings to similarities [q, G]; higher is nearer.
        data: Samples whose modalities are numbers.
        direction: Modalities of the queries and of the gallery.
        keys: Key of each sample, [N]; sides with equal keys belong together, -1 is
            none.
        masked: The query samples, with modalities removed; None is the data.
        labels: Class of each sample, [N], -1 where unknown; None without labels.

    Returns:
        recall_at_1, recall_at_5, recall_at_10, mrr, median_rank and map by keys, with
        labels category_map; the numbers of counted queries and of gallery entries as
        num_queries and num_entries. Scores are NaN where there is no query.
    """
    masked = data if masked is None else masked
    query_ids = content_ids(data, direction.source)
    entry_ids = content_ids(data, direction.target)
    query_ids[~has_any(masked, direction.source)] = -1
    rows, gallery = first_unique(query_ids), first_unique(entry_ids)
    by_name = {"": keys} if labels is None else {"": keys, "category": labels}
    tables = {
        name: relevance_matrix(query_ids, entry_ids, key)
        for name, key in by_name.items()
    }
    ranks, precisions = [np.empty(0)], {name: [np.empty(0)] for name in by_name}
    if len(rows) and len(gallery):
        z = embed(masked[rows], direction.source)
        entries = embed(data[gallery], direction.target)
        size = max(1, CELLS // len(gallery))
        for part in (slice(i, i + size) for i in range(0, len(rows), size)):
            scores = np.asarray(similarity(z[part], entries, z))
            scores = np.where(np.isnan(scores), -np.inf, scores)
            for name, table in tables.items():
                block = table[query_ids[rows[part]]][:, entry_ids[gallery]]
                relevant = block.toarray() > 0
                precisions[name].append(average_precisions(scores, relevant))
                if not name:
                    ranks.append(first_ranks(scores, relevant))
    first = np.concatenate(ranks)
    means = {name: _mean(np.concatenate(of)) for name, of in precisions.items()}
    return {
        **{"num_queries": float((~np.isnan(first)).sum())},
        **{"num_entries": float(len(gallery)), **rank_scores(first)},
        **{f"{name}_map".lstrip("_"): value for name, value in means.items()},
    }


def _mean(values: Array) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def score_retriever(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    scenarios: Sequence[Scenario],
    *,
    query: Sequence[str] | None = None,
    gallery: Sequence[str] | None = None,
) -> Evaluation:
    """Score a retriever in each direction and scenario.

    Args:
        model: Fitted retriever.
        data: Samples; those of one group belong together, those with one label are of
            one category.
        scenarios: Modalities to remove from the queries.
        query: Modalities of a query, used together; None is each on its own.
        gallery: Modalities of an entry, used together; None is each on its own.

    Raises:
        ConfigError: If `query` or `gallery` names unknown modalities, they overlap, or
            modalities are removed from queries of one modality each.
        DataError: If the samples have fewer than two modalities of the model.
    """
    names, data = read_features(model, data)
    directions = _directions(names, trained_modalities(model), query, gallery)
    check_removable([d.source for d in directions], scenarios, "queries")
    keys, labels = encode_groups(data.groups, len(data)), class_numbers(data.y)
    rows = []
    for direction in directions:
        for scenario in scenarios:
            by_seed = {
                str(seed): score_retrieval(
                    lambda side, names: model.embed(side, modalities=names),
                    lambda z, entries, bank: model.similarity(z, entries, bank=bank),
                    data,
                    direction,
                    keys,
                    masked=scenario.apply(data, seed),
                    labels=labels,
                )
                for seed in scenario
            }
            rows.append(ScoreRow(scenario.name, str(direction), mean_scores(by_seed)))
    notes = ["A hit is the entry of the same sample, or one with identical content."]
    if data.groups is not None:
        notes = ["A hit is any entry of the same group."]
    notes += [SKIPPED_QUERIES] if any(each.removes for each in scenarios) else []
    notes += [CATEGORIES] if labels is not None else []
    return Evaluation(tuple(rows), "direction", tuple(notes))


def _directions(
    names: Names,
    trained: Names,
    query: Sequence[str] | None,
    gallery: Sequence[str] | None,
) -> list[Direction]:
    """Return the directions to score: those of the arguments, else all pairs."""
    if len(names) < 2:
        raise DataError(
            "Samples must have at least two of the modalities "
            f"{join_names(trained)}, got {join_names(names)}."
        )
    sides = []
    for side, given in (("query", query), ("gallery", gallery)):
        chosen = (given,) if isinstance(given, str) else tuple(given or ())
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise ConfigError(
                f"{side} must name modalities of model and samples, "
                f"{join_names(names)}, got {unknown[0]!r}.",
                parameter=side,
            )
        sides.append([chosen] if chosen else [(name,) for name in names])
    directions = [
        Direction(a, b) for a in sides[0] for b in sides[1] if not {*a} & {*b}
    ]
    if not directions:
        raise ConfigError(
            "query must have no modality in common with the gallery, got "
            f"{join_names(query or names)} and {join_names(gallery or names)}.",
            parameter="query",
        )
    return directions
