"""Conversion of pandas data frames to columns and back.

Shapes: N samples, C channels.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.categorical import read_channels, resolve_column
from mmgraph.data.column import AnyArray, Column
from mmgraph.data.io.arrays import build_column, from_rows
from mmgraph.data.targets import METADATA_NAMES
from mmgraph.data.validation import check_mapping, read_sources
from mmgraph.errors import DataError
from mmgraph.typing import ModalityMapping

if TYPE_CHECKING:
    import pandas as pd

_NUMERIC = (
    "boolean",
    "decimal",
    "empty",
    "floating",
    "integer",
    "integer-na",
    "mixed-integer-float",
)


def parse_frame(
    frame: "pd.DataFrame",
    modalities: ModalityMapping,
    y: str | Sequence[str] | None,
    ids: str | None,
    groups: str | None,
) -> dict[str, Any]:
    """Return the arguments of ``MultimodalData.from_columns`` from a data frame.

    Args:
        frame: Data frame with one row per sample.
        modalities: Columns of each modality.
        y: Column or columns of labels.
        ids: Column of ids.
        groups: Column of groups.

    Raises:
        DataError: If a column does not exist, or is neither numeric nor categorical.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"frame must be a DataFrame of pandas, got {type(frame).__name__}. Wrap it "
            "in pandas.DataFrame."
        )
    check_mapping("modalities", modalities)
    columns = {
        name: _read_modality(frame, name, source) for name, source in modalities.items()
    }
    targets = None if y is None or isinstance(y, str) else list(y)
    if targets == []:
        raise DataError(
            "y must name at least one column, got none. Pass None.", parameter="y"
        )
    if targets is not None:
        labels = np.stack([_read_numbers(frame, "y", field) for field in targets], 1)
    elif y is not None:
        labels = _get(frame, str(y)).to_numpy()
    return {
        "columns": columns,
        "y": None if y is None else labels,
        "ids": None if ids is None else _get(frame, ids).to_numpy(),
        "groups": None if groups is None else _get(frame, groups).to_numpy(),
    }


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


def _get(frame: "pd.DataFrame", field: str) -> "pd.Series":
    """Return one column; a Categorical becomes a column of its categories."""
    import pandas as pd

    count = list(frame.columns).count(field)
    if count != 1:
        known = ", ".join(map(str, frame.columns[:20]))
        raise DataError(
            f"column {field!r} must exist once, got {count} in: {known}. Check the "
            "names."
        )
    series = frame[field]
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.astype(object)
    return series


def _is_numeric(series: "pd.Series") -> bool:
    """Return True if cells are numbers, booleans or missing; not strings of digits."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(series.dtype):
        return not pd.api.types.is_complex_dtype(series.dtype)
    if series.dtype != object:
        return False
    return pd.api.types.infer_dtype(series, skipna=True) in _NUMERIC


def _read_numbers(frame: "pd.DataFrame", name: str, field: str) -> AnyArray:
    series = _get(frame, field)
    if not _is_numeric(series):
        raise DataError(
            f"Modality {name!r} must hold numbers, got column {field!r} of "
            f"{frame[field].dtype}.",
            "Convert it first.",
        )
    if series.dtype == object:
        series = series.where(series.notna(), np.nan)
    with np.errstate(over="ignore"):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def _read_cells(frame: "pd.DataFrame", name: str, field: str) -> Any:  # noqa: ANN401
    """Return a column as numbers, or as an Arrow array of strings."""
    import pandas as pd
    import pyarrow as pa

    series = _get(frame, field)
    if not _is_numeric(series) and pd.api.types.infer_dtype(series) == "string":
        cells = pa.array(series, pa.large_string(), from_pandas=True)
        # a frame of pd.concat holds several chunks
        return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    return _read_numbers(frame, name, field)


def _read_modality(frame: "pd.DataFrame", name: str, source: Any) -> Column:  # noqa: ANN401
    fields = read_sources(name, source)
    if len(fields) == 1 and resolve_column(str(fields[0]), frame.columns) == fields[0]:
        series = _get(frame, fields[0])
        text = isinstance(source, str) and not _is_numeric(series)
        if text or _holds_arrays(series):
            times = frame.get(f"{fields[0]}.time")
            cells = series.where(series.notna(), None).tolist()
            return build_column(
                name, cells, times=None if times is None else times.tolist()
            )
    names, values, categories = read_channels(
        name, fields, frame.columns, lambda f: _read_cells(frame, name, f)
    )
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    time = None
    if f"{name}.time" in frame.columns and f"{name}.time" not in fields:
        time = _read_numbers(frame, name, f"{name}.time")
        rows[np.isnan(time)] = np.nan
        time = np.where(np.isnan(time), 0, time)
    ones = np.ones(len(frame), dtype=np.int64)
    names = _channel_names(name, names)
    return from_rows(
        name,
        rows,
        ones,
        ragged=False,
        time=time,
        names=names,
        categories=categories,
    )


def _holds_arrays(series: "pd.Series") -> bool:
    if series.dtype != object:
        return False
    kinds = (list, tuple, np.ndarray)
    return any(isinstance(cell, kinds) for cell in series)


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
