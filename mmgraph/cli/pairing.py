"""How good a saved retriever or matcher is on samples that it has not seen."""

from typing import Any

import numpy as np

from mmgraph.benchmark.pairs import mean_scores
from mmgraph.cli.reading import Samples, in_memory, is_folder_of_files, read_samples
from mmgraph.cli.scoring import Measured, Question, names_of, thin
from mmgraph.cli.workflow import Columns, Tell, as_trained, telling_missing, there
from mmgraph.data import MultimodalData
from mmgraph.data.labels import class_numbers
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators.folds import number_groups
from mmgraph.pairs import HARD, Direction, score_finding, score_matching
from mmgraph.pairs.sides import IntArray

LOST = {
    "retrieval": "Modalities are removed from the queries only; a query that lost all "
    "of its own is not asked.",
    "matching": "Modalities are removed from both sides; a pair that lost one of them "
    "is not asked.",
}


def measure_pairs(
    model: Any,  # noqa: ANN401
    columns: Columns,
    question: Question,
    tell: Tell,
) -> Measured:
    """Score a retriever in each direction, or a matcher against wrong partners.

    Args:
        model: Fitted.
        columns: Which columns of the file are what.
        question: What is to be measured.
        tell: Takes a line that names the modalities of the model that the file lacks.

    Raises:
        ConfigError: If the sides that were asked for cannot be asked.
        DataError: If the file lacks two sides, or its labels are no classes.
    """
    data = in_memory(as_trained(_read(columns, question), model))
    for _ in telling_missing(question.file, data, model, tell):
        pass
    known = [m for m in model.schema_.modality_names if m not in model.unseen_]
    names = tuple(m for m in known if m in data.modalities)
    data = model.raw_.as_numbers(data.select(names), progress=model.verbose)
    labels = _labels(data, question)
    options: dict[str, Any] = {"labels": labels}
    keys = number_groups(data.groups, len(data))
    group = question.group or columns.group or "group"
    grouped = data.groups is not None
    notes = ["Right is the other side of the same sample, or one that equals it."]
    if grouped:
        notes = [f"Right is every other side of the same {group}."]
    if max(question.rates) > 0:
        notes.append(LOST[columns.task])
    if columns.task == "retrieval":
        directions = _directions(names, known, question)
        lines = _find(model, data, directions, keys, question, options)
        asked = "direction"
        if labels is not None:
            notes.append("Category mAP: right is every entry of the same label.")
    else:
        direction = _sides(model, names)
        _check_rates([direction.source, direction.target], question, "a matcher")
        lines = _match(model, data, direction, keys, question, options)
        asked = "wrong partners"
        notes[0] = (
            "Half of the pairs are true. Wrong partners have another "
            f"{group if grouped else 'sample'} and another content; similar "
            f"is one of the {HARD} most like the right one. Probabilities are "
            "calibrated for random and similar ones in equal parts."
        )
    return Measured(tuple(lines), asked, tuple(notes))


def _read(columns: Columns, question: Question) -> Samples:
    """Read the samples, with labels and groups where there are any."""
    file = question.file
    if is_folder_of_files(file):
        label, group = question.label, question.group
        given = question.modalities or {}
        return read_samples(file, modalities=given, label=label, group=group)
    modalities = there(columns, file, question.modalities)
    have = _column_names(file)
    # those of the training are used where the file has them
    label = question.label or (columns.label if columns.label in have else None)
    group = question.group or (columns.group if columns.group in have else None)
    id = columns.id if columns.id in have else None
    return read_samples(file, modalities=modalities, label=label, group=group, id=id)


def _column_names(file: Any) -> set[str]:  # noqa: ANN401
    from mmgraph.data.storage import column_names, parquet_files

    first = next(iter(parquet_files(file)), file)
    return set(column_names(first)) if first.is_file() else set()


def _labels(data: MultimodalData, question: Question) -> IntArray | None:
    labels = class_numbers(data.y)
    if labels is None and question.label is not None:
        raise DataError(
            f"--label must name a column of at least two classes of which samples "
            f"share one, got '{question.label}'. Leave it out to measure without."
        )
    return labels


def _directions(
    names: tuple[str, ...], known: list[str], question: Question
) -> list[Direction]:
    """Return what is looked for from what: each pair of modalities, or as asked."""
    if len(names) < 2:
        raise DataError(
            f"{question.file} must hold at least two of the modalities "
            f"{names_of(known)}, got {names_of(names)}."
        )
    for option, asked in (("--query", question.query), ("--gallery", question.gallery)):
        for name in asked or ():
            if name not in names:
                raise ConfigError(
                    f"{option} must name modalities of model and file, "
                    f"{names_of(names)}, got {name!r}."
                )
    sides = [
        [asked] if asked else [(name,) for name in names]
        for asked in (question.query, question.gallery)
    ]
    found = [Direction(a, b) for a in sides[0] for b in sides[1] if not {*a} & {*b}]
    if not found:
        raise ConfigError(
            "--query and --gallery must have no modality in common, got "
            f"{names_of(question.query or names)} and "
            f"{names_of(question.gallery or names)}."
        )
    _check_rates([direction.source for direction in found], question, "queries")
    return found


def _check_rates(
    sides: list[tuple[str, ...]], question: Question, subject: str
) -> None:
    """Refuse rates where what loses a modality cannot be asked any more."""
    if max(question.rates) > 0 and all(len(side) < 2 for side in sides):
        remedy = " Give --query NAME,NAME." if subject == "queries" else ""
        raise ConfigError(
            f"--missing must go with {subject} of several modalities: what lost its "
            f"only one cannot be asked. Got one each.{remedy}"
        )


def _sides(model: Any, names: tuple[str, ...]) -> Direction:  # noqa: ANN401
    """Return both sides of a matcher, of what the file has."""
    sides = []
    for side, given in (("left", model.left), ("right", model.right)):
        wanted = [given] if isinstance(given, str) else list(given)
        sides.append(tuple(name for name in wanted if name in names))
        if not sides[-1]:
            raise DataError(
                f"Data of the {side} side must have one of {names_of(wanted)}, got "
                f"{names_of(names)}."
            )
    return Direction(*sides)


Lines = list[tuple[float, str, dict[str, float]]]


def _find(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    directions: list[Direction],
    keys: IntArray,
    question: Question,
    options: dict[str, Any],
) -> Lines:
    lines = []
    for direction in directions:
        for rate in question.rates:
            scores = {
                str(seed): score_finding(
                    lambda side, names: model.embed(side, modalities=names),
                    lambda z, gallery, bank: model.similarity(z, gallery, bank=bank),
                    data,
                    direction,
                    keys,
                    masked=thin(data, rate, seed),
                    **options,
                )
                for seed in question.mask_seeds(rate)
            }
            lines.append((rate, str(direction), mean_scores(scores)))
    return lines


def _match(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    direction: Direction,
    keys: IntArray,
    question: Question,
    options: dict[str, Any],
) -> Lines:
    lines = []
    for rate in question.rates:
        found = [
            score_matching(
                lambda left, right: np.asarray(model.predict_proba(left, right)),
                data,
                direction,
                keys,
                masked=thin(data, rate, seed),
                seed=seed,
                **options,
            )
            for seed in question.mask_seeds(rate)
        ]
        for kind in found[0]:
            scores = {str(i): each[kind] for i, each in enumerate(found)}
            lines.append((rate, kind, mean_scores(scores)))
    return lines
