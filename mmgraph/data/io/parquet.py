"""Arrow tables and Parquet files: one row per sample, missing ones are null.

A modality is a column: ``FixedSizeList<float>`` for single rows,
``List<FixedSizeList<float>>`` for sequences, ``string`` for text; the times of
``name`` are the column ``name.time``. Shapes: N samples, C channels, L rows.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray, Column
from mmgraph.data.targets import METADATA_NAMES, missing_labels
from mmgraph.errors import DataError
from mmgraph.schema import Custom, Schema

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"mmgraph"
PAGE_BYTES = 1 << 16  # readers hold a page and a dictionary of every column
PARQUET = ".parquet"
CSV = (".csv", ".csv.gz")


def build_table(
    columns: Mapping[str, Column],
    plain: Mapping[str, AnyArray | None],
    schema: Schema,
    *,
    schema_given: bool,
) -> "pa.Table":
    """Lay data out as an Arrow table whose metadata holds the schema.

    A schema that was inferred is inferred anew when the table is read.

    Functions of ``Custom`` relations cannot be stored: such a schema is stored as the
    star of its modalities.

    Raises:
        DataError: when a modality has the name of a plain column.
    """
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    for field, values in plain.items():
        if values is not None:
            arrays[METADATA_NAMES[field]] = _plain_array(values)
    for name, column in columns.items():
        if name in METADATA_NAMES.values():
            raise DataError(
                f"Modality {name!r} must not be named like one of the columns "
                f"{', '.join(METADATA_NAMES.values())}, got {name!r}. Rename it."
            )
        arrays[name] = _column_array(column)
        if column.time is not None:
            arrays[f"{name}.time"] = _list_array(column, pa.array(column.time))
    if any(isinstance(r.topology, Custom) for r in schema.relations):
        schema = Schema.star(schema.modalities)
    document = {
        "version": 1,
        "schema": json.loads(schema.to_json()),
        "schema_given": schema_given,
        "names": {name: list(c.names) for name, c in columns.items()},
        "modalities": list(columns),
        "plain": [field for field, values in plain.items() if values is not None],
    }
    metadata = {METADATA_KEY: json.dumps(document, sort_keys=True).encode()}
    return pa.table(arrays).replace_schema_metadata(metadata)


def write_table(table: "pa.Table", path: str | PathLike[str]) -> None:
    """Write a table as Parquet with a checksum on every page.

    Raises:
        DataError: when the file cannot be written.
    """
    import pyarrow.parquet as pq

    try:
        pq.write_table(
            table,
            path,
            compression="zstd",
            write_page_checksum=True,
            data_page_size=PAGE_BYTES,
            dictionary_pagesize_limit=PAGE_BYTES,
        )
    except OSError as error:
        raise DataError(
            f"{path} must be a writable file, got {_one_line(error)}. Check the folder."
        ) from None


def read_table(path: str | PathLike[str]) -> "pa.Table":
    """Read a Parquet file and verify its checksums and its structure; or a CSV file.

    Raises:
        DataError: when the file is missing, of another kind, or damaged.
    """
    import pyarrow.parquet as pq
    from pyarrow import csv

    with _readable(path):
        if is_csv(path):
            nulls = csv.ConvertOptions(strings_can_be_null=True)
            with _open_csv(path) as rows:
                table = csv.read_csv(rows, convert_options=nulls)
            _check_encoding(table)
            return table
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
        table.validate(full=True)
        return table


def column_names(path: str | PathLike[str]) -> list[str]:
    """Return the names of the columns of a file, from its footer or its first lines.

    Raises:
        DataError: when the file is no Parquet or CSV file, or damaged.
    """
    import pyarrow.parquet as pq
    from pyarrow import csv

    with _readable(path):
        if is_csv(path):
            with _open_csv(path) as rows, csv.open_csv(rows) as blocks:
                return list(blocks.schema.names)
        return list(pq.read_schema(path).names)


def is_csv(path: str | PathLike[str]) -> bool:
    """Tell whether a file is one of CSV, by its name; else it is one of Parquet."""
    return str(path).lower().endswith(CSV)


def is_table(path: str | PathLike[str]) -> bool:
    """Tell whether a name ends as those of files with a row per sample do."""
    return str(path).lower().endswith((PARQUET, *CSV))


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder and of those in it, by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == PARQUET and path.is_file()
    )


def csv_remedy(folder: Path) -> str:
    """Return what to do about the CSV files of a folder; empty if it has none."""
    if not any(is_csv(path) for path in folder.rglob("*")):
        return ""
    return "CSV files are read one by one: join them, or write each as Parquet."


def _open_csv(path: str | PathLike[str]) -> "pa.NativeFile":
    """Open a file for reading, whatever the case of its ending."""
    import pyarrow as pa

    packed = str(path).lower().endswith(".gz")
    return pa.input_stream(path, compression="gzip" if packed else None)


def _check_encoding(table: "pa.Table") -> None:
    """Refuse words that are not UTF-8, which CSV gives as bytes."""
    import pyarrow as pa

    for column in table.schema:
        if pa.types.is_binary(column.type):
            raise ValueError(f"column {column.name!r} in another encoding")


@contextmanager
def _readable(path: str | PathLike[str]) -> Iterator[None]:
    """Tell what goes wrong inside as a fault of the file."""
    import pyarrow as pa

    if Path(path).is_dir():
        raise DataError(
            f"{path} must be a file, got a folder.",
            "Open a folder of Parquet files with MultimodalStream.from_parquet.",
        )
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        kind = "CSV" if is_csv(path) else "Parquet"
        known = is_table(path) or not Path(path).suffix
        remedy = "again" if known else f"as {', '.join((PARQUET, *CSV))}"
        remedy += ", in UTF-8 with commas between columns" if kind == "CSV" else ""
        raise DataError(
            f"{path} must be a readable {kind} file, got {_one_line(error)}. Write it "
            f"{remedy}."
        ) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _plain_array(values: AnyArray) -> "pa.Array":
    import pyarrow as pa

    if values.ndim == 2:
        flat = pa.array(values.ravel())
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype.kind in "UO":
        return pa.array(values.astype(object), pa.string())
    return pa.array(values, mask=missing_labels(values))


def _column_array(column: Column) -> "pa.Array":
    """Return one entry per sample, null where the modality is missing."""
    import pyarrow as pa

    if column.is_text:
        rows = pa.array(column.values, pa.string())
        where = np.where(column.present, column.offsets[:-1], 0)
        return rows.take(pa.array(where, mask=~column.present))
    channels = column.values.shape[1]
    if column.ragged:
        flat = pa.array(column.values.ravel())
        return _list_array(column, pa.FixedSizeListArray.from_arrays(flat, channels))
    full = np.zeros((len(column), channels), dtype=np.float32)
    full[column.present] = column.values
    return pa.FixedSizeListArray.from_arrays(
        pa.array(full.ravel()), channels, mask=pa.array(~column.present)
    )


def _list_array(column: Column, rows: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    offsets = pa.array(column.offsets.astype(np.int32))
    return pa.ListArray.from_arrays(offsets, rows, mask=pa.array(~column.present))


def read_document(table: "pa.Table") -> dict[str, Any] | None:
    """Return what ``build_table`` stored beside the columns; None for other tables.

    Raises:
        DataError: when it is damaged.
    """
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        document = json.loads(text)
        names = {k: tuple(map(str, v)) for k, v in document["names"].items()}
        return {
            "schema": Schema.from_json(json.dumps(document["schema"])),
            "schema_given": bool(document["schema_given"]),
            "names": names,
            "modalities": [str(name) for name in document["modalities"]],
            "plain": [str(name) for name in document["plain"]],
        }
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise DataError(
            f"metadata 'mmgraph' must hold a schema, got {_one_line(error)}.",
            "Name the columns in modalities= to read them without it.",
        ) from None
