"""Conversion of Arrow tables to columns, through buffers instead of Python objects.

Shapes: N samples, C channels, L rows.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.arrow_types import (
    is_number,
    is_single,
    is_string,
    plain_array,
    to_numbers,
)
from mmgraph.data.categorical import is_text, read_channels, resolve_column
from mmgraph.data.categories import codes_fit
from mmgraph.data.cells import read_cells
from mmgraph.data.column import (
    AnyArray,
    Categories,
    Column,
    IntArray,
    empty_column,
    lengths_to_offsets,
)
from mmgraph.data.column_names import ColumnNames
from mmgraph.data.io.arrays import from_rows, single_rows, with_times
from mmgraph.data.io.csv_table import is_untyped
from mmgraph.data.io.parquet import one_line, read_document
from mmgraph.data.io.times import arrow_times
from mmgraph.data.label_cells import read_labels
from mmgraph.data.number_strings import read_certain_numbers
from mmgraph.data.precision import as_float32
from mmgraph.data.schema_inference import fit_columns
from mmgraph.data.targets import METADATA_NAMES, DefaultColumn, as_targets
from mmgraph.data.validation import check_mapping, read_sources, time_column
from mmgraph.errors import Argument, DataError
from mmgraph.typing import ModalityMapping

if TYPE_CHECKING:
    import pyarrow as pa

CHECK_NAMES = "Check the names in modalities=."


def as_table(table: Any) -> "pa.Table":  # noqa: ANN401
    """Return a table of Arrow, or of a library that exports Arrow data, as Arrow table.

    Args:
        table: Arrow table or record batch, or an object with the Arrow PyCapsule
            interface, such as a data frame of polars or pandas.

    Raises:
        DataError: If it is none of these, or its types have no equivalent in Arrow.
    """
    import pyarrow as pa

    if isinstance(table, pa.Table):
        return table
    if not hasattr(table, "__arrow_c_stream__"):
        raise DataError(
            "table must be an Arrow table or export one (as polars.DataFrame does), "
            f"got {type(table).__name__}. Collect or convert it first."
        )
    try:
        return pa.table(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"table must have columns of Arrow types, got {one_line(error)}. Convert "
            "them first."
        ) from None


def parse_table(
    table: "pa.Table",
    *,
    modalities: ModalityMapping | None,
    y: str | Sequence[str] | None,
    ids: str | None,
    groups: str | None,
    strings: Collection[str] = (),
    partial: bool = False,
) -> dict[str, Any]:
    """Read the modalities, the metadata columns and the schema of a table.

    A `DefaultColumn` is read if it exists. In a table that ``to_arrow`` did not write,
    it is ignored if it holds neither numbers nor strings.

    Args:
        table: Table of ``to_arrow``, or any other together with ``modalities``.
        modalities: Columns of each modality: numeric and categorical columns, or one
            column of numbers, strings or lists.
        y: Column of labels, or several columns of numbers; None reads none.
        ids: Column of ids; None numbers the samples.
        groups: Column of groups; None reads none.
        strings: Columns whose strings are categories or text, whatever they look like.
        partial: True if other tables hold the columns that this one lacks; they are
            missing in this one.

    Returns:
        Arguments of ``MultimodalData.from_columns``.

    Raises:
        DataError: If a column does not exist or has an unsupported type.
    """
    import pyarrow as pa

    document = _read_header(table, modalities)
    named = NamedTable(table)
    required = {"y"} if document is None else set(document["plain"])
    if document is not None and "y" not in required and isinstance(y, DefaultColumn):
        y = None
    split = METADATA_NAMES["split_name"]
    names = {
        "y": y if isinstance(y, str | None) else tuple(y),
        "ids": ids,
        "groups": groups,
        "split_name": split,
    }
    try:
        parts: dict[str, Any] = {
            field: named.read_metadata(field, name, field in required)
            for field, name in names.items()
        }
        parts["columns"] = (
            _read_modalities(named, modalities or {}, strings, partial=partial)
            if document is None
            else _read_own(named, document)
        )
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            "columns must hold numbers, strings or lists of numbers, got "
            f"{one_line(error)}. Convert them first."
        ) from None
    if not parts["columns"]:
        raise DataError("the table must have a modality, got none. Write it again.")
    schema = None
    if document is not None:
        parts["columns"] = fit_columns(parts["columns"], document["schema"])
        schema = document["schema"] if document["schema_given"] else None
    return {**parts, "schema": schema}


def _read_header(
    table: "pa.Table", modalities: ModalityMapping | None
) -> dict[str, Any] | None:
    """Return the header of a table of mmgraph; None if modalities are given."""
    document = read_document(table) if modalities is None else None
    if modalities:
        check_mapping("modalities", modalities)
    elif document is None:
        raise DataError(
            "a table that mmgraph did not write must come with the columns of each "
            "modality, got none.",
            ("Give ", Argument("modalities", {"labs": ["wbc", "crp"]}), "."),
        )
    return document


def _read_modalities(
    table: "NamedTable",
    modalities: ModalityMapping,
    strings: Collection[str],
    *,
    partial: bool,
) -> dict[str, Column]:
    columns = {}
    for name, source in modalities.items():
        known = existing_fields(name, source, table.names) if partial else source
        columns[name] = (
            _read_modality(table, name, known, strings)
            if known
            else empty_column(len(table))
        )
    return columns


def existing_fields(
    name: str, source: str | Sequence[str], columns: Collection[str]
) -> str | list[str]:
    """Return the columns of a modality that exist, in the form of the source.

    Args:
        name: Name of the modality.
        source: Name of a column, or names.
        columns: Names of all columns of a table.
    """
    fields = read_sources(name, source)
    existing = [f for f in fields if resolve_column(f, columns) in columns]
    return source if isinstance(source, str) and existing else existing


def _read_own(table: "NamedTable", document: dict[str, Any]) -> dict[str, Column]:
    """Return the columns of a table that ``to_arrow`` wrote."""
    names = document["names"]
    return {
        name: _read_named(
            table, name, names.get(name, ()), document["categories"].get(name, ())
        )
        for name in document["modalities"]
    }


class NamedTable:
    """Arrow table whose columns are found by their names in constant time.

    Args:
        table: Arrow table.

    Attributes:
        names: Names of the columns.
        untyped: True if its strings have no declared type, as in CSV files.
        declared: Columns that pandas wrote as categorical; Parquet loses their type.
    """

    def __init__(self, table: "pa.Table") -> None:
        self._columns, self._size = table.columns, len(table)
        self.names = ColumnNames(table.column_names)
        self.untyped = is_untyped(table)
        self.declared = _pandas_categories(table)

    def __len__(self) -> int:
        return self._size

    def array(self, field: str, remedy: str = CHECK_NAMES) -> "pa.Array":
        """Return one column as one array.

        Args:
            field: Name of the column.
            remedy: How to correct the name, for the message.

        Raises:
            DataError: If there is not exactly one column of this name.
        """
        import pyarrow as pa

        column = self._columns[self.names.position(field, remedy)]
        if column.num_chunks == 1 and is_number(column.type):
            return column.chunk(0)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        if pa.types.is_string(column.type):
            column = column.cast(pa.large_string())  # chunks may exceed 2 GB together
        return (
            pa.concat_arrays(column.chunks)
            if column.num_chunks
            else pa.array([], column.type)
        )

    def certain_numbers(self, fields: Sequence[str]) -> dict[str, AnyArray]:
        """Return those of some columns of a CSV file that hold plain numbers alone.

        Args:
            fields: Names of columns.
        """
        if not self.untyped:
            return {}
        once = [field for field in fields if self.names.count(field) == 1]
        columns = [self.array(field) for field in once]
        values = read_certain_numbers(columns)
        pairs = zip(once, values, strict=True)
        return {field: each for field, each in pairs if each is not None}

    def read_metadata(
        self, field: str, name: str | tuple[str, ...] | None, required: bool = False
    ) -> AnyArray | None:
        """Return a metadata column; None if it is not read.

        Args:
            field: "ids", "y", "groups" or "split_name".
            name: Name of the column, or of several columns of numbers; None reads none.
            required: True if a `DefaultColumn` must exist, too.

        Raises:
            DataError: If the column does not exist, or holds neither numbers nor
                strings.
        """
        import pyarrow as pa

        if isinstance(name, tuple):
            columns = [self.read_metadata(field, each) for each in name]
            parts = [each for each in columns if each is not None]
            return as_targets(name, parts)
        optional = isinstance(name, DefaultColumn) and not required
        if name is None or (optional and self.names.count(name) != 1):
            return None
        array = self.array(name, f"Pass {field}= one of these, or {field}=None.")
        if pa.types.is_fixed_size_list(array.type) and not array.null_count:
            width = array.type.list_size
            return np.asarray(to_numbers(array.flatten())).reshape(len(array), width)
        kind = plain_array(array)[0].type
        if optional and not (is_number(kind) or is_string(kind)):
            return None
        return read_labels(field, name, array, typed=not self.untyped)


def _read_named(
    table: NamedTable,
    name: str,
    names: tuple[str, ...],
    categories: tuple[Categories | None, ...],
) -> Column:
    column = _read_nested(table, name, name)
    if names and len(names) != column.channels:
        raise DataError(
            f"column {name!r} must have {len(names)} channels, got {column.channels}. "
            "Write the file again."
        )
    if categories and not codes_fit(column.values, categories):
        raise DataError(
            f"column {name!r} must hold codes of its categories, got others. Write the "
            "file again."
        )
    return replace(column, names=names, categories=categories)


def _read_modality(
    table: NamedTable,
    name: str,
    source: Any,  # noqa: ANN401
    strings: Collection[str],
) -> Column:
    """Read a modality from one column, or from numeric and categorical columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fields = read_sources(name, source)
    known = table.names
    selected = {resolve_column(field, known) for field in fields if field not in known}

    judged = [f for f in fields if f not in selected and f not in strings]
    numbers = table.certain_numbers(judged)

    @cache
    def read(field: str) -> Any:  # noqa: ANN401
        if field in numbers:
            return numbers[field]
        array = table.array(field)
        is_encoded = pa.types.is_dictionary(array.type) or not is_single(array.type)
        return read_cells(
            name,
            field,
            array.dictionary_encode()
            if field in table.declared and not is_encoded
            else array,
            typed=not table.untyped,
            as_categories=field in selected or field in strings,
        )

    if len(fields) == 1 and resolve_column(fields[0], known) == fields[0]:
        array = table.array(fields[0])
        if not is_single(array.type):
            return _read_nested(table, name, fields[0])
        is_declared = fields[0] in table.declared or pa.types.is_dictionary(array.type)
        is_timed = f"{fields[0]}.time" in known
        if isinstance(source, str) and is_text(
            read(source), declared=is_declared, timed=is_timed
        ):
            texts = pc.if_else(read(source).is_valid(), plain_array(array)[0], None)
            return _read_text(table, name, texts, source)
    names, values, categories = read_channels(name, fields, known, read)
    column = time_column(name, fields, known)
    time = None if column is None else table.array(column)
    return single_rows(name, values, time, names, categories)


def _pandas_categories(table: "pa.Table") -> set[str]:
    """Return the columns that pandas wrote as categorical; Parquet loses their type."""
    text = (table.schema.metadata or {}).get(b"pandas", b"{}")
    try:
        columns = json.loads(text)["columns"]
        return {
            each["name"] for each in columns if each["pandas_type"] == "categorical"
        }
    except (ValueError, LookupError, TypeError, RecursionError):
        return set()


def _float32(name: str, array: "pa.Array") -> AnyArray:
    """Return numbers as float32, NaN where they are null."""
    return as_float32(name, to_numbers(array))


def _read_nested(table: NamedTable, name: str, field: str) -> Column:
    """Read text, vectors or sequences from one column, with times if there are any."""
    import pyarrow as pa

    array, _ = plain_array(table.array(field, "Name the columns in modalities=."))
    kind = array.type
    if is_string(kind):
        return _read_text(table, name, array, field)
    if pa.types.is_fixed_size_list(kind) and is_number(kind.value_type):
        lengths = _lengths(array, 1)
        values, ragged = _matrix(name, array), False
    elif _is_list(kind):
        lengths = _lengths(array)
        inner = array.flatten()
        ragged = True
        if is_number(inner.type):
            values = _float32(name, inner)[:, None]
            one_length = len(np.unique(lengths[lengths > 0])) == 1
            if one_length and f"{field}.time" not in table.names:
                values = values.reshape(-1, lengths.max())
                lengths, ragged = np.minimum(lengths, 1), False
        else:
            values = _matrix(name, inner)
    else:
        raise DataError(
            f"column {field!r} must hold numbers, strings or lists of numbers, got "
            f"{kind}. Convert it first."
        )
    if lengths.sum() != len(values):
        raise DataError(
            f"Modality {name!r} must not have null rows inside a sequence, got some. "
            "Use NaN for unknown values."
        )
    if not len(values) and values.shape[1] == 0:
        return empty_column(len(array))
    time = _read_times(table, name, field, lengths)
    return from_rows(name, values, lengths, ragged=ragged, time=time)


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _lengths(array: "pa.Array", length: int | None = None) -> IntArray:
    """Return the number of entries of each list ``[N]``, 0 where it is null."""
    import pyarrow.compute as pc

    if length is not None:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        return np.where(valid, length, 0).astype(np.int64)
    counts = pc.fill_null(pc.list_value_length(array), 0)
    return np.asarray(counts.to_numpy(zero_copy_only=False)).astype(np.int64)


def _matrix(name: str, rows: "pa.Array") -> AnyArray:
    """Return ``[L, C]`` from lists of numbers of equal length."""
    import pyarrow as pa

    kind = rows.type
    nested = pa.types.is_fixed_size_list(kind) or _is_list(kind)
    if not nested or not is_number(kind.value_type):
        raise DataError(
            f"Modality {name!r} must hold lists of numbers, got {kind}. Convert it."
        )
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    else:
        widths = np.unique(_lengths(rows))
        width = int(widths[-1]) if len(widths) else 0
        if len(widths) > 1:
            raise DataError(
                f"Modality {name!r} must have one number of channels in all rows, got "
                f"{widths[:5].tolist()}. Check the lists."
            )
    return (
        _float32(name, rows.flatten()).reshape(-1, width)
        if width
        else np.empty((0, 0), dtype=np.float32)
    )


def _read_text(table: NamedTable, name: str, array: "pa.Array", field: str) -> Column:
    cells = np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)
    observed = np.array([bool(cell) for cell in cells], dtype=bool)
    column = Column(cells[observed], lengths_to_offsets(observed))
    time = _read_times(table, name, field, column.lengths)
    return with_times(name, column, time)


def _read_times(
    table: NamedTable, name: str, field: str, lengths: IntArray
) -> AnyArray | None:
    """Return the times of all rows of a column; None if the table has none."""
    import pyarrow as pa

    if f"{field}.time" not in table.names:
        return None
    array = table.array(f"{field}.time", "")
    if is_single(array.type) and lengths.max(initial=0) <= 1:
        return arrow_times(name, array.filter(pa.array(lengths > 0)))
    single = _is_list(array.type) and is_single(array.type.value_type)
    if single and np.array_equal(_lengths(array), lengths):
        sample = np.repeat(np.arange(len(lengths)), lengths)
        return arrow_times(name, array.flatten(), sample)
    raise DataError(
        f"column '{field}.time' must hold one time per row of {field!r}, got "
        f"{array.type} of other lengths. Write the file again."
    )
