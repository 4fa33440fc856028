"""Summaries of data: channels, patterns of present modalities, labels and groups.

Shapes: N samples, M modalities, L rows, C channels, K labels of one sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmgraph._frame import to_frame
from mmgraph._html import table_html
from mmgraph.data.categories import codes_as_strings
from mmgraph.data.column import AnyArray, Column
from mmgraph.data.ranges import moments
from mmgraph.data.targets import (
    MAX_WHOLE_CLASSES,
    known_labels,
    labeled_rows,
    labels_as_floats,
)
from mmgraph.schema import Kind, Schema

if TYPE_CHECKING:
    import pandas as pd

SHOWN_CHANNELS = 8  # of each modality, in the text of a summary
SHOWN_COUNTS = 5  # patterns, classes and groups in it
SHOWN_CATEGORIES = 3
FILES = ("image", "audio")  # kinds whose strings are paths


@dataclass(frozen=True)
class ChannelSummary:
    """Values of one channel, or of one target.

    Attributes:
        name: Name or number of the channel; "" for text.
        type: "number", "category" or "string".
        missing: Share of missing cells in the rows of samples that have the modality.
        mean: Mean of the numbers, or of the lengths of the strings in characters; NaN
            for categories, and if no cell is known.
        sd: Standard deviation, of what ``mean`` is of.
        low: Smallest value.
        high: Largest value.
        categories: Number of cells of each category that occurs, most frequent first;
            empty for numbers and strings.
    """

    name: str
    type: Literal["number", "category", "string"]
    missing: float = 0.0
    mean: float = np.nan
    sd: float = np.nan
    low: float = np.nan
    high: float = np.nan
    categories: Mapping[str, int] = field(default_factory=dict)

    @property
    def outline(self) -> str:
        """Mean, standard deviation and range, or the number of categories."""
        if self.type == "category":
            count = len(self.categories)
            text = f"{count} {'category' if count == 1 else 'categories'}"
        elif np.isnan(self.mean):
            text = "no value"
        else:
            unit = " characters" if self.type == "string" else ""
            text = (
                f"mean {format_number(self.mean)}{unit}, sd {format_number(self.sd)}, "
                f"range [{format_number(self.low)}, {format_number(self.high)}]"
            )
        return f"{text}{self._missing}"

    @property
    def text(self) -> str:
        """Values in one line, with the most frequent categories."""
        if self.type != "category":
            return self.outline
        leading = _leading(self.categories, SHOWN_CATEGORIES)
        return f"{self.outline.removesuffix(self._missing)}{leading}{self._missing}"

    @property
    def _missing(self) -> str:
        return f", {format_share(self.missing)} missing" if self.missing else ""


@dataclass(frozen=True)
class ModalitySummary:
    """Channels of one modality.

    Attributes:
        name: Name of the modality.
        kind: Kind in the schema, such as "vector" or "text".
        tokens: "single" for one row per sample, "ragged" for sequences.
        missing: Share of the samples that lack the modality.
        rows: Mean number of rows of the samples that have it; 0 if none has.
        channels: One summary per channel; one for text, none for paths of files.
    """

    name: str
    kind: Kind
    tokens: str
    missing: float
    rows: float
    channels: tuple[ChannelSummary, ...]

    @property
    def text(self) -> str:
        """Kind, number of channels and share missing in one line."""
        parts: list[str] = [self.kind]
        if self.channels and self.channels[0].type != "string":
            parts.append(counted(len(self.channels), "channel"))
        if self.tokens == "ragged":
            parts.append(f"sequences of {format_number(self.rows)} rows on average")
        return f"{', '.join(parts)}, {format_share(self.missing)} missing"


@dataclass(frozen=True, repr=False)
class DataSummary:
    """Types, ranges and missing patterns of data.

    Returned by :meth:`mmgraph.MultimodalData.describe`. It prints as text, and as
    tables in notebooks; :meth:`to_frame` returns a data frame of it.

    Attributes:
        num_samples: Number of samples.
        modalities: One :class:`ModalitySummary` per modality, in the order of the data.
        patterns: Number of samples of each set of present modalities that occurs, most
            frequent first.
        classes: Number of samples of each class, most frequent first; empty if the
            labels are no classes.
        targets: One :class:`ChannelSummary` per numeric target; empty for classes.
        num_unlabeled: Number of samples without a label, or of which one is missing.
        groups: Number of samples of each group, most frequent first.
    """

    num_samples: int
    modalities: tuple[ModalitySummary, ...]
    patterns: Mapping[tuple[str, ...], int]
    classes: Mapping[str, int]
    targets: tuple[ChannelSummary, ...]
    num_unlabeled: int
    groups: Mapping[str, int]

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """Return the summary as tables in HTML, for notebooks."""
        channels = [row for each in self.modalities for row in _table_rows(each)]
        patterns = [
            (_pattern(names), count, format_share(count / self.num_samples))
            for names, count in [*self.patterns.items()][:SHOWN_COUNTS]
        ]
        first = ("modality", "missing", "channel", "type", "values")
        second = ("present modalities", "samples", "share")
        caption = f"{counted(len(self.patterns), 'pattern')} of present modalities"
        return table_html(self.caption, first, channels) + table_html(
            caption, second, patterns
        )

    @property
    def caption(self) -> str:
        """Number of samples, labels and groups in one line."""
        parts = [counted(self.num_samples, "sample")]
        if self.classes:
            count = len(self.classes)
            noun = "class" if count == 1 else "classes"
            parts.append(f"{count} {noun}{_leading(self.classes, SHOWN_COUNTS)}")
        parts += [f"target {each.name}: {each.text}" for each in self.targets]
        if not self.classes and not self.targets:
            parts.append("no labels")
        elif self.num_unlabeled:
            parts.append(f"{self.num_unlabeled} without a label")
        if self.groups:
            groups = _leading(self.groups, SHOWN_COUNTS)
            parts.append(f"{counted(len(self.groups), 'group')}{groups}")
        return "; ".join(parts)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per channel, the columns of :meth:`to_frame`."""
        return [
            {
                "modality": each.name,
                "kind": each.kind,
                "tokens": each.tokens,
                "modality_missing": each.missing,
                "channel": c.name,
                "type": c.type,
                "missing": c.missing,
                "mean": c.mean,
                "sd": c.sd,
                "min": c.low,
                "max": c.high,
                "categories": len(c.categories) if c.type == "category" else None,
                "most_frequent": next(iter(c.categories), None),
            }
            for each in self.modalities
            for c in each.channels
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per channel as a data frame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_frame(self.rows)

    def _lines(self) -> Iterator[str]:
        yield self.caption
        for each in self.modalities:
            yield f"{each.name}: {each.text}"
            for c in each.channels[:SHOWN_CHANNELS]:
                yield f"  {c.name}: {c.text}" if c.name else f"  {c.text}"
            yield from _more(len(each.channels) - SHOWN_CHANNELS, "channel")
        yield f"{counted(len(self.patterns), 'pattern')} of present modalities"
        for names, count in [*self.patterns.items()][:SHOWN_COUNTS]:
            share = format_share(count / self.num_samples)
            yield f"  {count} ({share}): {_pattern(names)}"
        yield from _more(len(self.patterns) - SHOWN_COUNTS, "pattern")


def _table_rows(each: ModalitySummary) -> list[tuple[str, ...]]:
    """Return name, share missing, channel, type and values of a modality."""
    start = each.name, format_share(each.missing)
    rows: list[tuple[str, ...]] = [
        (*start, c.name, c.type, c.text) for c in each.channels[:SHOWN_CHANNELS]
    ]
    more = _more(len(each.channels) - SHOWN_CHANNELS, "channel")
    rows += [(*start, text.strip(), "", "") for text in more]
    return rows or [(*start, "", each.kind, "")]


def summarize(
    columns: Mapping[str, Column],
    schema: Schema,
    y: AnyArray | None,
    groups: AnyArray | None,
) -> DataSummary:
    """Return the summary of data.

    Args:
        columns: Columns by modality, at least one.
        schema: Schema of the modalities.
        y: ``[N]`` or ``[N, K]`` labels, or None.
        groups: ``[N]`` groups, or None.
    """
    num_samples = len(next(iter(columns.values())))
    classes: dict[str, int] = {}
    targets: tuple[ChannelSummary, ...] = ()
    if y is not None and holds_classes(y):
        known = known_labels(y)
        classes = _counts(known.astype(np.int64) if known.dtype.kind == "f" else known)
    elif y is not None:
        targets = _summarize_targets(y)
    return DataSummary(
        num_samples,
        tuple(_summarize_modality(n, c, schema) for n, c in columns.items()),
        _count_patterns(columns),
        classes,
        targets,
        num_samples if y is None else int((~labeled_rows(y)).sum()),
        {} if groups is None else _counts(groups),
    )


def holds_classes(y: AnyArray) -> bool:
    """Return True if labels are shown as classes: strings, booleans, few integers."""
    known = known_labels(y)
    if y.ndim > 1 or not len(known) or known.dtype.kind in "Ub":
        return y.ndim == 1 and len(known) > 0
    whole = (known == np.round(known)).all()
    return bool(whole) and len(np.unique(known)) <= MAX_WHOLE_CLASSES


def string_lengths(column: Column) -> AnyArray:
    """Return the number of characters ``[L, 1]`` of the rows of a text column."""
    lengths = [len(str(each)) for each in column.values]
    return np.array(lengths, dtype=np.float64).reshape(-1, 1)


def _summarize_modality(name: str, column: Column, schema: Schema) -> ModalitySummary:
    modality, present = schema.modality(name), column.present
    channels: tuple[ChannelSummary, ...] = ()
    if column.is_text and modality.kind not in FILES:
        channels = _summarize_numbers([""], string_lengths(column), "string")
    elif not column.is_text:
        channels = _summarize_channels(column)
    return ModalitySummary(
        name,
        modality.kind,
        modality.tokens,
        float(1 - present.mean()) if len(present) else 0.0,
        float(column.lengths[present].mean()) if present.any() else 0.0,
        channels,
    )


def _summarize_channels(column: Column) -> tuple[ChannelSummary, ...]:
    """Return the summaries of channels of numbers and categories, in their order."""
    numbers = [f for f in column.fields if column.cells(f)[1] is None]
    values = column.values[:, [column.positions[f] for f in numbers]]
    found = dict(zip(numbers, _summarize_numbers(numbers, values), strict=True))
    for name in column.fields:
        codes, categories = column.cells(name)
        if categories is not None:
            cells = codes_as_strings(codes, categories)
            known = cells[~np.isnan(codes)].astype(str)
            missing = 1 - len(known) / len(cells) if len(cells) else 0.0
            found[name] = ChannelSummary(
                name, "category", missing, categories=_counts(known)
            )
    return tuple(found[name] for name in column.fields)


def _summarize_numbers(
    names: Sequence[str],
    values: AnyArray,
    type: Literal["number", "string"] = "number",
) -> tuple[ChannelSummary, ...]:
    """Return the summaries of numbers ``[L, C]``."""
    known = ~np.isnan(values)
    some = known.any(axis=0)
    mean, sd = (np.where(some, each, np.nan) for each in moments(values))
    low = np.fmin.reduce(values, axis=0, initial=np.inf, where=known)
    high = np.fmax.reduce(values, axis=0, initial=-np.inf, where=known)
    figures = (
        1 - known.mean(axis=0) if len(values) else np.zeros(len(names)),
        *(mean, sd, np.where(some, low, np.nan), np.where(some, high, np.nan)),
    )
    rows = np.stack(figures, axis=1).astype(np.float64).tolist()
    return tuple(
        ChannelSummary(name, type, *row) for name, row in zip(names, rows, strict=True)
    )


def _summarize_targets(y: AnyArray) -> tuple[ChannelSummary, ...]:
    """Return the summaries of numeric targets; none if no label is known."""
    if not len(known_labels(y)):
        return ()
    table = labels_as_floats(y).astype(np.float64).reshape(len(y), -1)
    names = ["y"] if y.ndim == 1 else [f"y.{k}" for k in range(table.shape[1])]
    return _summarize_numbers(names, table)


def _count_patterns(columns: Mapping[str, Column]) -> dict[tuple[str, ...], int]:
    """Return the number of samples of each set of present modalities."""
    present = np.stack([c.present for c in columns.values()], axis=1)
    masks, counts = np.unique(present, axis=0, return_counts=True)
    names = list(columns)
    return {
        tuple(n for n, has in zip(names, masks[i], strict=True) if has): int(counts[i])
        for i in np.argsort(-counts, kind="stable")
    }


def _counts(values: AnyArray) -> dict[str, int]:
    """Return the number of times that each value occurs, most frequent first."""
    names, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): int(counts[i]) for i in order}


def _leading(counts: Mapping[str, int], shown: int) -> str:
    """Return the most frequent entries with their shares, after a colon."""
    total = sum(counts.values())
    parts = [f"{n} ({format_share(c / total)})" for n, c in [*counts.items()][:shown]]
    if len(counts) > shown:
        parts.append("...")
    return f": {', '.join(parts)}" if parts else ""


def _pattern(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _more(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"  and {counted(count, f'other {noun}')}"


def counted(count: int, noun: str) -> str:
    """Return a number and a noun in singular or plural."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_share(value: float) -> str:
    """Format a share; one above 0 is never shown as 0%, nor one below 1 as 100%."""
    percent = 100 * value
    if 0 < percent < 0.5:
        return "<1%"
    return ">99%" if 99.5 <= percent < 100 else f"{percent:.0f}%"


def format_number(value: float) -> str:
    """Format a number with four digits, and all digits before the decimal point."""
    value += 0.0  # no minus sign of zero
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
