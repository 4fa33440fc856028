"""How well one side of a sample is found by the other.

Letters: `N` samples, `Q` queries, `G` gallery entries, `W` width of an embedding.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.metrics import average_precisions, first_ranks, rank_scores
from mmgraph.pairs.sides import (
    Direction,
    IntArray,
    contents,
    firsts,
    has_any,
    related,
)

CELLS = 1 << 22  # similarities that are ranked at once

Array = NDArray[np.floating]
Embed = Callable[[MultimodalData, tuple[str, ...]], Array]
Similarity = Callable[[Array, Array, Array], Array]


def score_finding(
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
    asked, entries = contents(data, direction.source), contents(data, direction.target)
    asked[~has_any(masked, direction.source)] = -1
    rows, gallery = firsts(asked), firsts(entries)
    right = {"": keys} if labels is None else {"": keys, "category": labels}
    tables = {name: related(asked, entries, key) for name, key in right.items()}
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
