"""Concatenation of columns: along the samples, and side by side.

Columns of one modality may differ in channels and categories.

Letters: ``L`` rows, ``C`` channels.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from mmgraph.data.categories import (
    Categories,
    category_of,
    codes_as_strings,
    match_categories,
    number_of,
    numbers_as_codes,
    recode,
    strings_as_codes,
    unite_categories,
)
from mmgraph.data.column import AnyArray, Column, IntArray, lengths_to_offsets
from mmgraph.data.io.arrays import from_rows
from mmgraph.data.number_strings import parse_numbers
from mmgraph.data.string_cells import PLACEHOLDERS
from mmgraph.errors import DataError, DataWarning

Channels: TypeAlias = Mapping[str, Categories | None]
Cells: TypeAlias = tuple[AnyArray, Categories | None]


def concat_columns(name: str, columns: Sequence[Column]) -> Column:
    """Concatenate columns of one modality along the samples.

    A column without rows is compatible with any other. A channel that a column lacks is
    missing in its rows. Categories are united; a single channel is text where another
    column is text.

    Args:
        name: Name of the modality, for error messages.
        columns: Columns to concatenate, at least one.

    Raises:
        DataError: If widths, kinds or times differ, or a channel holds fractions in
            some columns and categories in most.
    """
    filled = [c for c in columns if len(c.values)] or list(columns[:1])
    if any(c.is_text for c in filled):
        filled = [as_text(c) if c.names else c for c in filled]
    first = filled[0]
    for other in filled[1:]:
        _check_same_kind(name, first, other)
    channels = unite_channels(name, filled)
    filled = [align_channels(name, c, channels) for c in filled]
    rows = iter(filled)
    lengths = [(next(rows) if len(c.values) else c).lengths for c in columns]
    time = None
    if first.time is not None:
        time = np.concatenate([c.time for c in filled if c.time is not None])
    return Column(
        values=np.concatenate([c.values for c in filled]),
        offsets=lengths_to_offsets(np.concatenate(lengths)),
        time=time,
        names=tuple(channels) if any(c.names for c in filled) else (),
        ragged=any(c.ragged for c in filled),
        categories=_categories(channels),
    )


def join_columns(columns: Mapping[str, Column]) -> Column:
    """Join columns of one row per sample side by side.

    Channels are named "modality.channel", and stay numbers or categories. Cells of a
    missing modality are NaN; a sample that lacks all of the modalities has no row.

    Args:
        columns: Columns by modality, at least one, all of the same length.

    Raises:
        DataError: If a column is a text or a sequence, or has times.
    """
    for name, column in columns.items():
        if column.is_text or column.ragged or column.time is not None:
            kind = "text" if column.is_text else "rows in time"
            kind = "a sequence" if column.ragged else kind
            raise DataError(
                f"join must get modalities of one vector per sample, got {name!r}, "
                f"which is {kind}. Leave it out, or use its data.features()[{name!r}]."
            )
    present = np.stack([c.present for c in columns.values()], axis=1)
    rows = np.flatnonzero(present.any(axis=1))
    parts = []
    for column, seen in zip(columns.values(), present.T, strict=True):
        values = np.full((len(rows), column.channels or 0), np.nan, dtype=np.float32)
        values[seen[rows]] = column.values
        parts.append(values)
    each = [c.categories or (None,) * (c.channels or 0) for c in columns.values()]
    categories = tuple(category for part in each for category in part)
    names = [f"{name}.{field}" for name, c in columns.items() for field in c.fields]
    return Column(
        np.concatenate(parts, axis=1),
        lengths_to_offsets(np.asarray(present.any(axis=1), dtype=np.int64)),
        names=tuple(names),
        categories=categories if any(c is not None for c in categories) else (),
    )


def _check_same_kind(name: str, a: Column, b: Column) -> None:
    named = bool(a.names and b.names)
    rules = (
        ("channels", not named and a.channels, not named and b.channels),
        ("kind", a.is_text, b.is_text),
        ("times", a.time is not None, b.time is not None),
    )
    for what, left, right in rules:
        if left != right:
            raise DataError(
                f"Modality {name!r} must have the same {what} in all parts, got "
                f"{left} and {right}. Build all parts with the same columns and times."
            )


def warn_lacking_channels(name: str, columns: Sequence[Column]) -> None:
    """Warn about channels that only some of the columns of a modality have."""
    named = [c.names for c in columns if len(c.values) and c.names]
    fields = dict.fromkeys(field for names in named for field in names)
    lacking = [field for field in fields if any(field not in n for n in named)]
    if lacking:
        warnings.warn(
            f"Modality {name!r} lacks columns in some parts: {list_first(lacking)}. "
            "Their cells are missing there.",
            DataWarning,
            stacklevel=3,
        )


def list_first(entries: Sequence[str], most: int = 5) -> str:
    """Return the first entries of a list, separated by commas."""
    return ", ".join([*entries[:most], *["..."][: len(entries) > most]])


def unite_channels(name: str, columns: Sequence[Column]) -> Channels:
    """Return the channels of all columns, with their categories.

    Args:
        name: Name of the modality, for error messages.
        columns: Columns of numbers and categories, or of text, which has no channels.

    Raises:
        DataError: If a channel holds fractions in some columns and categories in most.
    """
    names = next((c.names for c in columns if c.names), ())
    parts = [c if c.names else replace(c, names=names[: c.channels]) for c in columns]
    fields = dict.fromkeys(field for c in parts for field in c.fields)
    if not any(c.is_categorical for c in parts):
        return dict.fromkeys(fields)
    return {
        field: _unite_cells(
            name, field, [c.cells(field) for c in parts if field in c.positions]
        )
        for field in fields
    }


def _unite_cells(name: str, field: str, parts: Sequence[Cells]) -> Categories | None:
    """Return the categories of a channel; None if it holds numbers.

    A channel that holds numbers in some parts and categories in others holds numbers if
    the categories stand for missing cells, such as "n/a", or if most cells are numbers
    and some of them fractions. Otherwise whole numbers are categories.

    Raises:
        DataError: If fractions are the smaller part of the cells.
    """
    categories = [each for _, each in parts if each is not None]
    if not categories:
        return None
    if len(parts) == len(categories) and len(set(categories)) == 1:
        return categories[0]
    numbers = [values[~np.isnan(values)] for values, each in parts if each is None]
    names = {category.lower() for each in categories for category in each}
    if numbers and names <= set(PLACEHOLDERS):
        return None
    fraction = next((x for x in map(_first_fraction, numbers) if x is not None), None)
    if fraction is None:
        return unite_categories(
            [*categories, *(numbers_as_codes(values)[1] for values in numbers)]
        )
    known = sum(int((~np.isnan(values)).sum()) for values, _ in parts)
    if sum(map(len, numbers)) * 2 > known:
        return None
    raise DataError(
        f"Modality {name!r} must hold numbers or categories in column {field!r}, got "
        f"the number {category_of(fraction)} in one part and the category "
        f"{categories[0][0]!r} in another. Clean the column."
    )


def _first_fraction(numbers: AnyArray) -> float | None:
    fractions = numbers[np.mod(numbers, 1) > 0]
    return float(fractions[0]) if len(fractions) else None


def align_channels(name: str, column: Column, channels: Channels) -> Column:
    """Return a column of numbers and categories with other channels.

    A channel that the column lacks is NaN, as is a category that is not a number in a
    channel of numbers, with a warning. Samples without any known cell are missing. Text
    is returned unchanged.

    Args:
        name: Name of the modality, for messages.
        column: Column. Without names, its channels are those of the same number.
        channels: Categories of each channel, None for numbers. Where a channel has
            categories, they include those of the column.
    """
    categories = _categories(channels)
    if column.is_text or (
        column.names in ((), tuple(channels)) and column.categories == categories
    ):
        return column
    known = replace(column, names=column.names or tuple(channels)[: column.channels])
    missing = np.full(len(column.values), np.nan, dtype=np.float32)
    cells = [
        missing
        if field not in known.positions
        else to_numbers(name, field, known.cells(field), known.sample)
        if each is None
        else convert_cells(*known.cells(field), each)
        for field, each in channels.items()
    ]
    values = np.stack(cells, axis=1).astype(np.float32)
    return drop_empty_rows(
        name,
        replace(column, values=values, names=tuple(channels), categories=categories),
    )


def convert_cells(
    values: AnyArray, own: Categories | None, wanted: Categories | None
) -> AnyArray:
    """Return cells as codes of other categories, or as numbers.

    Args:
        values: ``[L]`` codes of ``own`` categories, or numbers.
        own: Categories of the cells; None for numbers.
        wanted: Categories of the result; None for numbers.

    Returns:
        ``[L]``. A category that is not one of the wanted ones is -1; one that is not a
        number is NaN.
    """
    if wanted == own:
        return values
    if wanted is None:
        return recode(values, _numbers_of(own or ()))
    if own is None:
        values, own = numbers_as_codes(values)
    return recode(values, match_categories(own, wanted))


def _numbers_of(categories: Categories) -> AnyArray:
    """Return the numbers ``[K]`` that categories are; NaN for others."""
    import pyarrow as pa

    parsed = parse_numbers(pa.array(categories, pa.large_string())).values
    truth = [number_of(category) for category in categories]
    return np.where(np.isnan(parsed), truth, parsed)


def _categories(channels: Channels) -> tuple[Categories | None, ...]:
    """Return the categories of channels as :class:`Column` holds them."""
    each = tuple(channels.values())
    return () if all(c is None for c in each) else each


def align_with(name: str, column: Column, template: Column) -> Column:
    """Return a column with the channels of others of the same modality.

    Channels are in the order of the template, and missing where the column lacks them;
    other channels follow. Numbers become categories, and strings become numbers, where
    the template has these; further categories follow those of the template.

    Args:
        name: Name of the modality, for messages.
        column: Column to align.
        template: Rows of the modality. A channel without any value has no kind.
    """
    if not len(column.values) or not len(template.values):
        return column
    if template.is_text:
        return as_text(column)
    if column.is_text and len(template.names) == 1:
        column = as_categories(column, template.names[0])
    if column.is_text or not (column.names and template.names):
        return column
    channels: dict[str, Categories | None] = {}
    for field in dict.fromkeys((*template.names, *column.names)):
        own = column.cells(field) if field in column.positions else None
        known = template.cells(field) if field in template.positions else own
        assert known is not None
        channels[field] = _extend(known, own)
    return align_channels(name, column, channels)


def _extend(known: Cells, own: Cells | None) -> Categories | None:
    """Return the categories of a channel with those of other cells at the end."""
    values, categories = known
    if own is None or own[1] == categories:
        return categories
    if categories is None:
        return own[1] if np.isnan(values).all() else None
    names = own[1] if own[1] is not None else numbers_as_codes(own[0])[1]
    index = match_categories(names, categories)
    return (*categories, *(c for c, i in zip(names, index, strict=True) if i < 0))


def to_numbers(name: str, field: str, cells: Cells, sample: IntArray) -> AnyArray:
    """Return cells as numbers ``[L]``, with a warning about those that are none.

    Args:
        name: Name of the modality.
        field: Name of the channel.
        cells: Numbers, or codes and their categories.
        sample: ``[L]`` sample of each cell.
    """
    values, own = cells
    numbers = convert_cells(values, own, None)
    wrong = np.flatnonzero(np.isnan(numbers) & ~np.isnan(values))
    if own is not None and len(wrong):
        strings = codes_as_strings(values[wrong], own)
        first = dict(zip(strings[::-1], sample[wrong][::-1], strict=True))
        listed = [f"{text!r} (sample {i})" for text, i in reversed(first.items())]
        warnings.warn(
            f"Modality {name!r} must hold numbers in column {field!r}, got "
            f"{list_first(listed)}. These cells are missing.",
            DataWarning,
            stacklevel=3,
        )
    return numbers


def drop_empty_rows(name: str, column: Column) -> Column:
    """Return a column without the samples whose cells are all missing."""
    return from_rows(
        name,
        column.values,
        column.lengths,
        ragged=column.ragged,
        time=column.time,
        names=column.names,
        categories=column.categories,
    )


def as_text(column: Column) -> Column:
    """Return a column of one channel as text: categories, and numbers as categories.

    A column of several channels, or of text, is returned unchanged.
    """
    if column.is_text or column.channels != 1 or column.ragged:
        return column
    codes, categories = column.cells(column.fields[0])
    if categories is None:
        codes, categories = numbers_as_codes(codes)
    values = codes_as_strings(codes, categories)
    return Column(values, column.offsets, column.time)


def as_categories(column: Column, field: str) -> Column:
    """Return a column of text as one categorical channel with a name.

    A column of numbers and categories is returned unchanged.
    """
    if not column.is_text:
        return column
    codes, categories = strings_as_codes(column.values)
    return replace(
        column, values=codes[:, None], names=(field,), categories=(categories,)
    )
