"""Numeric and categorical columns of a table as the channels of a modality.

Shapes: N samples, C channels.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.categories import (
    MAX_CATEGORIES,
    AnyArray,
    Categories,
    match_categories,
    number_of,
    recode,
)
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CATEGORY_LENGTH = 40  # characters; longer strings are text


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
) -> tuple[tuple[str, ...], AnyArray, tuple[Categories | None, ...]]:
    """Read the channels of a modality from numeric and categorical columns.

    Args:
        name: Name of the modality, for error messages.
        fields: Columns; ``column=category`` selects one category of a column.
        columns: Names of all columns of the table.
        read: Function that returns a column as ``[N]`` numbers, or as an Arrow array
            of strings.

    Returns:
        Names of the channels, their values ``[N, C]``, and the categories of each
        channel as in :class:`mmgraph.data.column.Column`. The cells of a categorical
        column are codes, and the channel of a selected category is 1 where the cell has
        it, 0 where it has another one; NaN where the cell is null or empty.

    Raises:
        DataError: If a category of a numeric column is selected that is not a number.
    """
    names = tuple(map(str, fields))
    channels = [_read_channel(name, field, columns, read) for field in names]
    values = np.stack([cells for cells, _ in channels], axis=1)
    categories = tuple(each for _, each in channels)
    if all(each is None for each in categories):
        categories = ()
    return names, values, categories


def is_text(cells: Any, *, declared: bool = False, timed: bool = False) -> bool:  # noqa: ANN401
    """Return True if the cells of a column are free text.

    Categories are at most 64 different strings; without a declared type, they also have
    at most 40 characters, and occur twice each on average.

    Args:
        cells: ``[N]`` numbers, or Arrow array of strings.
        declared: True if the type of the column is categorical.
        timed: True if the column has times, as texts may have.
    """
    import pyarrow.compute as pc

    if isinstance(cells, np.ndarray):
        return False
    if timed:
        return True
    names = pc.unique(cells.drop_null())
    if declared or not len(names):
        return len(names) > MAX_CATEGORIES
    longest = pc.max(pc.utf8_length(names)).as_py()
    known = len(cells) - cells.null_count
    fewest = min(MAX_CATEGORIES, known // 2)
    return bool(len(names) > fewest or longest > MAX_CATEGORY_LENGTH)


def _read_channel(
    name: str, field: str, columns: Collection[str], read: Callable[[str], Any]
) -> tuple[AnyArray, Categories | None]:
    """Return the cells of a column or of one of its categories, and its categories."""
    column = resolve_column(field, columns)
    cells, selected = read(column), field[len(column) + 1 :]
    if isinstance(cells, np.ndarray):
        if not selected:
            return cells, None
        return _is_number(name, field, column, cells), None
    codes, categories = _encode(cells)
    if not categories:
        return codes, None
    if not selected:
        return codes, categories
    chosen = match_categories([selected], categories)[0]
    return np.where(np.isnan(codes), np.nan, codes == chosen), None


def _encode(cells: "pa.Array") -> tuple[AnyArray, Categories]:
    """Return the codes ``[N]`` of strings, NaN where empty or null, and categories."""
    import pyarrow.compute as pc

    cells = pc.if_else(pc.equal(cells, ""), None, cells)
    encoded = cells.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.float64)
    names = encoded.dictionary.to_pylist()
    categories = tuple(sorted(names))
    return recode(codes, match_categories(names, categories)), categories


def _is_number(name: str, field: str, column: str, cells: AnyArray) -> AnyArray:
    """Return 1 where a cell is the number that a field selects, NaN where it is NaN.

    Raises:
        DataError: If the field selects a category that is not a number.
    """
    selected = np.float32(number_of(field[len(column) + 1 :]))
    if np.isnan(selected) and not np.isnan(cells).all():
        raise DataError(
            f"Modality {name!r} must name categories of categorical columns, got "
            f"{field!r}, and column {column!r} is numeric.",
            f"Use {column!r}.",
        )
    return np.where(np.isnan(cells), np.nan, cells.astype(np.float32) == selected)


def is_number(text: str) -> bool:
    """Return True if a string represents a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
