"""Inference of the schema of a stream from its first samples.

Shapes: n samples, L rows, C channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mmgraph.data.column import Column, empty_column
from mmgraph.data.concat import align_with, concat_columns
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.schema_inference import fit_columns, infer_schema
from mmgraph.data.stream.source import Piece, RowRange, Source
from mmgraph.errors import DataError
from mmgraph.schema import Schema

FIRST_SAMPLES = 64  # samples of a part that are read first
MAX_PARTS = 64  # parts of known size whose first samples are read
MAX_FIRST_SAMPLES = 4096  # size of pieces if a modality was not observed there
OBJECT_BYTES = 64  # memory of a Python string without its characters


@dataclass(frozen=True)
class StreamInfo:
    """Schema and sample size of a source, estimated from its first samples.

    Attributes:
        schema: Schema that was passed, or a star of the modalities.
        row_bytes: Average memory of a sample in bytes.
        columns: First samples of each modality. Their channels and categories are those
            of the stream.
    """

    schema: Schema
    row_bytes: int
    columns: Mapping[str, Column]

    @property
    def strings(self) -> frozenset[str]:
        """Names of the categorical channels."""
        return frozenset(
            field
            for column in self.columns.values()
            for field, each in zip(column.names, column.categories, strict=False)
            if each is not None
        )


def infer_stream_info(source: Source, schema: Schema | None) -> StreamInfo:
    """Read the first samples of a source.

    The first samples of several parts are read, as files of one source can differ in
    columns, categories and modalities; then more, until every modality was observed.

    Args:
        source: Source to read.
        schema: Schema that was passed; None infers it.

    Raises:
        DataError: If there are no samples, or they contradict each other or the schema.
    """
    first = _FirstSamples(source, schema or source.schema)
    num_parts, most = len(source.sizes), MAX_PARTS if None not in source.sizes else 1
    spread = np.unique(np.linspace(0, num_parts - 1, min(num_parts, most)).astype(int))
    for part in spread.tolist():
        first.read(part, FIRST_SAMPLES)
    for size in (FIRST_SAMPLES, MAX_FIRST_SAMPLES):
        for part in range(num_parts):
            if not first.is_complete and (size > FIRST_SAMPLES or part not in spread):
                first.read(part, size)
    return first.info()


class _FirstSamples:
    """First samples of a source, from which its schema is inferred.

    Args:
        source: Source to read.
        schema: Schema of the samples; None infers it.
    """

    def __init__(self, source: Source, schema: Schema | None) -> None:
        self.source, self.schema = source, schema
        self.columns: dict[str, list[Column]] = {name: [] for name in source.modalities}
        self.num_bytes, self.num_samples = 0, 0

    @property
    def is_complete(self) -> bool:
        """True if every modality was observed."""
        return bool(self.num_samples) and all(self.columns.values())

    def read(self, part: int, size: int) -> None:
        """Read a part in pieces of some size, until every modality was observed.

        Only the first piece is read if it is of the smallest size.
        """
        span = RowRange(part, 0, self.source.sizes[part])
        for piece in self.source.read(span, size):
            self._add(piece.data)
            if size == FIRST_SAMPLES or self.is_complete:
                break

    def _add(self, data: MultimodalData) -> None:
        if not self.columns:
            self.columns = {name: [] for name in data.columns}
        self.num_bytes += memory_of(data)
        self.num_samples += len(data)
        for name, seen in self.columns.items():
            column = data.columns.get(name)
            if column is None or not len(column.values):
                continue
            # without names, the first part decides, and errors name the others
            if not seen or column.is_text or (column.names and seen[0].names):
                rows = np.flatnonzero(column.present)[:FIRST_SAMPLES]
                seen.append(_fit(name, column.take(rows), self.schema))

    def info(self) -> StreamInfo:
        """Return what was inferred.

        Raises:
            DataError: If there are no samples, or they contradict each other.
        """
        if not self.num_samples:
            raise DataError(
                "a stream must have at least one sample, got none. Add data."
            )
        joined = {
            name: concat_columns(name, seen or [empty_column(0)])
            for name, seen in self.columns.items()
        }
        schema = self.schema or infer_schema(joined)
        fit_columns(joined, schema)
        row_bytes = -(-self.num_bytes // self.num_samples)
        return StreamInfo(schema, max(1, row_bytes), joined)


def _fit(name: str, column: Column, schema: Schema | None) -> Column:
    """Return a column in the form of a schema, if there is one."""
    return column if schema is None else fit_columns({name: column}, schema)[name]


def memory_of(data: MultimodalData) -> int:
    """Return the approximate memory of data in bytes."""
    total = 0
    for column in data.columns.values():
        total += column.offsets.nbytes + column.values.nbytes
        total += 0 if column.time is None else column.time.nbytes
        if column.is_text:
            total += sum(map(len, column.values)) + OBJECT_BYTES * len(column.values)
    metadata = (data.ids, data.y, data.groups, data.split_name)
    return total + sum(values.nbytes for values in metadata if values is not None)


def fit_piece(piece: Piece, info: StreamInfo, modalities: tuple[str, ...]) -> Piece:
    """Return a piece with the columns and the schema of the whole stream.

    Args:
        piece: Piece of the stream.
        info: Schema and channels of the stream.
        modalities: Modalities of the stream; empty for those of the piece.

    Raises:
        DataError: If a modality differs in width or type from the schema.
    """
    empty = empty_column(len(piece.data))
    names = modalities or tuple(piece.data.columns)
    columns = {
        name: align_with(
            name, piece.data.columns.get(name, empty), info.columns.get(name, empty)
        )
        for name in names
    }
    columns = fit_columns(columns, info.schema)
    data = replace(piece.data, columns=columns, given_schema=info.schema)
    return Piece(data, piece.keys)
