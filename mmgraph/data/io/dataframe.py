"""Conversion of pandas data frames to columns and back.

Shapes: N samples, C channels.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.categorical import is_text, read_channels, resolve_column
from mmgraph.data.cells import read_cells
from mmgraph.data.column import AnyArray, Column
from mmgraph.data.column_names import ColumnNames
from mmgraph.data.io.arrays import build_column, single_rows
from mmgraph.data.io.series import column_name, holds_arrays, to_arrow
from mmgraph.data.label_cells import read_labels
from mmgraph.data.targets import METADATA_NAMES, as_targets, warn_default_roles
from mmgraph.data.validation import (
    check_mapping,
    check_no_label_leak,
    read_sources,
    time_column,
    time_roles,
)
from mmgraph.errors import DataError
from mmgraph.typing import ColumnLabel, FrameMapping

if TYPE_CHECKING:
    import pandas as pd


def parse_frame(
    frame: "pd.DataFrame",
    modalities: FrameMapping,
    y: ColumnLabel | Iterable[ColumnLabel] | None,
    ids: ColumnLabel | None,
    groups: ColumnLabel | None,
) -> dict[str, Any]:
    """Return the arguments of ``MultimodalData.from_columns`` from a data frame.

    Args:
        frame: Data frame with one row per sample.
        modalities: Columns of each modality.
        y: Column or columns of labels.
        ids: Column of ids.
        groups: Column of groups.

    Raises:
        DataError: If a column does not exist, or has an unsupported type, or a modality
            contains a label.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"frame must be a DataFrame of pandas, got {type(frame).__name__}. Wrap it "
            "in pandas.DataFrame, or use MultimodalData.from_arrow, which reads polars."
        )
    check_mapping("modalities", modalities)
    table = _Frame(frame)
    sources = {name: table.fields(name, each) for name, each in modalities.items()}
    labels = table.labels(y)
    check_no_label_leak(sources, labels)
    warn_default_roles(time_roles(sources, table.names))
    return {
        "columns": {
            name: _read_modality(table, name, s) for name, s in sources.items()
        },
        "y": _read_targets(table, labels),
        "ids": table.read_labels("ids", ids),
        "groups": table.read_labels("groups", groups),
    }


class _Frame:
    """Columns of a data frame by their names as strings.

    Args:
        frame: Data frame, whose labels may be strings, numbers or tuples.
    """

    def __init__(self, frame: "pd.DataFrame") -> None:
        self.frame = frame
        self.names = ColumnNames(map(column_name, frame.columns))

    def __len__(self) -> int:
        return len(self.frame)

    def has_label(self, label: object) -> bool:
        """Return True if an object is the label of a column, not a list of labels."""
        return isinstance(label, Hashable) and label in self.frame.columns

    def fields(self, name: str, source: object) -> str | list[str]:
        """Return the names of the columns of a modality: one name, or a list."""
        if isinstance(source, str) or self.has_label(source):
            return column_name(source)
        if isinstance(source, Iterable):
            source = [column_name(label) for label in source]
        return read_sources(name, source)

    def labels(self, y: object) -> str | list[str] | None:
        """Return the names of the columns of labels.

        Raises:
            DataError: If the list of columns is empty.
        """
        if y is None or isinstance(y, str) or self.has_label(y):
            return None if y is None else column_name(y)
        labels = [y] if not isinstance(y, Iterable) else list(y)
        if not labels:
            raise DataError(
                "y must name at least one column, got none. Pass None.", parameter="y"
            )
        return [column_name(label) for label in labels]

    def series(self, field: str) -> "pd.Series":
        """Return one column.

        Raises:
            DataError: If there is not exactly one column of this name.
        """
        return self.frame.iloc[:, self.names.position(field)]

    def numbers(self, fields: Sequence[str]) -> dict[str, AnyArray]:
        """Return those of some columns that have a numeric type of NumPy, as float64.

        They are read together: a column that is read alone takes a tenth of a
        millisecond, whatever its length.
        """
        dtypes = self.frame.dtypes.to_numpy()
        plain = [
            field
            for field in fields
            if self.names.count(field) == 1
            and isinstance(dtype := dtypes[self.names.position(field)], np.dtype)
            and dtype.kind in "biuf"
        ]
        places = [self.names.position(field) for field in plain]
        cells = self.frame.iloc[:, places].to_numpy(np.float64)
        return dict(zip(plain, cells.T, strict=True))

    def read_cells(self, name: str, field: str, *, as_categories: bool = False) -> Any:  # noqa: ANN401
        """Return a column of a modality as numbers, or as an Arrow array of strings."""
        array, typed = to_arrow(field, self.series(field))
        return read_cells(name, field, array, typed=typed, as_categories=as_categories)

    def read_labels(self, subject: str, label: object) -> AnyArray | None:
        """Return a column of labels, ids or groups; None if there is no label."""
        if label is None:
            return None
        field = column_name(label)
        series = self.series(field)
        array, typed = to_arrow(field, series)
        return read_labels(subject, field, array) if typed else series.to_numpy()


def _read_targets(table: _Frame, labels: str | list[str] | None) -> AnyArray | None:
    """Return labels ``[N]``, or ``[N, K]`` for several columns.

    Raises:
        DataError: If one of several columns does not hold numbers.
    """
    if labels is None or isinstance(labels, str):
        return table.read_labels("y", labels)
    columns = [table.read_labels("y", field) for field in labels]
    return as_targets(labels, [each for each in columns if each is not None])


def build_frame(
    columns: Mapping[str, Column], metadata: Mapping[str, AnyArray | None]
) -> "pd.DataFrame":
    """Return data as a data frame; see ``MultimodalData.to_pandas``.

    Args:
        columns: Columns by modality.
        metadata: Ids, labels, groups and split names.

    Raises:
        DataError: If two columns would have the same name.
    """
    import pandas as pd

    cells: dict[str, Any] = {}
    for field, values in metadata.items():
        if values is not None and values.ndim == 2:
            cells |= {f"{field}.{k}": values[:, k] for k in range(values.shape[1])}
        elif values is not None:
            cells[METADATA_NAMES[field]] = values
    for name, column in columns.items():
        new = _cells_of(name, column)
        repeated = sorted(set(new) & set(cells))
        if repeated:
            raise DataError(
                f"columns must have different names, got {repeated[0]!r} twice. Rename "
                "the modality or the channel."
            )
        cells |= new
    return pd.DataFrame(cells)


def _read_modality(table: _Frame, name: str, source: str | list[str]) -> Column:
    """Read a modality from one column, or from numeric and categorical columns."""
    fields = [source] if isinstance(source, str) else source
    selected = {resolve_column(f, table.names) for f in fields if f not in table.names}

    numbers = table.numbers(fields)

    @cache
    def read(field: str) -> Any:  # noqa: ANN401
        if field in numbers:
            return numbers[field]
        return table.read_cells(name, field, as_categories=field in selected)

    if len(fields) == 1 and resolve_column(fields[0], table.names) == fields[0]:
        series = table.series(fields[0])
        if holds_arrays(series):
            cells = series.astype(object).where(series.notna(), None).tolist()
            return build_column(name, cells, times=_times(table, fields[0]))
        is_declared = series.dtype.name == "category"
        is_timed = f"{fields[0]}.time" in table.names
        if isinstance(source, str) and is_text(
            read(source), declared=is_declared, timed=is_timed
        ):
            known = read(source).is_valid().to_numpy(zero_copy_only=False)
            cells = series.astype(object).where(known, None)
            texts = [None if cell is None else str(cell) for cell in cells]
            return build_column(name, texts, times=_times(table, source))
    names, values, categories = read_channels(name, fields, table.names, read)
    column = time_column(name, fields, table.names)
    time = None if column is None else to_arrow(column, table.series(column))[0]
    return single_rows(name, values, time, _channel_names(name, names), categories)


def _times(table: _Frame, field: str) -> list[Any] | None:
    """Return the times of a column of texts or sequences; None if there are none."""
    name = f"{field}.time"
    return table.series(name).tolist() if name in table.names else None


def _channel_names(name: str, fields: Sequence[str]) -> tuple[str, ...]:
    """Return channel names without the prefix and the numbers of ``build_frame``."""
    prefix = f"{name}."
    names = tuple(map(str, fields))
    if all(field.startswith(prefix) for field in names):
        names = tuple(field.removeprefix(prefix) for field in names)
        if names == tuple(map(str, range(len(names)))):
            return ()
    return names


def _cells_of(name: str, column: Column) -> dict[str, AnyArray]:
    """Return the columns of a data frame that hold one modality."""
    cells: dict[str, AnyArray] = {}
    if column.is_text or column.ragged:
        cells[name] = _objects(column, column.values)
        if column.time is not None:
            cells[f"{name}.time"] = _objects(column, column.time)
        return cells
    channels = column.values.shape[1]
    table = np.full((len(column), channels), np.nan, dtype=np.float32)
    table[column.present] = column.values
    names = column.names or tuple(map(str, range(channels)))
    cells = {
        f"{name}.{channel}": _channel_cells(table[:, i], column, i)
        for i, channel in enumerate(names)
    }
    if len(cells) < channels or (column.time is not None and "time" in names):
        raise DataError(
            f"Modality {name!r} must have channels of different names other than "
            f"'time', got {', '.join(names)}. Rename them."
        )
    if column.time is not None:
        time = np.full(len(column), np.nan)
        time[column.present] = column.time
        cells[f"{name}.time"] = time
    return cells


def _channel_cells(cells: AnyArray, column: Column, number: int) -> Any:  # noqa: ANN401
    """Return numbers, or a Categorical of pandas if the channel is categorical."""
    import pandas as pd

    categories = column.categories[number] if column.categories else None
    if categories is None:
        return cells
    codes = np.where(np.isnan(cells), -1, cells).astype(np.int64)
    return pd.Categorical.from_codes(codes, list(categories))


def _objects(column: Column, rows: AnyArray) -> AnyArray:
    """Return strings or arrays ``[N]``, None where the modality is missing."""
    cells = np.full(len(column), None, dtype=object)
    where = np.flatnonzero(column.present)
    pieces = np.split(rows, column.offsets[1:-1])
    for i in where:
        cells[i] = pieces[i][0] if column.is_text else pieces[i]
    return cells
