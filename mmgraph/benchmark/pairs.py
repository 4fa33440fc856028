"""Retrieval and matching in the benchmark: tasks, protocol and scores.

The test part is the gallery, complete at every missing rate, so that rates can be
compared: modalities are removed from the queries only. Empty queries are skipped. Equal
entries count once.
Letters: `N` samples, `Q` queries, `G` gallery entries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.evaluation.pairs import (
    Direction,
    content_ids,
    draw_negatives,
    first_unique,
    has_any,
    side_vectors,
)
from mmgraph.metrics import auroc, retrieval_scores, same_key
from mmgraph.metrics.scores import Scores

BLOCK = 256  # pairs scored at once


@dataclass(frozen=True)
class PairTask:
    """A task of retrieval or matching on a data set.

    Attributes:
        kind: "retrieval" ranks a gallery, "matching" judges pairs.
        dataset: Name of the data set.
        directions: Modalities of queries and gallery.
        key: "groups" or "y"; sides with equal keys belong together.
        metric: The score that is shown first.
        note: Definition of relevance, shown below tables.
        conversion: Conversion of the mirrored file if it is not that of the data set,
            so that samples without a class take part.
        shared: Modalities that are equal, up to rounding, in all samples of a key.
    """

    kind: Literal["retrieval", "matching"]
    dataset: str
    directions: tuple[Direction, ...]
    key: Literal["groups", "y"]
    metric: str
    note: str
    conversion: str | None = None
    shared: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether a query can lose a modality without becoming empty."""
        return any(len(direction.source) > 1 for direction in self.directions)


SOUNDS = ("effect", "speech_en", "speech_fr")
STAMPS = "Relevant is every stamp, or the text, of the same caption."
PAIR_TASKS = {
    "tuxpaint-retrieval": PairTask(
        "retrieval",
        "tuxpaint",
        (
            Direction(("image",), ("text",)),
            Direction(("text",), ("image",)),
            Direction(("image", *SOUNDS), ("text",)),
        ),
        "groups",
        "recall_at_10",
        f"{STAMPS} The captions of the test part do not occur in training.",
        conversion="tuxpaint_whole",
        shared=("text",),
    ),
    "wikipedia-retrieval": PairTask(
        "retrieval",
        "wikipedia",
        (Direction(("image",), ("text",)), Direction(("text",), ("image",))),
        "y",
        "map",
        "Relevant is every entry of the category of the query.",
    ),
    "tuxpaint-matching": PairTask(
        "matching",
        "tuxpaint",
        (Direction(("image", *SOUNDS), ("text",)),),
        "groups",
        "auroc_hard",
        f"{STAMPS} The captions of the test part do not occur in training.",
        conversion="tuxpaint_whole",
        shared=("text",),
    ),
    "spoken-digits-matching": PairTask(
        "matching",
        "spoken_digits",
        (Direction(("image",), ("speech",)),),
        "y",
        "auroc_hard",
        "Images and recordings are paired by digit: they were not recorded together.",
    ),
}
METRICS: dict[str, tuple[str, ...]] = {  # scores by task
    "classification": ("auroc", "accuracy", "balanced_accuracy", "macro_f1"),
    "retrieval": ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "map"),
    "matching": ("auroc_random", "auroc_hard"),
}


@runtime_checkable
class PairModel(Protocol):
    """Interface of a model of retrieval or matching."""

    def fit(self, data: MultimodalData, /) -> Any:  # noqa: ANN401
        """Fit on samples."""
        ...

    def similarity(
        self,
        queries: MultimodalData,
        gallery: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
        /,
    ) -> NDArray[Any]:
        """Return similarities [Q, G]; -inf where a side is empty."""
        ...


def score_pairs(
    model: PairModel,
    task: PairTask,
    test: MultimodalData,
    masked: MultimodalData,
    seed: int,
) -> dict[str, Scores]:
    """Score a model in every direction of a task.

    Args:
        model: Fitted.
        task: The task.
        test: Test samples without extra removal: the gallery.
        masked: The same samples with modalities removed: the queries.
        seed: Seed of the negatives of matching.

    Returns:
        Scores by direction; NaN where there is no query.
    """
    score: Callable[..., Scores] = partial(_match, seed=seed)
    if task.kind == "retrieval":
        score = _retrieve
    return {
        str(direction): score(model, task, direction, test, masked)
        for direction in task.directions
    }


def _retrieve(
    model: PairModel,
    task: PairTask,
    direction: Direction,
    test: MultimodalData,
    masked: MultimodalData,
) -> Scores:
    queries = masked[distinct(test, direction.source, task)]
    queries = queries[np.flatnonzero(has_any(queries, direction.source))]
    gallery = test[distinct(test, direction.target, task)]
    relevant = same_key(keys(queries, task), keys(gallery, task))
    similarity = np.zeros(relevant.shape)
    if similarity.size:
        sides = direction.source, direction.target
        similarity = model.similarity(queries, gallery, *sides)
    scores = retrieval_scores(similarity, relevant)
    return {name: scores[name] for name in METRICS["retrieval"]}


def _match(
    model: PairModel,
    task: PairTask,
    direction: Direction,
    test: MultimodalData,
    masked: MultimodalData,
    seed: int,
) -> Scores:
    both = has_any(masked, direction.source) & has_any(test, direction.target)
    left, right = masked[np.flatnonzero(both)], test[np.flatnonzero(both)]
    key = keys(right, task)
    partners = draw_negatives(
        lambda part: ~same_key(key[part], key),
        side_vectors(right, direction.target),
        seed,
    )
    rows = np.flatnonzero(partners["random"] >= 0)
    if not len(rows):
        return dict.fromkeys(METRICS["matching"], float("nan"))
    chosen = {"auroc_random": partners["random"], "auroc_hard": partners["similar"]}
    true = _scores_of_rows(model, left, right, direction)
    return {
        name: _auroc(
            true,
            _scores_of_rows(model, left[rows], right[other[rows]], direction),
        )
        for name, other in chosen.items()
    }


def _scores_of_rows(
    model: PairModel,
    left: MultimodalData,
    right: MultimodalData,
    direction: Direction,
) -> NDArray[Any]:
    """Return one score per pair, by the `match` method of the model if it has one."""
    sides = direction.source, direction.target
    match = getattr(model, "match", None)
    if match is not None:
        return np.asarray(match(left, right, *sides))
    parts = [
        np.arange(i, min(i + BLOCK, len(left))) for i in range(0, len(left), BLOCK)
    ]
    scores = [np.diag(model.similarity(left[p], right[p], *sides)) for p in parts]
    return np.concatenate(scores)


def _auroc(true: NDArray[Any], false: NDArray[Any]) -> float:
    """Return the AUROC of scores of any scale, computed from their ranks."""
    from scipy.stats import rankdata

    both = np.concatenate([true, false])
    place = rankdata(both) / (len(both) + 1)
    y = np.repeat([1, 0], [len(true), len(false)])
    return auroc(y, np.stack([1 - place, place], axis=1))


def keys(data: MultimodalData, task: PairTask) -> NDArray[Any]:
    """Return the key of each sample, [N]; sides with equal keys belong together."""
    return np.asarray(data.groups if task.key == "groups" else data.y)


def distinct(
    data: MultimodalData, names: Sequence[str], task: PairTask
) -> NDArray[np.int64]:
    """Return the first sample of each distinct nonempty content, in order."""
    if not set(names) <= set(task.shared):
        return first_unique(content_ids(data, names))
    rows = np.flatnonzero(has_any(data, names))
    _, first = np.unique(keys(data, task)[rows], return_index=True)
    return np.sort(rows[first])
