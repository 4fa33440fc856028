"""Sources of Arrow tables: Parquet folders and Hugging Face datasets.

Shapes: n samples of a table.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.categorical import candidate_columns
from mmgraph.data.column import IntArray
from mmgraph.data.column_names import ColumnNames
from mmgraph.data.concat import list_first
from mmgraph.data.io.arrow import NamedTable, existing_fields, parse_table
from mmgraph.data.io.parquet import (
    check_rows,
    csv_remedy,
    is_csv,
    one_line,
    parquet_files,
    read_document,
)
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.source import Piece, RowRange
from mmgraph.data.targets import (
    METADATA_NAMES,
    DefaultColumn,
    can_be_ids,
    default_roles,
    warn_default_roles,
    warn_unused_ids,
)
from mmgraph.data.validation import check_no_label_leak, read_sources, time_roles
from mmgraph.errors import Argument, DataError, DataWarning, MMGraphError
from mmgraph.files import check_regular
from mmgraph.schema import Schema
from mmgraph.typing import ModalityMapping, PathLike

if TYPE_CHECKING:
    import pyarrow as pa

READ_BUFFER = 1 << 16  # bytes of a column that are read ahead
PART_KEYS = 1 << 40  # offset between the keys of parts of unknown size
ID_BATCH = 1 << 16  # ids that are checked at once


@dataclass(frozen=True)
class Fields:
    """Columns of the modalities and of the metadata in a table.

    Attributes:
        modalities: Columns of each modality; None for tables of mmgraph.
        y: Column of labels, or None.
        ids: Column of ids, or None.
        groups: Column of groups, or None.
        strings: Columns whose strings are categories or text in the whole stream,
            whatever those of a piece look like.
        partial: True if a table may lack columns that others have.

    Raises:
        DataError: If a modality contains the label.
    """

    modalities: ModalityMapping | None = None
    y: str | None = METADATA_NAMES["y"]
    ids: str | None = METADATA_NAMES["ids"]
    groups: str | None = METADATA_NAMES["groups"]
    strings: frozenset[str] = frozenset()
    partial: bool = False

    def __post_init__(self) -> None:
        check_no_label_leak(self.modalities, self.y)

    @property
    def columns(self) -> list[str] | None:
        """Columns that may be read; None for all."""
        if self.modalities is None:
            return None
        names = [
            column
            for name, source in self.modalities.items()
            for field in read_sources(name, source)
            for column in candidate_columns(field)
        ]
        names += [f"{name}.time" for name in names] + ["split"]
        names += [name for name in (self.y, self.ids, self.groups) if name]
        return names

    def parse(self, table: "pa.Table", keys: IntArray, *, numbered: bool) -> Piece:
        """Read the samples of a table.

        Args:
            table: Piece of the data.
            keys: ``[n]`` numbers of the samples in the stream.
            numbered: True if the ids of the table are per-file numbers; they are
                replaced by the keys, as are missing ids.
        """
        parts = parse_table(
            table,
            modalities=self.modalities,
            y=self.y,
            ids=self.ids,
            groups=self.groups,
            strings=self.strings,
            partial=self.partial,
        )
        if numbered or parts["ids"] is None:
            parts["ids"] = keys
        return Piece(MultimodalData.from_columns(**parts), keys)


@dataclass(frozen=True)
class ParquetSource:
    """Files of a Parquet folder as a source; each row group is a part.

    Attributes:
        fields: Columns of the modalities and of the metadata.
        files: Files, sorted by path.
        groups: Number of the file and of the row group of each part.
        sizes: Number of samples of each part.
        offsets: Number of samples before each part.
        modalities: Modalities of all files, in the order of their first occurrence.
        schema: Schema in the headers of all files; None if they have none or differ.
        numbered: True if every file numbers its samples from 0.
    """

    fields: Fields
    files: tuple[Path, ...]
    groups: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    modalities: tuple[str, ...]
    schema: Schema | None
    numbered: bool

    def name_of(self, part: int) -> str:
        """Return the path of the file of a part."""
        return str(self.files[self.groups[part][0]])

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a row range.

        Args:
            span: Row range of a part.
            size: Largest number of samples of a piece.

        Raises:
            DataError: If the file is damaged or differs from the others; the message
                names the file.
        """
        import pyarrow as pa

        file, group = self.groups[span.part]
        path = self.files[file]
        first = self.offsets[span.part]
        row = 0
        stop = self.sizes[span.part] if span.stop is None else span.stop
        batches = _read_batches(path, group, size, self.fields.columns)
        for batch in batches:
            low, high = max(span.start - row, 0), min(stop - row, len(batch))
            if low < high:
                table = pa.Table.from_batches([batch.slice(low, high - low)])
                keys = np.arange(first + row + low, first + row + high)
                with error_prefix(path):
                    yield self.fields.parse(table, keys, numbered=self.numbered)
            row += len(batch)
            if row >= stop:
                break


class error_prefix:  # noqa: N801  # a context manager, used like a function
    """Context manager that adds the name of a file or part to error messages.

    Args:
        name: File or part that is read.
    """

    def __init__(self, name: object) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Enter the context."""

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Raise an error of mmgraph again with the name as its place."""
        if isinstance(error, MMGraphError):
            raise DataError.inside(self.name, error) from None


def _read_batches(
    path: Path, group: int, size: int, columns: list[str] | None
) -> Iterator[Any]:
    """Yield record batches of a row group without loading all of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            path,
            page_checksum_verification=True,
            buffer_size=READ_BUFFER,
            pre_buffer=False,  # otherwise the whole row group is read first
        ) as file:
            if columns is not None:
                known = set(file.schema_arrow.names)
                columns = [name for name in columns if name in known]
            num_rows = 0
            for batch in file.iter_batches(
                size, row_groups=[group], columns=columns, use_threads=False
            ):
                batch.validate(full=True)
                num_rows += len(batch)
                yield batch
            if columns != []:
                check_rows(num_rows, file.metadata.row_group(group).num_rows)
    except (pa.ArrowException, OSError, TypeError, LookupError, MemoryError) as error:
        raise _unreadable(path, error) from None
    finally:
        pa.default_memory_pool().release_unused()


def open_folder(path: PathLike, fields: Fields) -> ParquetSource:
    """Open a Parquet folder, or one file, by reading the footers.

    Args:
        path: Folder, searched recursively, or file.
        fields: Columns of the modalities and of the metadata.

    Raises:
        DataError: If there is no Parquet file, or a file is damaged or has no header.
    """
    root = Path(path)
    check_regular(root, DataError)
    files = tuple(parquet_files(root)) if root.is_dir() else (root,)
    if not files or not root.exists():
        raise DataError(
            f"{root} must be a folder with files that end in .parquet, got none.",
            csv_remedy(root) or "Check the path.",
        )
    if is_csv(root):
        raise DataError(
            f"{root} must be Parquet to be streamed, got CSV.",
            "Read it whole with MultimodalData.from_parquet, or write it as Parquet.",
        )
    if fields.modalities is not None and isinstance(fields.ids, DefaultColumn):
        fields = replace(fields, ids=_usable_ids(files, fields.ids))
    groups: list[tuple[int, int]] = []
    sizes: list[int] = []
    modalities: dict[str, None] = dict.fromkeys(fields.modalities or ())
    schemas: list[Schema | None] = []
    names: dict[Path, ColumnNames] = {}
    numbered = len(files) > 1
    for number, file in enumerate(files):
        footer, arrow = _read_footer(file)
        names[file] = ColumnNames(arrow.names)
        counts = [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]
        groups += [(number, g) for g, count in enumerate(counts) if count]
        sizes += [count for count in counts if count]
        if fields.modalities is None:
            document = _read_header(file, arrow)
            modalities |= dict.fromkeys(document["modalities"])
            schemas.append(document["schema"] if document["schema_given"] else None)
        if sum(counts):
            numbered = numbered and _is_numbered(file, footer, fields.ids)
    if fields.modalities is not None:
        _check_columns(root, fields.modalities, names)
        existing = {name for each in names.values() for name in each}
        columns = {"y": fields.y, "ids": fields.ids, "groups": fields.groups}
        warn_default_roles(
            default_roles(columns, existing) | time_roles(fields.modalities, existing)
        )
        fields = replace(fields, partial=True)
    offsets = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(int)
    return ParquetSource(
        fields,
        files,
        tuple(groups),
        tuple(sizes),
        tuple(offsets.tolist()),
        tuple(modalities),
        schemas[0] if len(set(schemas)) == 1 else None,
        numbered,
    )


def _check_columns(
    root: Path, modalities: ModalityMapping, names: Mapping[Path, ColumnNames]
) -> None:
    """Check that each column of the modalities exists in some file.

    A file without any column of a modality lacks the modality. If it has some of its
    columns, the cells of the others are missing, with a warning.

    Args:
        root: Folder of the files.
        modalities: Columns of each modality.
        names: Names of the columns of each file.

    Raises:
        DataError: If no file has a column.
    """
    for modality, source in modalities.items():
        fields = read_sources(modality, source)
        existing = {
            path: dict.fromkeys(existing_fields(modality, fields, columns))
            for path, columns in names.items()
        }
        for column in fields:
            if not any(column in each for each in existing.values()):
                known = dict.fromkeys(n for each in names.values() for n in each)
                raise DataError(
                    f"column {column!r} must exist in some file, got none in: "
                    f"{', '.join([*known][:20])}.",
                    ("Check the names in ", Argument("modalities"), "."),
                    place=str(root),
                )
            lacking = [
                str(path.relative_to(root) if path != root else path.name)
                for path, each in existing.items()
                if each and column not in each
            ]
            if lacking:
                warnings.warn(
                    f"Modality {modality!r} lacks the column {column!r} in "
                    f"{list_first(lacking)}. Its cells are missing there.",
                    DataWarning,
                    stacklevel=4,
                )


def _read_header(path: Path, arrow: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the header of a file of mmgraph.

    Raises:
        DataError: If the file has none, or it is damaged.
    """
    with error_prefix(path):
        table = arrow.empty_table()
        document = read_document(table)
        if document is None:  # raises the error for tables without modalities
            parse_table(table, modalities=None, y=None, ids=None, groups=None)
    assert document is not None
    return document


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} must be a readable Parquet file, got {one_line(error)}. Write it "
        "again."
    )


def _read_footer(path: Path) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.metadata, file.schema_arrow
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None


def _usable_ids(files: Sequence[Path], name: DefaultColumn) -> DefaultColumn | None:
    """Return the default column of ids; None if its entries are not valid ids."""
    import pyarrow as pa

    for path in files:
        footer, arrow = _read_footer(path)
        if name not in arrow.names:
            return None
        for group in range(footer.num_row_groups):
            for batch in _read_batches(path, group, ID_BATCH, [name]):
                table = NamedTable(pa.Table.from_batches([batch]))
                ids = table.read_metadata("ids", name)
                if ids is None or not can_be_ids(ids):
                    warn_unused_ids(name)
                    return None
    return name


def _is_numbered(path: Path, footer: Any, ids: str | None) -> bool:  # noqa: ANN401
    """Return True if the ids of a file number its samples from 0.

    In a column that the user named they must be in order. Statistics in the footer are
    not used: pyarrow ends the process where they are damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if ids is None:
        return False
    row, low, high = 0, 0, -1
    for group in range(footer.num_row_groups):
        for batch in _read_batches(path, group, ID_BATCH, [ids]):
            if ids not in batch.schema.names or not pa.types.is_int64(
                batch.column(ids).type
            ):
                return False
            bounds = pc.min_max(batch.column(ids))
            if bounds["min"].as_py() is None:
                continue
            low = min(low, bounds["min"].as_py())
            high = max(high, bounds["max"].as_py())
            in_order = batch.column(ids).equals(
                pa.array(np.arange(row, row + len(batch)))
            )
            if not in_order and not isinstance(ids, DefaultColumn):
                return False
            row += len(batch)
    return low == 0 and high == footer.num_rows - 1 >= 0


@dataclass(frozen=True)
class TableSource:
    """Arrow tables from a function, such as those of a Hugging Face dataset.

    Attributes:
        fields: Columns of the modalities and of the metadata.
        open_part: Function of the part and a number of rows that yields the tables of
            the part, of at most that many rows each.
        num_parts: Number of parts.
    """

    fields: Fields
    open_part: Callable[[int, int], Iterator["pa.Table"]]
    num_parts: int
    schema: None = field(default=None, init=False)

    @property
    def sizes(self) -> tuple[None, ...]:
        """None for every part: sizes are unknown."""
        return (None,) * self.num_parts

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.fields.modalities or ())

    def name_of(self, part: int) -> str:
        """Return the name of a part for error messages."""
        return f"part {part} of the data set"

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a row range.

        Args:
            span: Row range of a part.
            size: Largest number of samples of a piece.

        Raises:
            DataError: If a table lacks a column; the message names the part.
        """
        row = 0
        for table in self.open_part(span.part, size):
            rows = np.arange(row, row + len(table))
            selected = (rows >= span.start) & ((rows - span.start) % span.step == 0)
            row += len(table)
            if not selected.any():
                continue
            keys = rows[selected] + span.part * PART_KEYS
            with error_prefix(self.name_of(span.part)):
                kept = table if selected.all() else table.filter(selected)
                yield self.fields.parse(_storage_types(kept), keys, numbered=False)


def _storage_types(table: "pa.Table") -> "pa.Table":
    """Replace extension types, such as fixed-shape tensors, by their storage types."""
    import pyarrow as pa

    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if isinstance(column.type, pa.BaseExtensionType):
            chunks = [chunk.storage for chunk in column.chunks]
            storage = pa.chunked_array(chunks, column.type.storage_type)
            table = table.set_column(i, name, storage)
    return table
