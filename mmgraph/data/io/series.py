"""Columns of pandas data frames as Arrow arrays.

Shapes: N cells.
"""

import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SCALARS = (bool, int, float, Decimal, np.bool_, np.integer, np.floating)


def column_name(label: object) -> str:
    """Return the label of a column as a string; levels are joined by dots."""
    if isinstance(label, tuple):
        return ".".join(str(part) for part in label if part != "")
    return str(label)


def to_arrow(field: str, series: "pd.Series") -> tuple["pa.Array", bool]:
    """Return a column as an Arrow array, and whether its cells have one declared type.

    Sparse columns become dense, intervals categories, and periods dates. Cells of
    several types become strings without a declared type.

    Args:
        field: Name of the column, for error messages.
        series: Column without lists and arrays.

    Raises:
        DataError: If a cell is neither a number, a date nor a string.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.SparseDtype):
        series = series.sparse.to_dense()
    if isinstance(series.dtype, pd.PeriodDtype):
        series = series.dt.to_timestamp()
    if isinstance(series.dtype, pd.IntervalDtype):
        series = series.astype("category")
    if isinstance(series.dtype, pd.CategoricalDtype) and not _is_plain(
        series.cat.categories.dtype
    ):
        series = series.cat.rename_categories(str)
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array(_as_strings(field, series), pa.large_string()), False
    if series.dtype == object and pa.types.is_timestamp(array.type):
        _check_zones(field, series)
    if isinstance(array, pa.ChunkedArray):  # such as that of a frame of pd.concat
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    return array, True


def holds_arrays(series: "pd.Series") -> bool:
    """Return True if a cell of a column is a list, a tuple or an array."""
    if series.dtype != object:
        return bool(getattr(series.dtype, "kind", "") == "O") and _is_list_type(series)
    kinds = (list, tuple, np.ndarray)
    return any(isinstance(cell, kinds) for cell in series)


def _check_zones(field: str, series: "pd.Series") -> None:
    """Check that times with and without a zone are not mixed.

    Raises:
        DataError: If they are.
    """
    zones = {getattr(cell, "tzinfo", None) is None for cell in series.dropna()}
    if len(zones) > 1:
        raise DataError(
            f"column {field!r} must hold times with a zone or without, got both. "
            "Convert them by pandas.to_datetime(utc=True)."
        )


def _is_list_type(series: "pd.Series") -> bool:
    import pyarrow as pa

    kind = getattr(series.dtype, "pyarrow_dtype", None)
    return kind is not None and pa.types.is_nested(kind)


def _is_plain(dtype: Any) -> bool:  # noqa: ANN401
    """Return True for categories that are strings, numbers or truth values."""
    import pandas as pd

    kinds = pd.api.types
    return bool(kinds.is_string_dtype(dtype) or kinds.is_numeric_dtype(dtype))


def _as_strings(field: str, series: "pd.Series") -> list[str | None]:
    """Return cells of several types as strings, None where they are missing."""
    cells: list[str | None] = []
    missing: AnyArray = series.isna().to_numpy()
    for row, (cell, empty) in enumerate(zip(series, missing, strict=True)):
        if empty:
            cells.append(None)
        elif isinstance(cell, str | os.PathLike):
            cells.append(os.fspath(cell))
        elif isinstance(cell, _SCALARS):
            cells.append(str(cell))
        else:
            raise DataError(
                f"column {field!r} must hold numbers, dates or strings, got "
                f"{type(cell).__name__} in row {row}. Convert it first."
            )
    return cells
