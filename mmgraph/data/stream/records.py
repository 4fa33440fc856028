"""Streams of records: dicts that a Python iterable yields, one per sample.

Shapes: n samples of a piece.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from mmgraph.data.column import AnyArray, IntArray
from mmgraph.data.io.arrays import to_float32
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.parquet import Fields, naming
from mmgraph.data.stream.source import Piece, RowRange
from mmgraph.data.targets import METADATA_NAMES, DefaultColumn
from mmgraph.errors import DataError
from mmgraph.schema import Schema

LOOKED_AT = 4096  # samples that are searched for labels where some have none
Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class RecordSource:
    """An iterable of dicts as a source of one part.

    Attributes:
        fields: which keys are what; a key that a record lacks is missing there.
        records: what can be iterated again and again, or a function that starts anew.
        schema: says which lists are sequences, where one was given.
    """

    fields: Fields
    records: Records | Callable[[], Records]
    schema: Schema | None = None

    @property
    def sizes(self) -> tuple[None]:
        """Unknown."""
        return (None,)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.fields.modalities or ())

    def name_of(self, part: int) -> str:
        """Return what there is one of."""
        return "samples"

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a span; a fault names the samples of the piece.

        Raises:
            DataError: when a record is no dict, or its values cannot be read.
        """
        records = islice(self._again(), span.start, None, span.step)
        row = span.start
        while found := list(islice(records, size)):
            keys = row + span.step * np.arange(len(found))
            row += span.step * len(found)
            with naming(f"samples {keys[0]} to {keys[-1]}"):
                yield self._parse(found, keys)

    def _again(self) -> Iterable[Any]:
        return self.records() if callable(self.records) else self.records

    @cached_property
    def _has_labels(self) -> bool:
        """Whether one of the first samples has the key of labels."""
        first = islice(self._again(), LOOKED_AT)
        return any(isinstance(r, Mapping) and self.fields.y in r for r in first)

    def _parse(self, records: list[Any], keys: IntArray) -> Piece:
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
        if (
            isinstance(fields.y, DefaultColumn)
            and fields.y in known
            and not self._has_labels
        ):
            raise DataError(
                f"samples must have the key {fields.y!r} among the first {LOOKED_AT} "
                "where some have it, got it later. Yield None where a label is unknown."
            )
        for key in (fields.y, fields.ids, fields.groups):
            if not isinstance(key, DefaultColumn | None) and key not in known:
                raise DataError(
                    f"samples must have the key {key!r}, got "
                    f"{', '.join(sorted(map(str, known)))}. Check the name."
                )
        modalities = fields.modalities or {}

        def plain(name: str | None) -> list[Any] | None:
            return [r.get(name) for r in records] if name in known else None

        sources = {
            m: (s if isinstance(s, str) else s[0]) for m, s in modalities.items()
        }
        times = {m: plain(f"{s}.time") for m, s in sources.items()}
        ids = plain(fields.ids)
        data = MultimodalData.from_arrays(
            {name: _content(records, name, s) for name, s in modalities.items()},
            y=plain(fields.y),
            ids=keys if ids is None else ids,
            groups=plain(fields.groups),
            split_name=plain(METADATA_NAMES["split_name"]),
            times={name: column for name, column in times.items() if column},
            schema=self.schema,
        )
        return Piece(data, keys)


def _content(
    records: list[Mapping[str, Any]], name: str, source: str | Sequence[str]
) -> list[Any] | AnyArray:
    """Return one entry per sample, or ``[n, C]`` where a modality has several keys.

    Raises:
        DataError: when one of several keys holds no number.
    """
    if isinstance(source, str):
        return [record.get(source) for record in records]
    cells = [record.get(key) for record in records for key in source]
    numbers = np.fromiter(cells, dtype=object, count=len(cells))
    return to_float32(name, numbers).reshape(len(records), len(source))


def check_again(records: object) -> None:
    """Refuse what can be iterated only once: every pass over the data starts anew.

    Raises:
        DataError: when it is an iterator, or no iterable at all.
    """
    once = isinstance(records, Iterator)
    if once or not (callable(records) or isinstance(records, Iterable)):
        raise DataError(
            "samples must be an iterable that can be read again, or a function that "
            f"returns one, got {type(records).__name__}. Pass the function that makes "
            "the generator, without calling it."
        )
