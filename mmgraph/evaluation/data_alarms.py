"""Alarms of data, before a model is fitted.

Letters: ``N`` samples, ``L`` rows, ``C`` channels.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.column import AnyArray, Column
from mmgraph.data.notices import MAX_LISTED
from mmgraph.data.ranges import find_fill_values
from mmgraph.data.summary import holds_classes
from mmgraph.data.targets import known_labels, labeled_rows
from mmgraph.evaluation.alarms import Alarm, presence_alarm
from mmgraph.metrics.bootstrap import Interval

MIN_CELLS = 20  # known cells without which a channel is not called an identifier
DENSE = 2  # range of unordered identifiers, in units of their number


def find_data_alarms(data: MultimodalData) -> list[Alarm]:
    """Return the alarms of data: properties that make scores of models misleading.

    Constant channels, identifiers, fill values such as -9999, and presence of
    modalities that predicts the label. A continuous label is divided at its median.

    Args:
        data: Samples, with or without labels.
    """
    alarms: list[Alarm] = []
    for name, column in data.columns.items():
        alarms += _constant(name, column)
        alarms += _identifiers(name, column)
        alarms += _fill_values(name, column)
    return [*_presence(data), *alarms]


def numeric_fields(column: Column) -> list[str]:
    """Return the names of the channels that hold numbers, not categories."""
    return [name for name in column.fields if column.cells(name)[1] is None]


def fill_values_of(column: Column) -> dict[str, tuple[float, ...]]:
    """Return the values that mark missing cells, by channel; empty for text."""
    return {} if column.is_text else _by_field(column)[0]


def _constant(name: str, column: Column) -> Iterator[Alarm]:
    """Yield an alarm about channels of a single value in at least two rows."""
    if column.is_text:
        if len(column.values) > 1 and len(set(column.values.tolist())) == 1:
            yield _alarm(
                "constant channel",
                f"all texts of {name} are the same and cannot predict anything.",
                name,
                1,
            )
        return
    values = column.values
    if len(values) < 2:
        return
    several = (~np.isnan(values)).sum(axis=0) > 1
    same = np.fmin.reduce(values, axis=0) == np.fmax.reduce(values, axis=0)
    found = [column.fields[c] for c in np.flatnonzero(several & same)]
    if found:
        yield _alarm(
            "constant channel",
            f"{_channels(found, name)} one value in all rows and cannot predict "
            "anything.",
            name,
            len(found),
        )


def _identifiers(name: str, column: Column) -> Iterator[Alarm]:
    """Yield an alarm about channels that have another value in each sample."""
    if column.is_text or column.ragged:
        return
    found = [field for field in column.fields if _is_identifier(*column.cells(field))]
    if found:
        yield _alarm(
            "identifier",
            f"{_channels(found, name)} a different value in each sample, as "
            "identifiers and row numbers do. A model may memorize the samples: leave "
            "such columns out.",
            name,
            len(found),
        )


def _is_identifier(cells: AnyArray, categories: Sequence[str] | None) -> bool:
    """Return True for distinct categories, or distinct whole numbers in a sequence.

    Whole numbers are identifiers if they increase or decrease from sample to sample, or
    fill at least half of their range.
    """
    known = cells[~np.isnan(cells)]
    if len(known) < MIN_CELLS or (known != np.round(known)).any():
        return False
    if len(np.unique(known)) < len(known):
        return False
    steps = np.diff(known)
    ordered = bool((steps > 0).all() or (steps < 0).all())
    dense = bool(np.ptp(known) < DENSE * len(known))
    return categories is not None or ordered or dense


def _fill_values(name: str, column: Column) -> Iterator[Alarm]:
    """Yield alarms about values that mark, or may mark, missing cells."""
    if column.is_text:
        return
    ends = (
        "Training treats these cells as missing. Replace them by NaN.",
        "They may mark missing cells. Replace them by NaN if they do.",
    )
    for found, end in zip(_by_field(column), ends, strict=True):
        texts, total = [], 0
        for field, values in found.items():
            cells = column.cells(field)[0]
            for value in values:
                count = int((cells == np.float32(value)).sum())
                texts.append(f"{value:g} in {count} cells of channel {field}")
                total += count
        if texts:
            yield _alarm(
                "fill value",
                f"{name} has {_listing(texts)}, far from all other values. {end}",
                name,
                total,
            )


def _by_field(
    column: Column,
) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Return values that mark, and that may mark, missing cells, by channel."""
    fields = numeric_fields(column)
    values = column.values[:, [column.positions[field] for field in fields]]
    certain, possible = find_fill_values(values)

    def named(found: Mapping[int, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        return {fields[c]: each for c, each in found.items()}

    return named(certain), named(possible)


def _presence(data: MultimodalData) -> Iterator[Alarm]:
    """Yield an alarm if presence predicts the label, or that it is above the median."""
    if data.y is None or data.y.ndim > 1:
        return
    rows = np.flatnonzero(labeled_rows(data.y))
    if len(rows):
        y = known_labels(data.y)
        yield from presence_alarm(
            data[rows], y if holds_classes(y) else y > np.median(y)
        )


def _alarm(kind: str, text: str, modality: str, figure: float) -> Alarm:
    return Alarm(kind, text, modality, Interval(figure, figure, figure))


def _channels(fields: Sequence[str], modality: str) -> str:
    """Return channels of a modality and the verb "have"."""
    if len(fields) == 1:
        return f"channel {fields[0]} of {modality} has"
    return f"{len(fields)} channels of {modality} ({_listing(fields)}) have"


def _listing(texts: Sequence[str]) -> str:
    """Return the first texts; dots stand for the others."""
    more = ["..."] if len(texts) > MAX_LISTED else []
    return ", ".join([*texts[:MAX_LISTED], *more])
