"""How well true pairs of sides are told from wrong ones.

Letters: `N` samples, `P` pairs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.data.splits import encode_groups
from mmgraph.data.targets import class_numbers
from mmgraph.errors import DataError
from mmgraph.evaluation.pairs import (
    NUM_HARD_NEGATIVES,
    BoolTable,
    Direction,
    IntArray,
    Names,
    _check_left,
    _read,
    _written,
    content_ids,
    draw_partners,
    has_any,
    relevance_matrix,
    side_vectors,
)
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.metrics import matching_scores
from mmgraph.metrics.scores import mean_scores

Array = NDArray[np.floating]
Match = Callable[[MultimodalData, MultimodalData], Array]


def score_matching(
    match: Match,
    data: MultimodalData,
    direction: Direction,
    keys: IntArray,
    *,
    masked: MultimodalData | None = None,
    labels: IntArray | None = None,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Score the probabilities of true pairs against those of wrong ones.

    Each sample with both sides is a true pair, and its left side with the right side
    of another sample a wrong one. Wrong partners have another key and other content.

    Args:
        match: Says how likely row i of one belongs to row i of the other, [P].
        data: Samples whose modalities are numbers.
        direction: The left and the right side.
        keys: Sides of samples with the same number belong together, [N]; -1 is none.
        masked: The samples that are asked, with modalities removed; None: the data.
            Those that lost a side are left out.
        labels: Number of the class of each sample, [N], -1 where unknown; None: none.
        seed: Of the wrong partners.

    Returns:
        By kind of wrong partner, "random", "similar" (of those most like the right
        one by their standardised features), "random and similar" in equal parts, and
        with labels "same label": auroc, average_precision, log_loss, brier and
        expected_calibration_error, half of the pairs being true, and num_pairs. All
        nan where there is no pair.
    """
    masked = data if masked is None else masked
    sides = direction.source, direction.target
    rows = np.flatnonzero(has_any(masked, sides[0]) & has_any(masked, sides[1]))
    left, right = (content_ids(data, side)[rows] for side in sides)
    ours, asked = keys[rows], masked[rows]
    together = relevance_matrix(left, right, ours)

    def wrong(part: slice) -> BoolTable:
        these = np.asarray(together[left[part]][:, right].toarray() == 0)
        return these & ((ours[part, None] != ours) | (ours < 0))

    drawn = draw_partners(
        wrong,
        side_vectors(data[rows], direction.target),
        seed,
        None if labels is None else _equal(labels[rows]),
    )
    true = match(asked, asked) if len(rows) else np.empty(0)
    found = {}
    for kind, other in drawn.items():
        at = np.flatnonzero(other >= 0)
        false = match(asked[at], asked[other[at]]) if len(at) else np.empty(0)
        found[kind] = true[at], false
    both = [
        np.concatenate([found[k][i] for k in ("random", "similar")]) for i in (0, 1)
    ]
    named = {"random": found.pop("random"), "similar": found.pop("similar")}
    named |= {"random and similar": (both[0], both[1])} | found
    return {kind: _scores(*pair) for kind, pair in named.items()}


def _equal(labels: IntArray) -> Callable[[slice], BoolTable]:
    return lambda part: (labels[part, None] == labels) & (labels[part, None] >= 0)


def _scores(true: Array, false: Array) -> dict[str, float]:
    p = np.concatenate([true, false]).astype(np.float64)
    y = np.repeat([1, 0], [len(true), len(false)])
    return {"num_pairs": float(len(p)), **matching_scores(y, p)}


LOST_PAIRS = (
    "Modalities are removed from both sides; a pair that lost one of them is not asked."
)


def score_matcher(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    asked: Sequence[Scenario],
) -> Evaluation:
    """Score a matcher against wrong partners, under each missing pattern.

    Args:
        model: Fitted.
        data: Samples with both sides; those of one group belong together.
        asked: What is removed from both sides.

    Raises:
        ConfigError: Sides that lose their only modality.
        DataError: A side without modalities.
    """
    names, data = _read(model, data)
    direction = _sides(model, names)
    _check_left([direction.source, direction.target], asked, "a matcher")
    keys, labels = encode_groups(data.groups, len(data)), class_numbers(data.y)
    lines = []
    for removal in asked:
        found = [
            score_matching(
                lambda left, right: np.asarray(model.predict_proba(left, right)),
                data,
                direction,
                keys,
                masked=removal.apply(data, seed),
                labels=labels,
                seed=seed,
            )
            for seed in removal
        ]
        for kind in found[0]:
            scores = {str(i): each[kind] for i, each in enumerate(found)}
            lines.append(ScoreRow(removal.name, kind, mean_scores(scores)))
    notes = [
        "Half of the pairs are true. Wrong partners have another "
        f"{'sample' if data.groups is None else 'group'} and another content; similar is "
        f"one of the {NUM_HARD_NEGATIVES} most like the right one. Probabilities are calibrated for "
        "random and similar ones in equal parts."
    ]
    notes += [LOST_PAIRS] if any(each.removes for each in asked) else []
    return Evaluation(tuple(lines), "wrong partners", tuple(notes))


def _sides(model: Any, names: Names) -> Direction:  # noqa: ANN401
    """Return both sides of a matcher, of what the samples have."""
    sides = []
    for side, given in (("left", model.left), ("right", model.right)):
        wanted = [given] if isinstance(given, str) else list(given)
        sides.append(tuple(name for name in wanted if name in names))
        if not sides[-1]:
            raise DataError(
                f"Data of the {side} side must have one of {_written(wanted)}, got "
                f"{_written(names)}."
            )
    return Direction(*sides)
