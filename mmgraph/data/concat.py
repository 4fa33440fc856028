"""Concatenation of columns of one modality whose channels and categories may differ.

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
from mmgraph.data.column import AnyArray, Column, lengths_to_offsets
from mmgraph.data.number_strings import parse_numbers
from mmgraph.errors import DataError, DataWarning

Channels: TypeAlias = Mapping[str, Categories | None]
Cells: TypeAlias = tuple[AnyArray, Categories | None]


def concat_columns(name: str, columns: Sequence[Column]) -> Column:
    """Concatenate columns of one modality along the samples.

    A column without rows is compatible with any other. A channel that a column lacks is
    missing in its rows. Categories are united; a categorical channel is text where
    another column is text.

    Args:
        name: Name of the modality, for error messages.
        columns: Columns to concatenate, at least one.

    Raises:
        DataError: If widths, kinds or times differ, or a channel holds fractions in one
            column and categories in another.
    """
    filled = [c for c in columns if len(c.values)] or list(columns[:1])
    if any(c.is_text for c in filled):
        filled = [as_text(c) if c.is_categorical else c for c in filled]
    first = filled[0]
    for other in filled[1:]:
        _check_same_kind(name, first, other)
    channels = unite_channels(name, filled)
    lengths = np.concatenate([c.lengths for c in columns])
    time = None
    if first.time is not None:
        time = np.concatenate([c.time for c in filled if c.time is not None])
    return Column(
        values=np.concatenate([align_channels(c, channels).values for c in filled]),
        offsets=lengths_to_offsets(lengths),
        time=time,
        names=tuple(channels) if any(c.names for c in filled) else (),
        ragged=any(c.ragged for c in filled),
        categories=_categories(channels),
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
        DataError: If a channel holds fractions in one column and categories in another.
    """
    names = next((c.names for c in columns if c.names), ())
    parts = [c if c.names else replace(c, names=names[: c.channels]) for c in columns]
    return {
        field: _unite_cells(
            name, field, [c.cells(field) for c in parts if field in c.fields]
        )
        for field in dict.fromkeys(field for c in parts for field in c.fields)
    }


def _unite_cells(name: str, field: str, parts: Sequence[Cells]) -> Categories | None:
    """Return the categories of a channel; None if it holds numbers."""
    categories = [each for _, each in parts if each is not None]
    if not categories:
        return None
    if len(parts) == len(categories) and len(set(categories)) == 1:
        return categories[0]
    for values in (values for values, each in parts if each is None):
        fractions = values[np.mod(values, 1) > 0]
        if len(fractions):
            raise DataError(
                f"Modality {name!r} must hold numbers or categories in column "
                f"{field!r}, got the number {category_of(float(fractions[0]))} in one part "
                f"and the category {categories[0][0]!r} in another. Clean the column."
            )
        categories.append(numbers_as_codes(values)[1])
    return unite_categories(categories)


def align_channels(column: Column, channels: Channels) -> Column:
    """Return a column of numbers and categories with other channels.

    A channel that the column lacks is NaN, as is a category in a channel of numbers
    that is not a number. Text is returned unchanged.

    Args:
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
        convert_cells(*known.cells(field), each) if field in known.names else missing
        for field, each in channels.items()
    ]
    values = np.stack(cells, axis=1).astype(np.float32)
    return replace(column, values=values, names=tuple(channels), categories=categories)


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
