"""Arrow tables, Parquet files and CSV files with one row per sample.

A modality is a column, null where it is missing: ``FixedSizeList<float>`` for single
rows, ``List<FixedSizeList<float>>`` for sequences, ``string`` for text. The times of
modality ``name`` are the column ``name.time``. Shapes: N samples, C channels, L rows.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph import limits
from mmgraph.data.column import AnyArray, Categories, Column
from mmgraph.data.io.csv_table import csv_names, read_csv
from mmgraph.data.targets import METADATA_NAMES, known_labels, missing_labels
from mmgraph.errors import Argument, DataError, MMGraphError
from mmgraph.files import check_regular, parse_document, replacing
from mmgraph.schema import Custom, Schema
from mmgraph.typing import PathLike

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"mmgraph"
HASH_KEY = b"mmgraph.sha256"  # of the document, as page checksums do not cover it
BATCH = 1 << 16  # rows that are read at once
PAGE_BYTES = 1 << 16  # readers keep one page and one dictionary per column in memory
PARQUET = ".parquet"
CSV = (".csv", ".csv.gz")


def build_table(
    columns: Mapping[str, Column],
    metadata: Mapping[str, AnyArray | None],
    schema: Schema,
    *,
    schema_given: bool,
) -> "pa.Table":
    """Return an Arrow table whose header holds the schema.

    Args:
        columns: Columns by modality.
        metadata: Ids, labels, groups and split names.
        schema: Schema of the data. Functions of ``Custom`` topologies cannot be
            stored: such a schema is stored as the star of its modalities.
        schema_given: False if the schema was inferred; a reader infers it again.

    Raises:
        DataError: If a modality has the name of a metadata column.
    """
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    for field, values in metadata.items():
        if values is not None:
            arrays[METADATA_NAMES[field]] = _metadata_array(values)
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
        "categories": {n: c.categories for n, c in columns.items() if c.categories},
        "modalities": list(columns),
        "plain": [field for field, values in metadata.items() if values is not None],
    }
    text = json.dumps(document, sort_keys=True).encode()
    header = {METADATA_KEY: text, HASH_KEY: hashlib.sha256(text).hexdigest().encode()}
    return pa.table(arrays).replace_schema_metadata(header)


def write_table(table: "pa.Table", path: PathLike) -> None:
    """Write a table as Parquet with a checksum on every page.

    Args:
        table: Arrow table.
        path: File to write; replaced if it exists.

    Raises:
        DataError: If the file cannot be written.
    """
    import pyarrow.parquet as pq

    try:
        with replacing(Path(path)) as part:
            pq.write_table(
                table,
                part,
                compression="zstd",
                write_page_checksum=True,
                data_page_size=PAGE_BYTES,
                dictionary_pagesize_limit=PAGE_BYTES,
            )
    except OSError as error:
        raise DataError(
            f"{path} must be a writable file, got {one_line(error)}. Check the folder."
        ) from None


def read_table(path: PathLike) -> "pa.Table":
    """Read a CSV file, or a Parquet file with checks of checksums and structure.

    Args:
        path: File; its suffix selects the format.

    Raises:
        DataError: If the file does not exist, is damaged or of another format.
    """
    _check_exists(path)
    check_regular(Path(path), DataError)
    with _file_errors(path):
        if is_csv(path):
            return read_csv(path)
        return _read_parquet(path)


def _check_exists(path: PathLike) -> None:
    """Check that a file or folder exists.

    Raises:
        DataError: If it does not.
    """
    try:
        exists = Path(path).exists()
    except (OSError, ValueError):  # reading it raises an exception of its kind
        return
    if not exists:
        raise DataError(f"{path} must exist, got no such file. Check the path.")


def _read_parquet(path: PathLike) -> "pa.Table":
    """Read a Parquet file batch by batch, within the limits on its size.

    Strings are read as codes at first: a short file can repeat a long string. The sizes
    in the footer are not used. They can be wrong, and pyarrow ends the process where
    the description of a column is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds, schema = file.schema, file.schema_arrow
        columns = [kinds.column(i) for i in range(len(kinds))]
    strings = [c.path for c in columns if c.physical_type == "BYTE_ARRAY"]
    packed, size, batches = os.path.getsize(path), 0, []
    with pq.ParquetFile(
        path, page_checksum_verification=True, read_dictionary=strings
    ) as file:
        for batch in file.iter_batches(BATCH, use_threads=False):
            batch.validate(full=True)
            size += batch.nbytes
            for column, kind in zip(batch.columns, schema.types, strict=True):
                size += 0 if column.type == kind else _string_bytes(column)
            limits.check_expansion(size, packed, "table_expansion", DataError)
            batches.append(batch)
        check_rows(sum(map(len, batches)), file.metadata.num_rows)
    table = pa.Table.from_batches(batches) if batches else schema.empty_table()
    return table.cast(schema.with_metadata(table.schema.metadata))


def check_rows(num_rows: int, expected: int) -> None:
    """Check that no row was skipped: pyarrow ignores pages of unknown kinds.

    Raises:
        OSError: If another number of rows was read than the footer contains.
    """
    if num_rows != expected:
        raise OSError(f"{num_rows} rows in place of {expected}")


def _string_bytes(array: "pa.Array") -> int:
    """Return the bytes of the strings that an array holds as codes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return pc.sum(pc.take(lengths, array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(_string_bytes, array.flatten()))
    return _string_bytes(array.flatten()) if pa.types.is_nested(array.type) else 0


def column_names(path: PathLike) -> list[str]:
    """Return the column names of a file, from its footer or its first lines.

    Args:
        path: Parquet or CSV file.

    Raises:
        DataError: If the file does not exist, is damaged or of another format.
    """
    import pyarrow.parquet as pq

    check_regular(Path(path), DataError)
    with _file_errors(path):
        if is_csv(path):
            return csv_names(path)
        return list(pq.read_schema(path).names)


def is_csv(path: PathLike) -> bool:
    """Return True if the name of a file has a suffix of CSV."""
    return str(path).lower().endswith(CSV)


def is_table(path: PathLike) -> bool:
    """Return True if the name of a file has a suffix of Parquet or CSV."""
    return str(path).lower().endswith((PARQUET, *CSV))


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder and its subfolders, sorted by path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == PARQUET and path.is_file()
    )


def csv_remedy(folder: Path) -> str:
    """Return the remedy for a folder of CSV files; empty if it has none."""
    if not any(is_csv(path) for path in folder.rglob("*")):
        return ""
    return (
        "A CSV file is read alone: concatenate files of the same columns, or join "
        "files of different columns by their ids, into one CSV or Parquet file."
    )


@contextmanager
def _file_errors(path: PathLike) -> Iterator[None]:
    """Convert the exceptions of a reader to a DataError that names the file."""
    import pyarrow as pa

    if Path(path).is_dir():
        raise DataError(
            f"{path} must be a file, got a folder.",
            csv_remedy(Path(path))
            or "Open a folder of Parquet files with MultimodalStream.from_parquet.",
        )
    try:
        yield
    except MMGraphError as error:
        raise DataError.inside(path, error) from None
    except (
        pa.ArrowException,
        LookupError,
        MemoryError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        kind = "CSV" if is_csv(path) else "Parquet"
        known = is_table(path) or not Path(path).suffix
        remedy = "again" if known else f"as {', '.join((PARQUET, *CSV))}"
        if kind == "CSV":
            remedy += ", in UTF-8 (in Excel: 'CSV UTF-8') with one separator"
        raise DataError(
            f"{path} must be a readable {kind} file, got {one_line(error)}. Write it "
            f"{remedy}."
        ) from None


def one_line(error: BaseException) -> str:
    """Return the message of an exception of another library as one short line."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _metadata_array(values: AnyArray) -> "pa.Array":
    import pyarrow as pa

    if values.ndim == 2:
        flat = pa.array(values.ravel())
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype == object and known_labels(values).dtype.kind != "U":
        return pa.array(values.tolist())
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
    """Return the header that :func:`build_table` stored; None for other tables.

    Raises:
        DataError: If the header is damaged.
    """
    metadata = table.schema.metadata or {}
    text, digest = metadata.get(METADATA_KEY), metadata.get(HASH_KEY)
    if text is None:
        return None
    try:
        if digest is not None and hashlib.sha256(text).hexdigest() != digest.decode():
            raise ValueError("a document with another SHA-256: it was damaged")
        document = parse_document(text, "the document", DataError)
        names = {k: tuple(map(str, v)) for k, v in document["names"].items()}
        return {
            "schema": Schema.from_json(json.dumps(document["schema"])),
            "schema_given": bool(document["schema_given"]),
            "names": names,
            "categories": {
                name: _read_categories(each)
                for name, each in document.get("categories", {}).items()
            },
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
            f"metadata 'mmgraph' must hold a schema, got {one_line(error)}.",
            (
                "Pass ",
                Argument("modalities", {"labs": ["wbc", "crp"]}),
                " to read the columns without it.",
            ),
        ) from None


def _read_categories(channels: list[Any]) -> tuple[Categories | None, ...]:
    """Return the categories of the channels of a modality.

    Raises:
        TypeError: If they are not lists of different strings.
    """
    for each in channels:
        if each is not None and len(set(map(str, each))) < len(list(each)):
            raise TypeError("repeated categories")
    return tuple(None if each is None else tuple(map(str, each)) for each in channels)
