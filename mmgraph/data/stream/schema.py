"""Inference of the schema of a stream from its first samples.

Shapes: n samples, L rows, C channels.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmgraph.data.column import Column, empty_column
from mmgraph.data.concat import concat_columns
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.schema_inference import fit_columns, infer_schema
from mmgraph.data.stream.source import Piece, RowRange, Source
from mmgraph.errors import DataError
from mmgraph.schema import Schema

FIRST_SAMPLES = 64  # samples of each part that are read first
MAX_FIRST_SAMPLES = 4096  # size of pieces if a modality was not observed there
OBJECT_BYTES = 64  # memory of a Python string without its characters


@dataclass(frozen=True)
class StreamInfo:
    """Schema and sample size of a source, estimated from its first samples.

    Attributes:
        schema: Schema that was passed, or a star of the modalities.
        row_bytes: Average memory of a sample in bytes.
    """

    schema: Schema
    row_bytes: int


def infer_stream_info(source: Source, schema: Schema | None) -> StreamInfo:
    """Read the beginning of a source until every modality was observed.

    The first samples of each part are read first, so that a part without some modality
    does not require reading the part to its end.

    Args:
        source: Source to read.
        schema: Schema that was passed; None infers it.

    Raises:
        DataError: If there are no samples, or they contradict each other or the schema.
    """
    columns: dict[str, list[Column]] = {name: [] for name in source.modalities}
    known = schema or source.schema
    total, count = 0, 0
    for size in (FIRST_SAMPLES, MAX_FIRST_SAMPLES):
        for part, length in enumerate(source.sizes):
            for piece in source.read(RowRange(part, 0, length), size):
                if not columns:
                    columns = {name: [] for name in piece.data.columns}
                total += memory_of(piece.data)
                count += len(piece.data)
                for name, seen in columns.items():
                    column = piece.data.columns.get(name)
                    if column is not None and len(column.values):
                        some = column.take(
                            np.flatnonzero(column.present)[:FIRST_SAMPLES]
                        )
                        seen.append(_fit(name, some, known))
                if size == FIRST_SAMPLES or all(columns.values()):
                    break
            if count and all(columns.values()):
                break
        if count and all(columns.values()):
            break
    if not count:
        raise DataError("a stream must have at least one sample, got none. Add data.")
    joined = {
        name: concat_columns(name, seen or [empty_column(0)])
        for name, seen in columns.items()
    }
    schema = known or infer_schema(joined)
    fit_columns(joined, schema)
    return StreamInfo(schema, max(1, -(-total // count)))


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


def fit_piece(piece: Piece, schema: Schema, modalities: tuple[str, ...]) -> Piece:
    """Return a piece with the columns and the schema of the whole stream.

    Args:
        piece: Piece of the stream.
        schema: Schema of the stream.
        modalities: Modalities of the stream; empty for those of the piece.

    Raises:
        DataError: If a modality differs in width or type from the schema.
    """
    empty = empty_column(len(piece.data))
    names = modalities or tuple(piece.data.columns)
    columns = {name: piece.data.columns.get(name, empty) for name in names}
    columns = fit_columns(columns, schema)
    data = replace(piece.data, columns=columns, given_schema=schema)
    return Piece(data, piece.keys)
