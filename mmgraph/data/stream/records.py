"""Source of records: dicts from a Python iterable, one per sample.

Shapes: n samples of a piece.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from mmgraph.data.categorical import read_channels
from mmgraph.data.cells import read_cells
from mmgraph.data.column import Column, IntArray
from mmgraph.data.io.arrays import build_column, to_float32
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.parquet import Fields, error_prefix
from mmgraph.data.stream.source import Piece, RowRange
from mmgraph.data.targets import (
    METADATA_NAMES,
    DefaultColumn,
    default_roles,
    warn_default_roles,
)
from mmgraph.errors import DataError
from mmgraph.schema import Schema, Tokens

LABEL_SEARCH = 4096  # first samples that decide whether records have labels
Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class RecordSource:
    """Iterable of dicts as a source of one part.

    Attributes:
        fields: Keys of the modalities and of the metadata. A key that a record lacks
            is a missing value.
        records: Iterable that can be iterated repeatedly, or a function that returns a
            new iterable.
        schema: Schema that determines which lists are sequences, or None.
    """

    fields: Fields
    records: Records | Callable[[], Records]
    schema: Schema | None = None

    @property
    def sizes(self) -> tuple[None]:
        """None: the number of samples is unknown."""
        return (None,)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.fields.modalities or ())

    def name_of(self, part: int) -> str:
        """Return the name of the part for error messages."""
        return "samples"

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a row range.

        Args:
            span: Row range of the part.
            size: Largest number of samples of a piece.

        Raises:
            DataError: If a record is not a dict, or its values cannot be read; the
                message names the samples of the piece.
        """
        records = islice(self._restart(), span.start, None, span.step)
        row = span.start
        while piece := list(islice(records, size)):
            keys = row + span.step * np.arange(len(piece))
            row += span.step * len(piece)
            with error_prefix(f"samples {keys[0]} to {keys[-1]}"):
                yield self._parse(piece, keys)

    def _restart(self) -> Iterable[Any]:
        return self.records() if callable(self.records) else self.records

    @cached_property
    def _has_labels(self) -> bool:
        """True if one of the first samples has the key of the labels."""
        first = islice(self._restart(), LABEL_SEARCH)
        return any(isinstance(r, Mapping) and self.fields.y in r for r in first)

    def _parse(self, records: list[Any], keys: IntArray) -> Piece:
        known = self._known_keys(records)
        fields = self.fields
        self._warn_roles(known)
        modalities = fields.modalities or {}

        def values_of(key: str | None) -> list[Any] | None:
            return [r.get(key) for r in records] if key in known else None

        ids = values_of(fields.ids)
        tokens = (
            {m.name: m.tokens for m in self.schema.modalities} if self.schema else {}
        )
        columns = {}
        for name, source in modalities.items():
            first = source if isinstance(source, str) else source[0]
            columns[name] = self._column(
                name, source, records, values_of(f"{first}.time"), tokens.get(name)
            )
        data = MultimodalData.from_columns(
            columns,
            y=values_of(fields.y),
            ids=keys if ids is None else ids,
            groups=values_of(fields.groups),
            split_name=values_of(METADATA_NAMES["split_name"]),
            schema=self.schema,
        )
        return Piece(data, keys)

    def _warn_roles(self, known: set[Any]) -> None:
        """Warn once about keys that divide the samples because of their names alone.

        Labels, ids and times are left out: ``y``, ``id`` and ``ecg.time`` are the
        documented form of records, and no split depends on them.
        """
        roles = default_roles({"groups": self.fields.groups}, known)
        fresh = {key: role for key, role in roles.items() if key not in self._warned}
        self._warned.update(fresh)
        warn_default_roles(fresh)

    @cached_property
    def _warned(self) -> set[str]:
        """Keys that were reported."""
        return set()

    def _column(
        self,
        name: str,
        source: str | Sequence[str],
        records: list[Mapping[str, Any]],
        times: list[Any] | None,
        tokens: Tokens | None,
    ) -> Column:
        """Return a modality of one key, or of several keys with single values."""
        if isinstance(source, str):
            cells = [record.get(source) for record in records]
            return build_column(name, cells, times=times, tokens=tokens)

        def read(key: str) -> Any:  # noqa: ANN401
            cells = [record.get(key) for record in records]
            declared = key in self.fields.strings or key not in source
            return _read_values(name, key, cells, as_categories=declared)

        known = {key for record in records for key in record}
        names, rows, categories = read_channels(name, source, known, read)
        column = build_column(name, rows, times=times, tokens=tokens)
        return replace(column, names=names, categories=categories)

    def _known_keys(self, records: list[Any]) -> set[Any]:
        """Return all keys of the records after checking the keys of the metadata.

        Raises:
            DataError: If a record is not a dict, a key that the user named does not
                occur, or labels begin after the first samples.
        """
        for record in records:
            if not isinstance(record, Mapping):
                raise DataError(
                    f"every sample must be a dict, got {type(record).__name__}. Yield "
                    "{'labs': [...], 'y': 1}."
                )
        known = {key for record in records for key in record}
        fields = self.fields
        if fields.y is not None and fields.y not in known and self._has_labels:
            known.add(fields.y)
        is_default = isinstance(fields.y, DefaultColumn)
        if is_default and fields.y in known and not self._has_labels:
            raise DataError(
                f"samples must have the key {fields.y!r} among the first "
                f"{LABEL_SEARCH} if any has it, got it later. Yield None where a label "
                "is missing."
            )
        for key in (fields.y, fields.ids, fields.groups):
            if not isinstance(key, DefaultColumn | None) and key not in known:
                raise DataError(
                    f"samples must have the key {key!r}, got "
                    f"{', '.join(sorted(map(str, known)))}. Check the name."
                )
        return known


def _read_values(name: str, key: str, cells: list[Any], *, as_categories: bool) -> Any:  # noqa: ANN401
    """Return the values of a key as numbers ``[n]``, or as an Arrow array of strings.

    Raises:
        DataError: If the values are neither numbers nor strings, or both.
    """
    import pyarrow as pa

    values = np.fromiter(cells, dtype=object, count=len(cells))
    is_string = np.array([isinstance(cell, str) for cell in cells], dtype=bool)
    others = to_float32(name, values[~is_string])
    if not is_string.any() or not np.isnan(others).all():
        return to_float32(name, values).astype(np.float64)
    texts = [cell if isinstance(cell, str) else None for cell in cells]
    strings = pa.array(texts, pa.large_string())
    return read_cells(name, key, strings, as_categories=as_categories)


def check_repeatable(records: object) -> None:
    """Check that records can be iterated repeatedly: every epoch starts a new pass.

    Raises:
        DataError: If it is an iterator, or not iterable.
    """
    once = isinstance(records, Iterator)
    if once or not (callable(records) or isinstance(records, Iterable)):
        raise DataError(
            "samples must be an iterable that can be read again, or a function that "
            f"returns one, got {type(records).__name__}. Pass the function that makes "
            "the generator, without calling it."
        )
