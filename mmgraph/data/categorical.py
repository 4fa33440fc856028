"""One-hot encoding of categorical columns: one channel ``column=category`` each.

Shapes: N samples, C channels, L rows.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray, Column
from mmgraph.errors import DataError, DataWarning

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CATEGORIES = 64  # more are probably text, and would be mostly empty channels
MAX_LISTED = 5  # categories that a warning lists


def candidate_columns(field: str) -> list[str]:
    """Return the columns that a field may refer to, such as ``sex`` for ``sex=f``.

    The field itself comes first, as a column may have exactly this name.
    """
    text = str(field)
    return [field, *(text[:i] for i, letter in enumerate(text) if letter == "=")]


def resolve_column(field: str, columns: Collection[str]) -> str:
    """Return the column that a field refers to; the field itself if there is none."""
    return next((name for name in candidate_columns(field) if name in columns), field)


def read_channels(
    name: str,
    fields: Sequence[str],
    columns: Collection[str],
    read: Callable[[str], Any],
    *,
    piecewise: bool = False,
) -> tuple[tuple[str, ...], AnyArray]:
    """Read the channels of a modality from numeric and categorical columns.

    Args:
        name: Name of the modality, for error messages.
        fields: Columns; ``column=category`` selects one category of a column.
        columns: Names of all columns of the table.
        read: Function that returns a column as ``[N]`` numbers, or as an Arrow array
            of strings.
        piecewise: True if the table is a piece of the data. Other pieces may contain
            other categories, so categories must be selected explicitly.

    Returns:
        Names of the channels, and their values ``[N, C]``. The channel of a category is
        1 where the cell has it, 0 where it has another one, and NaN where the cell is
        null or empty.

    Raises:
        DataError: If a column has too many categories or strings of digits, a category
            of a numeric column is selected, or categories are not selected although
            ``piecewise`` is True.
    """
    names: list[str] = []
    parts: list[AnyArray] = []
    for field in map(str, fields):
        column = resolve_column(field, columns)
        cells, selected = read(column), field[len(column) + 1 :]
        if isinstance(cells, np.ndarray):
            if selected and not np.isnan(cells).all():
                raise _not_categorical(name, field, column)
            names.append(field)
            parts.append(cells[:, None])
            continue
        if piecewise and not selected:
            raise _not_selected(name, field)
        categories, codes = _encode(cells)
        kept = [selected] if selected else _check_categories(name, field, categories)
        names += [f"{column}={category}" for category in kept] or [field]
        numbers = [
            categories.index(category) if category in categories else len(categories)
            for category in kept
        ]
        same = codes[:, None] == np.array(numbers or [-1])
        parts.append(np.where(codes[:, None] < 0, np.nan, same))
    return tuple(names), np.concatenate(parts, axis=1)


def _encode(cells: "pa.Array") -> tuple[list[str], AnyArray]:
    """Return the categories, and the code of each cell ``[N]``; -1 where missing."""
    import pyarrow.compute as pc

    cells = pc.if_else(pc.equal(cells, ""), None, cells)
    encoded = cells.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), codes


def _check_categories(name: str, field: str, categories: list[str]) -> list[str]:
    """Return the sorted categories of a column after checking that it is categorical.

    Raises:
        DataError: If most of them are numbers, or there are too many.
    """
    numbers = sum(map(is_number, categories))
    if numbers > len(categories) / 2:
        example = next(filter(is_number, categories))
        raise DataError(
            f"Modality {name!r} must hold numbers or categories, got column {field!r} "
            f"of strings that are numbers, such as {example!r}.",
            "Convert them to numbers; if they are codes of categories, list the "
            f"categories: '{field}={example}'.",
        )
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"Modality {name!r} must hold numbers, or columns of at most "
            f"{MAX_CATEGORIES} categories, got column {field!r} of {len(categories)} "
            "different strings.",
            f"Read it alone, as text: modalities={{{field!r}: {field!r}}}; or list the "
            f"categories that matter: '{field}={categories[0][:20]}'.",
        )
    return sorted(categories)


def is_number(text: str) -> bool:
    """Return True if a string represents a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _not_categorical(name: str, field: str, column: str) -> DataError:
    return DataError(
        f"Modality {name!r} must select categories of categorical columns, got "
        f"{field!r}, and column {column!r} is numeric.",
        f"Use {column!r}.",
    )


def _not_selected(name: str, field: str) -> DataError:
    return DataError(
        f"Modality {name!r} must select categories, as '{field}=CATEGORY', when data "
        f"are read piece by piece, got all of column {field!r}.",
        "List each category.",
    )


def align_channels(name: str, column: Column, expected: Sequence[str]) -> Column:
    """Return a modality with the channels of the training data, in their order.

    A category without a channel is encoded as none of the known categories, with a
    warning. A known category that does not occur is 0 where the cell has another one.
    A categorical column without any value is NaN for all of its categories.

    Args:
        name: Name of the modality, for messages.
        column: Column with channel names.
        expected: Channel names of the training data.

    Raises:
        DataError: If the channels differ by more than categories of the same columns.
    """
    values_of = {channel: column.values[:, i] for i, channel in enumerate(column.names)}
    categorical = _categorical_columns(column.names, values_of)
    extra = [channel for channel in column.names if channel not in expected]
    lacking = [channel for channel in expected if channel not in values_of]
    sources = {_source(channel) for channel in expected if "=" in channel}
    unknown_sources = {_source(channel) for channel in extra} - (
        sources & set(categorical)
    )
    if unknown_sources or not all(_source(c) in categorical for c in lacking):
        raise DataError(
            f"Modality {name!r} must have the channels {', '.join(expected)} as in "
            f"the training data, got {', '.join(column.names)}. Rename the columns, or "
            "map them to the modality."
        )
    unknown = [channel for channel in extra if (values_of[channel] == 1).any()]
    if unknown:
        listed = unknown[:MAX_LISTED] + ["..."] * (len(unknown) > MAX_LISTED)
        warnings.warn(
            f"Modality {name!r} has categories that the training data lack: "
            f"{', '.join(listed)}. They are encoded as none of the known categories.",
            DataWarning,
            stacklevel=2,
        )
    absent = {
        source: np.where(known, 0, np.nan) for source, known in categorical.items()
    }
    parts = [
        values_of[channel] if channel in values_of else absent[_source(channel)]
        for channel in expected
    ]
    values = np.stack(parts, axis=1).astype(np.float32)
    return replace(column, values=values, names=tuple(expected))


def _source(channel: str) -> str:
    return channel.partition("=")[0]


def _categorical_columns(
    names: Sequence[str], values: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """Return ``[L]`` Bool by categorical column: True where the cell is known.

    A categorical column has one channel per category, of which exactly one is 1 where
    the cell is known. A column that is null throughout has one channel without "=".
    """
    groups: dict[str, list[str]] = {}
    for channel in names:
        groups.setdefault(_source(channel), []).append(channel)
    categorical = {}
    for source, channels in groups.items():
        table = np.stack([values[channel] for channel in channels], axis=1)
        null = np.isnan(table).all(axis=1)
        one = ((table == 1).sum(axis=1) == 1) & np.isin(table, (0, 1)).all(axis=1)
        if null.all() or (source not in channels and (one | null).all()):
            categorical[source] = ~null
    return categorical
