"""Data frames among the values of modalities: columns have names, and rows an index.

Shapes: N samples, T rows of one sample, C channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mmgraph.data.arrow_types import is_temporal, plain_array, to_seconds
from mmgraph.data.categorical import read_channels
from mmgraph.data.cells import read_cells
from mmgraph.data.column import AnyArray, Categories, Column
from mmgraph.data.column_names import ColumnNames
from mmgraph.data.io.arrow import NamedTable, as_table
from mmgraph.data.io.series import column_name, to_arrow
from mmgraph.data.notices import MAX_LISTED, warn
from mmgraph.errors import DataError

TIME_NAMES = {"time", "timestamp", "datetime", "date", "t", "seconds", "sec", "ms"}


@dataclass(frozen=True)
class Unpacked:
    """Values of a modality without data frames.

    Attributes:
        content: Values as for ``build_column``.
        times: Times of the rows in the layout of the content, or None.
        names: Names of the channels, or empty.
        categories: Categories of the channels, or empty.
    """

    content: Any
    times: Any
    names: tuple[str, ...] = ()
    categories: tuple[Categories | None, ...] = ()

    def label(self, column: Column) -> Column:
        """Return a column with the names and categories of the channels."""
        if not self.names or column.channels != len(self.names):
            return column
        return replace(column, names=self.names, categories=self.categories)


def unpack_frames(name: str, content: Any, times: Any) -> Unpacked:  # noqa: ANN401
    """Return the values of a modality without data frames.

    A data frame is read as a table: its columns may hold numbers, booleans, categories
    or dates. In a list with one data frame per sample, columns are aligned by name, and
    a column of dates becomes the times of the rows.

    Args:
        name: Name of the modality, for messages.
        content: Values of the modality.
        times: Times of its rows, or None.

    Raises:
        DataError: If columns repeat, the data frames of two samples have no column in
            common, or times are given twice.
    """
    if _is_frame(content):
        return _unpack_table(name, content, times)
    if (
        _is_series(content)
        and content.dtype.kind in "biufMm"
        and _is_extension(content)
    ):
        array, _ = to_arrow(str(content.name), content)
        return Unpacked(read_cells(name, str(content.name), array), times)
    if isinstance(content, np.ndarray) and content.dtype.kind in "Mm":
        return Unpacked(_read_dates(name, content), times)
    if _is_list(content) and any(_is_frame(entry) for entry in content):
        return _unpack_list(name, list(content), times)
    return Unpacked(content, times)


def _read_dates(name: str, content: AnyArray) -> AnyArray:
    """Return dates of NumPy as days, durations as seconds, in the same shape."""
    import pyarrow as pa

    cells: AnyArray = read_cells(name, name, pa.array(content.ravel()))
    return cells.reshape(content.shape)


def check_same_index(objects: Mapping[str, Any]) -> None:
    """Check that all pandas objects among some values have the same index.

    Args:
        objects: Values by name, for error messages.

    Raises:
        DataError: If two indices differ: rows are combined by position.
    """
    indexed = {
        name: value.index
        for name, value in objects.items()
        if hasattr(getattr(value, "index", None), "equals")
    }
    first = next(iter(indexed), "")
    for name, index in indexed.items():
        same_length = len(index) == len(indexed[first])
        if same_length and not index.equals(indexed[first]):
            row = int(np.flatnonzero(np.asarray(index != indexed[first]))[0])
            raise DataError(
                f"{first} and {name} must have the same index, got "
                f"{indexed[first][row]} and {index[row]} in row {row}. Align them by "
                "label (reindex), or call reset_index(drop=True) on both to combine "
                "them by position."
            )


def _is_frame(value: object) -> bool:
    """Return True for data frames of pandas and polars, and tables of Arrow."""
    table = hasattr(value, "__arrow_c_stream__") or hasattr(value, "iloc")
    return table and (hasattr(value, "columns") or hasattr(value, "column_names"))


def _is_series(value: object) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "dtype")


def _is_extension(series: Any) -> bool:  # noqa: ANN401
    return not isinstance(series.dtype, np.dtype) or series.dtype.kind in "Mm"


def _is_list(value: object) -> bool:
    objects = getattr(getattr(value, "dtype", None), "kind", "") == "O"
    return objects or (isinstance(value, Sequence) and not isinstance(value, str))


class _Columns:
    """Columns of a data frame as Arrow arrays, by their names as strings.

    Args:
        name: Name of the modality, for error messages.
        frame: Data frame of pandas or polars, or table of Arrow.

    Raises:
        DataError: If two columns have the same name.
    """

    def __init__(self, name: str, frame: Any) -> None:  # noqa: ANN401
        is_pandas = hasattr(frame, "iloc")
        self.frame: Any = frame if is_pandas else NamedTable(as_table(frame))
        labels = frame.columns if is_pandas else self.frame.names
        self.names = ColumnNames(map(column_name, labels))
        if self.names.repeated is not None:
            raise DataError(
                f"Modality {name!r} must have columns of different names, got "
                f"{self.names.repeated!r} twice. Rename one."
            )
        self.modality = name

    def __len__(self) -> int:
        return len(self.frame)

    def array(self, field: str) -> tuple[Any, bool]:
        """Return a column as an Arrow array, and whether its type is declared."""
        if hasattr(self.frame, "iloc"):
            return to_arrow(field, self.frame.iloc[:, self.names.position(field)])
        return self.frame.array(field, ""), True

    def read(self, field: str) -> Any:  # noqa: ANN401
        """Return a column as numbers, or as an Arrow array of strings."""
        array, typed = self.array(field)
        return read_cells(self.modality, field, array, typed=typed)

    @cached_property
    def numbers(self) -> AnyArray | None:
        """``[T, C]`` if all columns have numeric types of NumPy, otherwise None."""
        if not hasattr(self.frame, "iloc"):
            return None
        dtypes = self.frame.dtypes
        kinds = {getattr(dtype, "kind", "O") for dtype in dtypes}
        plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        return self.frame.to_numpy() if plain and kinds <= set("biuf") else None


def _unpack_table(name: str, frame: Any, times: Any) -> Unpacked:  # noqa: ANN401
    """Read a data frame with one row per sample."""
    table = _Columns(name, frame)
    values = table.numbers
    if values is not None:
        return Unpacked(values, times, tuple(table.names))
    if not len(table.names):
        return Unpacked(frame, times)
    _, values, categories = read_channels(name, [*table.names], table.names, table.read)
    return Unpacked(values, times, tuple(table.names), categories)


def _unpack_list(name: str, entries: list[Any], times: Any) -> Unpacked:  # noqa: ANN401
    """Read a list with one data frame per sample."""
    for i, entry in enumerate(entries):
        if not _is_frame(entry) and not (entry is None or entry != entry):
            raise DataError(
                f"Modality {name!r} must hold a data frame or None for every sample, "
                f"got {type(entry).__name__} in sample {i}. Convert it."
            )
    tables = [_Columns(name, e) if _is_frame(e) else None for e in entries]
    filled = [table for table in tables if table is not None]
    names = list(dict.fromkeys(field for table in filled for field in table.names))
    _check_common(name, filled, names)
    clock = _find_clock(name, filled, names, given=times is not None)
    if clock is not None:
        times = [None if table is None else _seconds(table, clock) for table in tables]
        names = [field for field in names if field != clock]
    elif times is None:
        _warn_time_names(name, filled, names)
    rows = [None if table is None else _rows(name, table, names) for table in tables]
    return Unpacked(rows, times, tuple(names))


def _check_common(name: str, tables: list[_Columns], names: list[str]) -> None:
    """Check that the data frames have a column in common; warn if one lacks others."""
    common = set(names).intersection(*(table.names for table in tables))
    if not common:
        raise DataError(
            f"Modality {name!r} must have data frames with a column in common, got "
            f"{', '.join(names[:20])}. Rename the columns, or use several modalities."
        )
    partial = [field for field in names if field not in common]
    if partial:
        listed = ", ".join(partial[:MAX_LISTED]) + ", ..." * (len(partial) > MAX_LISTED)
        warn(
            f"Modality {name!r} has columns that some data frames lack: {listed}. "
            "They are missing values there."
        )


def _find_clock(
    name: str, tables: list[_Columns], names: list[str], *, given: bool
) -> str | None:
    """Return the column of dates that holds the times of the rows; "" for the index.

    Raises:
        DataError: If there are several, or times are given as well.
    """
    dates = {
        field
        for table in tables
        for field in table.names
        if table.numbers is None
        and is_temporal(plain_array(table.array(field)[0])[0].type)
    }
    if len(dates) > 1 or (dates and given):
        got = " and times" if given else ""
        raise DataError(
            f"Modality {name!r} must have one time per row, got the columns "
            f"{', '.join(sorted(dates))}{got}. Drop the others."
        )
    index = getattr(tables[0].frame, "index", None)
    dated = getattr(getattr(index, "dtype", None), "kind", "") in ("M", "m")
    if not dates and (given or not dated):
        return None
    clock = next(iter(dates), "")
    source = f"column {clock!r}" if clock else "index"
    warn(
        f"Modality {name!r}: the {source} of its data frames holds dates, and is read "
        "as the times of their rows, in seconds since 1970-01-01 00:00 UTC."
    )
    return clock


def _seconds(table: _Columns, clock: str) -> AnyArray:
    if clock == "":
        return to_seconds(to_arrow("index", table.frame.index.to_series())[0])
    if clock not in table.names:
        raise DataError(
            f"Modality {table.modality!r} must have the column {clock!r} of times in "
            "every data frame, got one without it. Add it, or pass times."
        )
    return to_seconds(plain_array(table.array(clock)[0])[0])


def _warn_time_names(name: str, tables: list[_Columns], names: list[str]) -> None:
    """Warn about columns of numbers that may be the times of the rows."""
    for field in names:
        if field.lower() in TIME_NAMES and all(
            _ascends(table, field) for table in tables if field in table.names
        ):
            warn(
                f"Modality {name!r}: column {field!r} of its data frames ascends, and "
                "is read as a channel. Pass it as times if it holds those of the rows."
            )


def _ascends(table: _Columns, field: str) -> bool:
    cells = table.read(field)
    return isinstance(cells, np.ndarray) and bool(np.all(np.diff(cells) > 0))


def _rows(name: str, table: _Columns, names: list[str]) -> AnyArray:
    """Return the rows of a data frame ``[T, C]``, NaN in columns that it lacks."""
    numbers = table.numbers
    if numbers is not None and [*table.names] == names:
        return numbers
    rows = np.full((len(table), len(names)), np.nan)
    if numbers is not None:
        places = {field: c for c, field in enumerate(names)}
        rows[:, [places[field] for field in table.names]] = numbers
        return rows
    for c, field in enumerate(names):
        if field in table.names:
            cells = table.read(field)
            if not isinstance(cells, np.ndarray):
                raise DataError(
                    f"Modality {name!r} must hold numbers in sequences, got column "
                    f"{field!r} of strings. Encode it as numbers, or drop it."
                )
            rows[:, c] = cells
    return rows
