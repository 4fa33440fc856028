"""One schema for all pieces of a stream, found out at its beginning.

Shapes: n samples, L rows, C channels.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmgraph.data.column import Column, concat_columns, empty_column
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.schema_inference import fit_columns, infer_schema
from mmgraph.data.stream.source import Piece, RowRange, Source
from mmgraph.errors import DataError
from mmgraph.schema import Schema

PEEKED = 64  # samples that are looked at first
MAX_PEEKED = 4096
OBJECT_BYTES = 64  # of a Python string beside its characters


@dataclass(frozen=True)
class StreamInfo:
    """What the first samples of a source are like.

    Attributes:
        schema: the schema that was given, or a star of the modalities.
        row_bytes: memory that a sample takes, on average.
    """

    schema: Schema
    row_bytes: int


def infer_stream_info(source: Source, schema: Schema | None) -> StreamInfo:
    """Read from the beginning until a sample of every modality was seen.

    Parts are looked at in turn, so that a part without a modality does not hide it.

    Raises:
        DataError: when there are no samples, or the first ones do not fit each other.
    """
    columns: dict[str, list[Column]] = {name: [] for name in source.modalities}
    known = schema or source.schema
    total, count = 0, 0
    for size in (PEEKED, MAX_PEEKED):
        for part, length in enumerate(source.sizes):
            for piece in source.read(RowRange(part, 0, length), size):
                if not columns:
                    columns = {name: [] for name in piece.data.columns}
                total += memory_of(piece.data)
                count += len(piece.data)
                for name, seen in columns.items():
                    column = piece.data.columns.get(name)
                    if column is not None and len(column.values):
                        some = column.take(np.flatnonzero(column.present)[:64])
                        seen.append(_fit(name, some, known))
                if size == PEEKED or all(columns.values()):
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
    found = known or infer_schema(joined)
    fit_columns(joined, found)
    return StreamInfo(found, max(1, -(-total // count)))


def _fit(name: str, column: Column, schema: Schema | None) -> Column:
    """Bring a column into the form that a schema says, where there is one."""
    return column if schema is None else fit_columns({name: column}, schema)[name]


def memory_of(data: MultimodalData) -> int:
    """Return the bytes that data takes, about."""
    total = 0
    for column in data.columns.values():
        total += column.offsets.nbytes + column.values.nbytes
        total += 0 if column.time is None else column.time.nbytes
        if column.is_text:
            total += sum(map(len, column.values)) + OBJECT_BYTES * len(column.values)
    plain = (data.ids, data.y, data.groups, data.split_name)
    return total + sum(values.nbytes for values in plain if values is not None)


def fit_piece(piece: Piece, schema: Schema, modalities: tuple[str, ...]) -> Piece:
    """Bring the columns of a piece into the form that all pieces have.

    Raises:
        DataError: when a modality has another width or type than in the beginning.
    """
    empty = empty_column(len(piece.data))
    names = modalities or tuple(piece.data.columns)
    columns = {name: piece.data.columns.get(name, empty) for name in names}
    columns = fit_columns(columns, schema)
    data = replace(piece.data, columns=columns, given_schema=schema)
    return Piece(data, piece.keys)
