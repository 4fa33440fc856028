"""How well one side of a sample is found by the other.

Letters: `N` samples, `Q` queries, `G` gallery entries, `W` width of an embedding.
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
    _check_left,
    _learned,
    _read,
    _written,
    content_ids,
    first_unique,
    has_any,
    relevance_matrix,
)
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.metrics import average_precisions, first_ranks, rank_scores
from mmgraph.metrics.scores import mean_scores

CELLS = 1 << 22  # similarities that are ranked at once

Array = NDArray[np.floating]
Embed = Callable[[MultimodalData, tuple[str, ...]], Array]
Similarity = Callable[[Array, Array, Array], Array]


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
    """Rank the gallery for each query and score the places of what is right.

    Queries and entries that are the same count once. A query that is empty is not
    asked, one without a right entry is not counted. The gallery is that of the data
    as they are, whatever the queries lost.

    Args:
        embed: Turns samples into vectors by some of their modalities; an all-NaN row
            finds nothing and is not found.
        similarity: Of some of the queries to the gallery, given all queries as the
            third, [q, G]; higher is nearer.
        data: Samples whose modalities are numbers.
        direction: What is looked for from what.
        keys: Sides of samples with the same number belong together, [N]; -1 is none.
        masked: The samples that are asked, with modalities removed; None: the data.
        labels: Number of the class of each sample, [N], -1 where unknown; None: none.

    Returns:
        recall_at_1, recall_at_5, recall_at_10, mrr, median_rank and map by keys, with
        labels category_map; the numbers of queries counted and of gallery entries as
        num_queries and num_entries. Scores are nan where there is nobody to ask.
    """
    masked = data if masked is None else masked
    asked, entries = (
        content_ids(data, direction.source),
        content_ids(data, direction.target),
    )
    asked[~has_any(masked, direction.source)] = -1
    rows, gallery = first_unique(asked), first_unique(entries)
    right = {"": keys} if labels is None else {"": keys, "category": labels}
    tables = {
        name: relevance_matrix(asked, entries, key) for name, key in right.items()
    }
    ranks, precisions = [np.empty(0)], {name: [np.empty(0)] for name in right}
    if len(rows) and len(gallery):
        z = embed(masked[rows], direction.source)
        there = embed(data[gallery], direction.target)
        size = max(1, CELLS // len(gallery))
        for part in (slice(i, i + size) for i in range(0, len(rows), size)):
            near = np.asarray(similarity(z[part], there, z))
            near = np.where(np.isnan(near), -np.inf, near)
            for name, table in tables.items():
                these = table[asked[rows[part]]][:, entries[gallery]].toarray() > 0
                precisions[name].append(average_precisions(near, these))
                if not name:
                    ranks.append(first_ranks(near, these))
    places = np.concatenate(ranks)
    found = {name: _mean(np.concatenate(of)) for name, of in precisions.items()}
    return {
        **{"num_queries": float((~np.isnan(places)).sum())},
        **{"num_entries": float(len(gallery)), **rank_scores(places)},
        **{f"{name}_map".lstrip("_"): value for name, value in found.items()},
    }


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


LOST_QUERIES = (
    "Modalities are removed from the queries only; a query that lost all of its own is "
    "not asked."
)

CATEGORIES = "Category mAP: right is every entry of the same label."


def score_retriever(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    asked: Sequence[Scenario],
    *,
    query: Sequence[str] | None = None,
    gallery: Sequence[str] | None = None,
) -> Evaluation:
    """Score a retriever in each direction, under each missing pattern.

    Args:
        model: Fitted.
        data: Samples; those of one group belong together, of one label are of one
            category.
        asked: What is removed from the queries.
        query: Modalities to ask by, together; None: each alone.
        gallery: Modalities to find, together; None: each alone.

    Raises:
        ConfigError: Sides that cannot be asked, or that lose their only modality.
        DataError: Fewer than two modalities of the model.
    """
    names, data = _read(model, data)
    directions = _directions(names, _learned(model), query, gallery)
    _check_left([d.source for d in directions], asked, "queries")
    keys, labels = encode_groups(data.groups, len(data)), class_numbers(data.y)
    lines = []
    for direction in directions:
        for removal in asked:
            found = {
                str(seed): score_retrieval(
                    lambda side, names: model.embed(side, modalities=names),
                    lambda z, there, bank: model.similarity(z, there, bank=bank),
                    data,
                    direction,
                    keys,
                    masked=removal.apply(data, seed),
                    labels=labels,
                )
                for seed in removal
            }
            lines.append(ScoreRow(removal.name, str(direction), mean_scores(found)))
    notes = ["Right is the other side of the same sample, or one that equals it."]
    if data.groups is not None:
        notes = ["Right is every other side of the same group."]
    notes += [LOST_QUERIES] if any(each.removes for each in asked) else []
    notes += [CATEGORIES] if labels is not None else []
    return Evaluation(tuple(lines), "direction", tuple(notes))


def _directions(
    names: Names,
    learned: Names,
    query: Sequence[str] | None,
    gallery: Sequence[str] | None,
) -> list[Direction]:
    """Return what is looked for from what: each pair of modalities, or as asked."""
    if len(names) < 2:
        raise DataError(
            "Samples must have at least two of the modalities "
            f"{_written(learned)}, got {_written(names)}."
        )
    sides = []
    for side, given in (("query", query), ("gallery", gallery)):
        asked = (given,) if isinstance(given, str) else tuple(given or ())
        unknown = [name for name in asked if name not in names]
        if unknown:
            raise ConfigError(
                f"{side} must name modalities of model and samples, "
                f"{_written(names)}, got {unknown[0]!r}."
            )
        sides.append([asked] if asked else [(name,) for name in names])
    found = [Direction(a, b) for a in sides[0] for b in sides[1] if not {*a} & {*b}]
    if not found:
        raise ConfigError(
            "query must have no modality in common with the gallery, got "
            f"{_written(query or names)} and {_written(gallery or names)}."
        )
    return found
