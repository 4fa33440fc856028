"""Scores of matchers: true pairs against negatives.

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
    check_removable,
    content_ids,
    draw_negatives,
    has_any,
    join_names,
    read_features,
    relevance_matrix,
    side_vectors,
)
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.metrics import matching_scores
from mmgraph.metrics.scores import mean_scores

Array = NDArray[np.floating]
Match = Callable[[MultimodalData, MultimodalData], Array]

SKIPPED_PAIRS = (
    "Modalities are removed from both sides; pairs with an empty side are skipped."
)


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
    """Score the probabilities of true pairs against those of negatives.

    Each sample with both sides is a true pair; its left side with the right side of
    another sample is a negative. The right side of a negative has another key and
    another content.

    Args:
        match: Function that returns the probability that row i of the left data
            belongs to row i of the right data, [P].
        data: Samples whose modalities are numbers.
        direction: The left and the right side.
        keys: Key of each sample, [N]; sides with equal keys belong together, -1 is
            none.
        masked: The samples to score, with modalities removed; None is the data. Pairs
            with an empty side are skipped.
        labels: Class of each sample, [N], -1 where unknown; None without labels.
        seed: Seed of the negatives.

    Returns:
        By kind of negatives ("random"; "similar", among those most similar to the
        right side in standardized features; "random and similar" in equal parts; and
        with labels "same label"): auroc, average_precision, log_loss, brier and
        expected_calibration_error with half of the pairs true, and num_pairs. All NaN
        where there is no pair.
    """
    masked = data if masked is None else masked
    sides = direction.source, direction.target
    rows = np.flatnonzero(has_any(masked, sides[0]) & has_any(masked, sides[1]))
    left, right = (content_ids(data, side)[rows] for side in sides)
    pair_keys, samples = keys[rows], masked[rows]
    relevant = relevance_matrix(left, right, pair_keys)

    def wrong(part: slice) -> BoolTable:
        unrelated = np.asarray(relevant[left[part]][:, right].toarray() == 0)
        return unrelated & ((pair_keys[part, None] != pair_keys) | (pair_keys < 0))

    drawn = draw_negatives(
        wrong,
        side_vectors(data[rows], direction.target),
        seed,
        None if labels is None else _same_label(labels[rows]),
    )
    true = match(samples, samples) if len(rows) else np.empty(0)
    pairs = {}
    for kind, partner in drawn.items():
        at = np.flatnonzero(partner >= 0)
        false = match(samples[at], samples[partner[at]]) if len(at) else np.empty(0)
        pairs[kind] = true[at], false
    both = [
        np.concatenate([pairs[k][i] for k in ("random", "similar")]) for i in (0, 1)
    ]
    by_kind = {"random": pairs.pop("random"), "similar": pairs.pop("similar")}
    by_kind |= {"random and similar": (both[0], both[1])} | pairs
    return {kind: _scores(*pair) for kind, pair in by_kind.items()}


def _same_label(labels: IntArray) -> Callable[[slice], BoolTable]:
    return lambda part: (labels[part, None] == labels) & (labels[part, None] >= 0)


def _scores(true: Array, false: Array) -> dict[str, float]:
    p = np.concatenate([true, false]).astype(np.float64)
    y = np.repeat([1, 0], [len(true), len(false)])
    return {"num_pairs": float(len(p)), **matching_scores(y, p)}


def score_matcher(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    scenarios: Sequence[Scenario],
) -> Evaluation:
    """Score a matcher against negatives, in each scenario.

    Args:
        model: Fitted matcher.
        data: Samples with both sides; samples of one group belong together.
        scenarios: Modalities to remove from both sides.

    Raises:
        ConfigError: If modalities are removed from sides of one modality each.
        DataError: If a side has no modality.
    """
    names, data = read_features(model, data)
    direction = _sides(model, names)
    check_removable([direction.source, direction.target], scenarios, "a matcher")
    keys, labels = encode_groups(data.groups, len(data)), class_numbers(data.y)
    rows = []
    for scenario in scenarios:
        by_seed = [
            score_matching(
                lambda left, right: np.asarray(model.predict_proba(left, right)),
                data,
                direction,
                keys,
                masked=scenario.apply(data, seed),
                labels=labels,
                seed=seed,
            )
            for seed in scenario
        ]
        for kind in by_seed[0]:
            scores = {str(i): each[kind] for i, each in enumerate(by_seed)}
            rows.append(ScoreRow(scenario.name, kind, mean_scores(scores)))
    unit = "sample" if data.groups is None else "group"
    notes = [
        f"Half of the pairs are true. The others are negatives: partners from another "
        f"{unit} with different content; similar ones are drawn from the "
        f"{NUM_HARD_NEGATIVES} nearest. Probabilities are calibrated for random and "
        "similar negatives in equal parts."
    ]
    notes += [SKIPPED_PAIRS] if any(each.removes for each in scenarios) else []
    return Evaluation(tuple(rows), "wrong partners", tuple(notes))


def _sides(model: Any, names: Names) -> Direction:  # noqa: ANN401
    """Return the modalities of both sides of a matcher that the samples have."""
    sides = []
    for side, given in (("left", model.left), ("right", model.right)):
        expected = [given] if isinstance(given, str) else list(given)
        sides.append(tuple(name for name in expected if name in names))
        if not sides[-1]:
            raise DataError(
                f"Data of the {side} side must have one of {join_names(expected)}, got "
                f"{join_names(names)}."
            )
    return Direction(*sides)
