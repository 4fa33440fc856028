"""Retrieval and matching in the benchmark: what is asked, of whom, and the scores.

The test part is a gallery that stays whole at every missing rate, so that rates can be
compared: modalities are removed from the queries only. A query that lost all modalities
of a direction is not asked. Entries that are the same count once.
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
    draw_partners,
    first_unique,
    has_any,
    side_vectors,
)
from mmgraph.metrics import auroc, retrieval_scores, same_key
from mmgraph.metrics.scores import Scores

BLOCK = 256  # rows that are matched at once


@dataclass(frozen=True)
class PairTask:
    """What is asked of pairs of sides.

    Attributes:
        kind: "retrieval" ranks a gallery, "matching" judges pairs.
        dataset: The data set, by its name.
        directions: What is looked for from what.
        key: "groups" or "y": sides with an equal one belong together.
        metric: The score that is shown first.
        note: What a reader has to know.
        conversion: Of the mirrored file, where it is not that of the data set: the
            samples without a class take part, too.
        shared: Modalities that all samples of a key have in common, up to rounding.
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
        """Whether a query can lose a modality and still be asked."""
        return any(len(direction.source) > 1 for direction in self.directions)


SOUNDS = ("effect", "speech_en", "speech_fr")
STAMPS = "Right is every stamp, or the text, of the same caption."
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
        f"{STAMPS} The captions of the test part were never seen.",
        conversion="tuxpaint_whole",
        shared=("text",),
    ),
    "wikipedia-retrieval": PairTask(
        "retrieval",
        "wikipedia",
        (Direction(("image",), ("text",)), Direction(("text",), ("image",))),
        "y",
        "map",
        "Right is every entry of the category of the query.",
    ),
    "tuxpaint-matching": PairTask(
        "matching",
        "tuxpaint",
        (Direction(("image", *SOUNDS), ("text",)),),
        "groups",
        "auroc_hard",
        f"{STAMPS} The captions of the test part were never seen.",
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
METRICS: dict[str, tuple[str, ...]] = {  # that may be shown first, by task
    "classification": ("auroc", "accuracy", "balanced_accuracy", "macro_f1"),
    "retrieval": ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "map"),
    "matching": ("auroc_random", "auroc_hard"),
}


@runtime_checkable
class PairModel(Protocol):
    """What the benchmark asks of a model of pairs."""

    def fit(self, data: MultimodalData, /) -> Any:  # noqa: ANN401
        """Learn from samples."""
        ...

    def similarity(
        self,
        queries: MultimodalData,
        gallery: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
        /,
    ) -> NDArray[Any]:
        """Return [Q, G]; -inf where a side has nothing."""
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
        task: What is asked.
        test: The test samples as they are: the gallery.
        masked: The same with modalities removed: the queries.
        seed: Of the random negatives of matching.

    Returns:
        Scores by direction; nan where nobody can be asked.
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
    asked = masked[distinct(test, direction.source, task)]
    asked = asked[np.flatnonzero(has_any(asked, direction.source))]
    gallery = test[distinct(test, direction.target, task)]
    relevant = same_key(keys(asked, task), keys(gallery, task))
    found = np.zeros(relevant.shape)
    if found.size:
        sides = direction.source, direction.target
        found = model.similarity(asked, gallery, *sides)
    scores = retrieval_scores(found, relevant)
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
    partners = draw_partners(
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
    """Return one score per row, by a method of the model's own where it has one."""
    sides = direction.source, direction.target
    match = getattr(model, "match", None)
    if match is not None:
        return np.asarray(match(left, right, *sides))
    parts = [
        np.arange(i, min(i + BLOCK, len(left))) for i in range(0, len(left), BLOCK)
    ]
    found = [np.diag(model.similarity(left[p], right[p], *sides)) for p in parts]
    return np.concatenate(found)


def _auroc(true: NDArray[Any], false: NDArray[Any]) -> float:
    """Return the area of scores, of any scale, as that of their ranks."""
    from scipy.stats import rankdata

    both = np.concatenate([true, false])
    place = rankdata(both) / (len(both) + 1)
    y = np.repeat([1, 0], [len(true), len(false)])
    return auroc(y, np.stack([1 - place, place], axis=1))


def keys(data: MultimodalData, task: PairTask) -> NDArray[Any]:
    """Return what two sides that belong together have in common, [N]."""
    return np.asarray(data.groups if task.key == "groups" else data.y)


def distinct(
    data: MultimodalData, names: Sequence[str], task: PairTask
) -> NDArray[np.int64]:
    """Return the first sample of each distinct content that is not empty, in order."""
    if not set(names) <= set(task.shared):
        return first_unique(content_ids(data, names))
    rows = np.flatnonzero(has_any(data, names))
    _, first = np.unique(keys(data, task)[rows], return_index=True)
    return np.sort(rows[first])
