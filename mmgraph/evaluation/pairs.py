"""How well a retriever finds, and a matcher tells, what belongs together."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.labels import class_numbers
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators.folds import number_groups
from mmgraph.evaluation.patterns import Removal
from mmgraph.evaluation.result import Evaluation, Line
from mmgraph.metrics.scores import mean_scores
from mmgraph.pairs import HARD, Direction, score_finding, score_matching

Names: TypeAlias = tuple[str, ...]

LOST_QUERIES = (
    "Modalities are removed from the queries only; a query that lost all of its own is "
    "not asked."
)
LOST_PAIRS = (
    "Modalities are removed from both sides; a pair that lost one of them is not asked."
)
CATEGORIES = "Category mAP: right is every entry of the same label."


def score_retriever(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    asked: Sequence[Removal],
    *,
    query: Sequence[str] | None = None,
    gallery: Sequence[str] | None = None,
    group: str = "group",
) -> Evaluation:
    """Score a retriever in each direction, under each missing pattern.

    Args:
        model: Fitted.
        data: Samples; those of one group belong together, of one label are of one
            category.
        asked: What is removed from the queries.
        query: Modalities to ask by, together; None: each alone.
        gallery: Modalities to find, together; None: each alone.
        group: What a group is called.

    Raises:
        ConfigError: Sides that cannot be asked, or that lose their only modality.
        DataError: Fewer than two modalities of the model.
    """
    names, data = _read(model, data)
    directions = _directions(names, _learned(model), query, gallery)
    _check_left([d.source for d in directions], asked, "queries")
    keys, labels = number_groups(data.groups, len(data)), class_numbers(data.y)
    lines = []
    for direction in directions:
        for removal in asked:
            found = {
                str(seed): score_finding(
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
            lines.append(Line(removal.name, str(direction), mean_scores(found)))
    notes = ["Right is the other side of the same sample, or one that equals it."]
    if data.groups is not None:
        notes = [f"Right is every other side of the same {group}."]
    notes += [LOST_QUERIES] if any(each.removes for each in asked) else []
    notes += [CATEGORIES] if labels is not None else []
    return Evaluation(tuple(lines), "direction", tuple(notes))


def score_matcher(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    asked: Sequence[Removal],
    *,
    group: str = "group",
) -> Evaluation:
    """Score a matcher against wrong partners, under each missing pattern.

    Args:
        model: Fitted.
        data: Samples with both sides; those of one group belong together.
        asked: What is removed from both sides.
        group: What a group is called.

    Raises:
        ConfigError: Sides that lose their only modality.
        DataError: A side without modalities.
    """
    names, data = _read(model, data)
    direction = _sides(model, names)
    _check_left([direction.source, direction.target], asked, "a matcher")
    keys, labels = number_groups(data.groups, len(data)), class_numbers(data.y)
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
            lines.append(Line(removal.name, kind, mean_scores(scores)))
    notes = [
        "Half of the pairs are true. Wrong partners have another "
        f"{'sample' if data.groups is None else group} and another content; similar is "
        f"one of the {HARD} most like the right one. Probabilities are calibrated for "
        "random and similar ones in equal parts."
    ]
    notes += [LOST_PAIRS] if any(each.removes for each in asked) else []
    return Evaluation(tuple(lines), "wrong partners", tuple(notes))


def _learned(model: Any) -> Names:  # noqa: ANN401
    names = model.schema_.modality_names
    return tuple(name for name in names if name not in model.unseen_)


def _read(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
) -> tuple[Names, MultimodalData]:
    """Return the modalities that model and data have, and these as numbers."""
    names = tuple(name for name in _learned(model) if name in data.modalities)
    return names, model.raw_.as_numbers(data.select(names), progress=model.verbose)


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


def _check_left(sides: Sequence[Names], asked: Sequence[Removal], subject: str) -> None:
    """Refuse patterns where what loses a modality cannot be asked any more."""
    if any(each.removes for each in asked) and all(len(side) < 2 for side in sides):
        raise ConfigError(
            f"missing must go with {subject} of several modalities: what lost its only "
            "one cannot be asked. Got one each.",
            "Name several by query=." if subject == "queries" else "",
        )


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


def _written(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else ", ".join(names) or "none"
