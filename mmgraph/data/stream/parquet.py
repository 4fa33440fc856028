"""Streams of Arrow tables: Parquet folders, and data sets of Hugging Face.

Shapes: n samples of a table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.categorical import candidate_columns
from mmgraph.data.column import IntArray
from mmgraph.data.io.arrow import parse_table, read_plain
from mmgraph.data.io.parquet import csv_remedy, is_csv, parquet_files, read_document
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.source import Piece, RowRange
from mmgraph.data.targets import METADATA_NAMES, DefaultColumn, can_be_ids
from mmgraph.data.validation import check_labels_apart, read_sources
from mmgraph.errors import DataError, MMGraphError
from mmgraph.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

READ_BUFFER = 1 << 16  # bytes of a column that are read ahead
PART_KEYS = 1 << 40  # distance of the keys of parts whose sizes are unknown
IDS_AT_ONCE = 1 << 16  # ids that are compared with each other


@dataclass(frozen=True)
class Fields:
    """Which columns of a table are what; see ``MultimodalData.from_parquet``."""

    modalities: Mapping[str, str | Sequence[str]] | None = None
    y: str | None = METADATA_NAMES["y"]
    ids: str | None = METADATA_NAMES["ids"]
    groups: str | None = METADATA_NAMES["groups"]

    def __post_init__(self) -> None:
        check_labels_apart(self.modalities, self.y)

    @property
    def columns(self) -> list[str] | None:
        """The columns to read; None is all."""
        if self.modalities is None:
            return None
        several = [read_sources(name, s) for name, s in self.modalities.items()]
        names = [
            name for f in several for field in f for name in candidate_columns(field)
        ]
        names += [f"{name}.time" for name in names] + ["split"]
        names += [name for name in (self.y, self.ids, self.groups) if name]
        return names

    def parse(self, table: "pa.Table", keys: IntArray, *, numbered: bool) -> Piece:
        """Read the samples of a table; without ids of their own, keys are their ids."""
        parts = parse_table(
            table,
            modalities=self.modalities,
            y=self.y,
            ids=self.ids,
            groups=self.groups,
            piecewise=True,
        )
        if numbered or parts["ids"] is None:
            parts["ids"] = keys
        return Piece(MultimodalData.from_columns(**parts), keys)


@dataclass(frozen=True)
class ParquetSource:
    """Files of one Parquet folder; each row group is a part.

    Attributes:
        fields: which columns are what.
        files: the files, by name.
        groups: file and row group of each part.
        sizes: samples of each part.
        offsets: samples before each part.
        modalities: of all files, in the order of their first mention.
        schema: what the files say that they were given; None where they say nothing.
        numbered: whether every file numbers its own samples from 0.
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
        """Return the path of the file."""
        return str(self.files[self.groups[part][0]])

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a span; a fault names the file.

        Raises:
            DataError: when a file is damaged, or not like the others.
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
                with naming(path):
                    yield self.fields.parse(table, keys, numbered=self.numbered)
            row += len(batch)
            if row >= stop:
                break


class naming:  # noqa: N801  # reads as a verb: with naming(path)
    """Put the name of a shard before what is wrong with it."""

    def __init__(self, name: object) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Name the shard in errors of the library."""
        if isinstance(error, MMGraphError):
            raise DataError.inside(self.name, error) from None


def _read_batches(
    path: Path, group: int, size: int, columns: list[str] | None
) -> Iterator[Any]:
    """Yield record batches of a row group without holding all of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            path,
            page_checksum_verification=True,
            buffer_size=READ_BUFFER,
            pre_buffer=False,  # else all of a row group is read first
        ) as file:
            if columns is not None:
                known = set(file.schema_arrow.names)
                columns = [name for name in columns if name in known]
            for batch in file.iter_batches(
                size, row_groups=[group], columns=columns, use_threads=False
            ):
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, TypeError, LookupError) as error:
        shown = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"{path} must be a readable Parquet file, got {shown}. Write it again."
        ) from None
    finally:
        pa.default_memory_pool().release_unused()


def open_folder(path: str | PathLike[str], fields: Fields) -> ParquetSource:
    """Look at the footers of all Parquet files of a folder, or of one file.

    Raises:
        DataError: when there is no file, or one is not like the others.
    """
    root = Path(path)
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
    given: list[Schema | None] = []
    numbered = len(files) > 1
    for number, file in enumerate(files):
        footer, arrow = _read_footer(file)
        counts = [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]
        groups += [(number, g) for g, count in enumerate(counts) if count]
        sizes += [count for count in counts if count]
        if fields.modalities is None:
            with naming(file):
                document = read_document(arrow.empty_table())
                if document is None:
                    parse_table(
                        arrow.empty_table(),
                        modalities=None,
                        y=None,
                        ids=None,
                        groups=None,
                    )
                    raise AssertionError("a table without modalities is refused")
            modalities |= dict.fromkeys(document["modalities"])
            given.append(document["schema"] if document["schema_given"] else None)
        if sum(counts):
            numbered = numbered and _is_numbered(file, footer, fields.ids)
    offsets = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(int)
    same = len(set(given)) == 1
    return ParquetSource(
        fields,
        files,
        tuple(groups),
        tuple(sizes),
        tuple(offsets.tolist()),
        tuple(modalities),
        given[0] if same else None,
        numbered,
    )


def _read_footer(path: Path) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.metadata, file.schema_arrow
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        shown = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"{path} must be a readable Parquet file, got {shown}. Write it again."
        ) from None


def _usable_ids(files: Sequence[Path], name: DefaultColumn) -> DefaultColumn | None:
    """Return the column of ids that nobody asked for; None where it holds no ids."""
    import pyarrow as pa

    for path in files:
        footer, arrow = _read_footer(path)
        if name not in arrow.names:
            return None
        for group in range(footer.num_row_groups):
            for batch in _read_batches(path, group, IDS_AT_ONCE, [name]):
                ids = read_plain(pa.Table.from_batches([batch]), "ids", name)
                if ids is None or not can_be_ids(ids):
                    return None
    return name


def _is_numbered(path: Path, footer: Any, ids: str | None) -> bool:  # noqa: ANN401
    """Tell whether the ids of a file are 0 to its last sample.

    The statistics of the file answer for a column that nobody asked for; one that was
    asked for is read, and must hold them in order.
    """
    groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
    bounds = [found for group in groups for found in _bounds(group, ids)]
    if not bounds or ids is None:
        return False
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    if low != 0 or high != footer.num_rows - 1:
        return False
    return isinstance(ids, DefaultColumn) or _counts_up(path, len(groups), ids)


def _bounds(group: Any, name: str | None) -> list[tuple[int, int]]:  # noqa: ANN401
    """Return the least and greatest number of a column of a row group, where known."""
    columns = [group.column(c) for c in range(group.num_columns)]
    found = [
        column.statistics
        for column in columns
        if column.path_in_schema == name and column.physical_type == "INT64"
    ]
    return [(s.min, s.max) for s in found if s is not None and s.has_min_max]


def _counts_up(path: Path, num_groups: int, name: str) -> bool:
    """Tell whether a column of a file is 0, 1, 2, ... in order."""
    row = 0
    for group in range(num_groups):
        for batch in _read_batches(path, group, IDS_AT_ONCE, [name]):
            found = batch.column(name).to_numpy(zero_copy_only=False)
            if not np.array_equal(found, np.arange(row, row + len(found))):
                return False
            row += len(found)
    return True


@dataclass(frozen=True)
class TableSource:
    """Tables that something else reads, such as a data set of Hugging Face.

    Attributes:
        fields: which columns are what.
        open_part: yields the tables of a part, of at most so many rows each.
        num_parts: number of parts.
    """

    fields: Fields
    open_part: Callable[[int, int], Iterator["pa.Table"]]
    num_parts: int
    schema: None = field(default=None, init=False)

    @property
    def sizes(self) -> tuple[None, ...]:
        """Unknown for every part."""
        return (None,) * self.num_parts

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.fields.modalities or ())

    def name_of(self, part: int) -> str:
        """Return the number of the part."""
        return f"part {part} of the data set"

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a span; a fault names the part.

        Raises:
            DataError: when a table has other columns than the fields say.
        """
        row = 0
        for table in self.open_part(span.part, size):
            rows = np.arange(row, row + len(table))
            wanted = (rows >= span.start) & ((rows - span.start) % span.step == 0)
            row += len(table)
            if not wanted.any():
                continue
            keys = rows[wanted] + span.part * PART_KEYS
            with naming(self.name_of(span.part)):
                kept = _plain_types(table if wanted.all() else table.filter(wanted))
                yield self.fields.parse(kept, keys, numbered=False)


def _plain_types(table: "pa.Table") -> "pa.Table":
    """Replace extension types, such as arrays of fixed shape, by what they store."""
    import pyarrow as pa

    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if isinstance(column.type, pa.BaseExtensionType):
            chunks = [chunk.storage for chunk in column.chunks]
            plain = pa.chunked_array(chunks, column.type.storage_type)
            table = table.set_column(i, name, plain)
    return table
