"""What the columns of a modality are: numbers, truth values, times or strings.

One set of rules for Arrow, pandas, polars and CSV. A declared type decides; the values
of a column of strings decide what the strings are, see
:mod:`mmgraph.data.string_cells`. The guide "What mmgraph does with your columns" states
the rules. Shapes: N cells.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.arrow_types import (
    is_number,
    is_string,
    is_temporal,
    plain_array,
    to_numbers,
    to_seconds,
    without,
)
from mmgraph.data.column import AnyArray
from mmgraph.data.string_cells import DAY, NOT_AVAILABLE, StringColumn, clean_strings
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def read_cells(
    name: str,
    field: str,
    array: "pa.Array",
    *,
    typed: bool = True,
    as_categories: bool = False,
) -> Any:  # noqa: ANN401
    """Read a column of a modality as numbers or as strings.

    Args:
        name: Name of the modality, for messages.
        field: Name of the column.
        array: ``[N]`` Arrow array of single values.
        typed: False if strings have no declared type, as in CSV files.
        as_categories: True if the user declared the column as categorical, by the
            selection of a category.

    Returns:
        ``[N]`` float64, NaN where missing: numbers, truth values (0 and 1), dates and
        times (days since 1970-01-01 00:00 UTC), times of day and durations (seconds).
        Otherwise an Arrow array of strings, categories or texts, null where missing.

    Raises:
        DataError: If the type of the column is none of these, or its strings allow
            several readings as numbers or dates.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells, declared = plain_array(array)
    subject = f"Column {field!r} of modality {name!r}"
    if is_string(cells.type):
        texts = clean_strings(cells)
        if not declared and not as_categories:
            numbers = StringColumn(subject, field, texts, typed).read()
            if numbers is not None:
                return numbers
        return texts if typed else without(texts, NOT_AVAILABLE)
    if declared and not pa.types.is_boolean(cells.type):
        return pc.cast(cells, pa.large_string())
    if is_number(cells.type):
        return to_numbers(cells).astype(np.float64)
    if is_temporal(cells.type):
        return _temporal_numbers(cells)
    raise DataError(
        f"Modality {name!r} must hold numbers, categories, dates or text, got column "
        f"{field!r} of {array.type}.",
        "Convert it to one of these first.",
    )


def _temporal_numbers(array: "pa.Array") -> AnyArray:
    """Return dates and times as days ``[N]``, times of day and durations as seconds."""
    import pyarrow as pa

    is_date = pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    return to_seconds(array) / (DAY if is_date else 1)
