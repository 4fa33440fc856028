"""Samples that do not fit into memory, read piece by piece.

Shapes: n samples of a chunk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray, IntArray
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.parquet import Fields, TableSource, naming, open_folder
from mmgraph.data.stream.records import Records, RecordSource, check_again
from mmgraph.data.stream.schema import StreamInfo, fit_piece, infer_stream_info
from mmgraph.data.stream.shuffle import join, read_windows
from mmgraph.data.stream.source import (
    Piece,
    RowRange,
    Source,
    count_samples,
    shard_ranges,
    spans_of,
)
from mmgraph.data.targets import METADATA_NAMES, concat_metadata
from mmgraph.errors import DataError
from mmgraph.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Callable

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from mmgraph.data.stream.shuffle import take

MEMORY = 1 << 30
WINDOW_SHARE = 16  # a shuffled window is this part of the memory: it is copied twice
MAX_PIECE = 512


@dataclass(frozen=True, eq=False)
class MultimodalStream:
    """Samples that are read piece by piece, whatever their number.

    Build it with ``from_parquet``, ``from_huggingface`` or ``from_iterable``.
    Estimators fit on it and predict from it like from ``MultimodalData``, within the
    memory that it may use.

    Attributes:
        source: what is read.
        given_schema: the schema that was given; None infers it from the beginning.
        memory: bytes that reading and fitting may take, beyond the model.
        rank: number of this reader among ``world_size`` readers.
        world_size: readers that share the samples, each sample going to one of them.

    Example:
        >>> records = [{"labs": [1.0, 2.0], "y": 0}, {"labs": None, "y": 1}]
        >>> names = {"labs": "labs"}
        >>> stream = MultimodalStream.from_iterable(records, modalities=names)
        >>> [chunk.present[:, 0].tolist() for chunk in stream.chunks(1)]
        [[True], [False]]
    """

    source: Source
    given_schema: Schema | None = None
    memory: int = MEMORY
    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_parquet(
        cls,
        path: str | PathLike[str],
        *,
        modalities: Mapping[str, str | Sequence[str]] | None = None,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Read all files of a folder that end in ``.parquet``, in the order of names.

        Shards that ``MultimodalData.to_parquet`` wrote need no more than the path.
        Where every shard numbers its samples from 0, they are numbered anew.

        Args:
            path: of the folder, or of one file.
            modalities: for files that ``to_parquet`` did not write: see
                ``MultimodalData.from_parquet``. Lists of numbers that have one length
                in the beginning are vectors, unless a schema says ``ragged``.
            y: column of labels; None reads none.
            ids: column of ids; default: "id" where it is there, else samples are
                numbered; with ``modalities`` also where "id" is not in all files, or
                has repeats, nulls or other things than numbers and strings.
            groups: column of groups; default: "group" where it is there.
            schema: what the columns must fit; default: a star of them.
            memory: bytes that reading and fitting may take, beyond the model.

        Raises:
            DataError: naming the file that is damaged or not like the others.
        """
        source = open_folder(path, Fields(modalities, y, ids, groups))
        return cls(source, schema, memory)

    @classmethod
    def from_huggingface(
        cls,
        dataset: Any,  # noqa: ANN401
        *,
        modalities: Mapping[str, str | Sequence[str]],
        y: str | None = None,
        ids: str | None = None,
        groups: str | None = None,
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Read a data set of Hugging Face, streamed or not.

        Args:
            dataset: a ``Dataset`` or ``IterableDataset`` (``streaming=True``) of the
                library ``datasets``; its shards are read in another order each epoch.
            modalities: modality to its features, as in ``from_parquet``.
            y: feature of labels; None reads none.
            ids: feature of ids; None numbers the samples.
            groups: feature of groups, or None.
            schema: what the features must fit; default: a star of them.
            memory: bytes that reading and fitting may take, beyond the model.

        Raises:
            DataError: when it is no such data set.
        """
        if hasattr(dataset, "to_iterable_dataset"):
            dataset = dataset.to_iterable_dataset()
        if not hasattr(dataset, "with_format") or not hasattr(dataset, "num_shards"):
            raise DataError(
                "dataset must be a Dataset or IterableDataset of Hugging Face, got "
                f"{type(dataset).__name__}. Choose a split, such as dataset['train'], "
                "or use from_iterable."
            )
        fields = Fields(modalities, y, ids, groups)
        if dataset.features is None:  # tables would take their types from single rows
            return cls(RecordSource(fields, dataset, schema), schema, memory)
        tables = dataset.with_format("arrow")
        num_parts = int(dataset.num_shards)

        def open_part(part: int, size: int) -> Iterator[Any]:
            shard = tables if num_parts == 1 else tables.shard(num_parts, part)
            yield from shard.iter(batch_size=size)

        return cls(TableSource(fields, open_part, num_parts), schema, memory)

    @classmethod
    def from_iterable(
        cls,
        samples: "Records | Callable[[], Records]",
        *,
        modalities: Mapping[str, str | Sequence[str]],
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Read dicts that a Python iterable yields, one per sample.

        Args:
            samples: what can be iterated again and again, always in one order, or a
                function that starts anew.
            modalities: modality to its key, or to several keys of numbers. Values are
                what ``MultimodalData.from_arrays`` takes as one entry of a list;
                times of "ecg" are read from "ecg.time".
            y: key of labels; default: "y" where it is there; None reads none.
            ids: key of ids; default: "id" where it is there, else samples are numbered.
            groups: key of groups; default: "group" where it is there.
            schema: what the values must fit; default: a star of them.
            memory: bytes that reading and fitting may take, beyond the model.

        Raises:
            DataError: when the samples can be iterated only once.
        """
        check_again(samples)
        fields = Fields(modalities, y, ids, groups)
        return cls(RecordSource(fields, samples, schema), schema, memory)

    def __repr__(self) -> str:
        num = self.num_samples
        return "\n".join(
            [f"MultimodalStream: {'unknown number of' if num is None else num} samples"]
            + [
                f"  {m.name}: {m.kind}, {m.tokens}"
                + ("" if m.channels is None else f", {m.channels} channels")
                for m in self.schema.modalities
            ]
        )

    @cached_property
    def _beginning(self) -> StreamInfo:
        return infer_stream_info(self.source, self.given_schema)

    @property
    def schema(self) -> Schema:
        """The schema that was given, or a star of what the beginning holds."""
        return self._beginning.schema

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return self.source.modalities or self.schema.modality_names

    @property
    def row_bytes(self) -> int:
        """Bytes that a sample takes in memory, on average."""
        return self._beginning.row_bytes

    @property
    def num_samples(self) -> int | None:
        """Samples of this reader in an unshuffled epoch; None where it is unknown."""
        return count_samples(self.spans(np.arange(self.num_parts)))

    @property
    def num_parts(self) -> int:
        """Parts that can be read apart: row groups, or shards of Hugging Face."""
        return len(self.source.sizes)

    def shard(self, rank: int, world_size: int) -> "MultimodalStream":
        """Return the part of the samples that one of several readers reads.

        Every epoch deals whole row groups (or shards of Hugging Face) out to the
        readers in turn, and divides each of them where there are too few. Readers may
        get different numbers of samples.

        Raises:
            DataError: when the rank is not below the number of readers.
        """
        if not 0 <= rank < world_size:
            raise DataError(
                f"rank must be from 0 to {world_size - 1}, got {rank}. Number the "
                "readers from 0."
            )
        return replace(self, rank=rank, world_size=world_size)

    def with_schema(self, schema: Schema) -> "MultimodalStream":
        """Return the stream with another schema, which every piece must fit."""
        source = self.source
        if isinstance(source, RecordSource):
            source = replace(source, schema=schema)
        return replace(self, source=source, given_schema=schema)

    def load(self) -> MultimodalData:
        """Read all samples into memory, in their order."""
        pieces = [Piece(chunk, chunk.ids) for chunk in self.chunks()]
        return join(pieces).data

    def labels(self) -> AnyArray | None:
        """Return ``y`` of all samples in their order; None without labels."""
        return concat_metadata("y", [chunk.y for chunk in self.chunks()])

    def chunks(
        self,
        size: int | None = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epochs: int | None = 1,
    ) -> "ChunkIterator":
        """Return an iterator over all samples, some at a time.

        Args:
            size: samples of a chunk; default: at most 2048, fewer where samples are
                large.
            shuffle: read the row groups in random order, several at a time, and mix
                their samples in a window of a sixteenth of the memory.
            seed: of the order; the same seed and epoch give the same order.
            epochs: passes over the samples; None never ends.
        """
        return ChunkIterator(self, size, shuffle=shuffle, seed=seed, epochs=epochs)

    @property
    def window(self) -> int:
        """Samples that are mixed with each other where they are shuffled."""
        return max(1, self.memory // WINDOW_SHARE // self.row_bytes)

    def spans(self, order: IntArray) -> list[RowRange]:
        """Return what this reader reads, of the parts in an order."""
        parts = spans_of(self.source.sizes, order)
        return shard_ranges(parts, self.rank, self.world_size)

    def windows(
        self,
        window: int,
        spans: Sequence[RowRange],
        *,
        at_once: int,
        skip: int,
    ) -> Iterator[Piece]:
        """Yield windows of exactly so many samples of spans, fitted to the schema."""
        return read_windows(
            _Fitted(self.source, self.schema, self.modalities),
            spans,
            window=window,
            size=max(1, min(MAX_PIECE, window // at_once)),
            at_once=at_once,
            skip=skip,
        )


@dataclass(frozen=True)
class _Fitted:
    """A source whose pieces all fit one schema."""

    source: Source
    schema: Schema
    modalities: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int | None, ...]:
        return self.source.sizes

    def name_of(self, part: int) -> str:
        return self.source.name_of(part)

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        for piece in self.source.read(span, size):
            with naming(self.source.name_of(span.part)):
                fitted = fit_piece(piece, self.schema, self.modalities)
            yield fitted


MAX_CHUNK = 2048
AT_ONCE = 4  # row groups that are read in turns where samples are shuffled


class ChunkIterator(Iterator[MultimodalData]):
    """ChunkIterator of a stream, which can stop and go on where they were.

    Attributes:
        lane: number of a part of the stream that is read by itself, and how many there
            are. Lanes are read side by side, so that they share memory and open files.
        epoch: passes that are finished.
        done: samples of the present pass that were given out.
        keys: ``[n]`` numbers of the samples of the last chunk, unique in the stream.
    """

    def __init__(
        self,
        stream: "MultimodalStream",
        size: int | None,
        *,
        shuffle: bool,
        seed: int,
        epochs: int | None,
        lane: tuple[int, int] = (0, 1),
    ) -> None:
        if size is not None and size < 1:
            raise DataError(f"size must be at least 1 sample, got {size}. Raise it.")
        self.stream, self.shuffle, self.seed = stream, shuffle, seed
        self.size, self.epochs, self.lane = size, epochs, lane
        self.epoch, self.done = 0, 0
        self.keys = np.empty(0, dtype=np.int64)
        self._pieces: Iterator[Piece] | None = None

    def __iter__(self) -> "ChunkIterator":
        return self

    def __next__(self) -> MultimodalData:
        while self.epochs is None or self.epoch < self.epochs:
            if self._pieces is None:
                self._pieces = self._open()
            piece = next(self._pieces, None)
            if piece is not None:
                self.done += len(piece.keys)
                self.keys = piece.keys
                return piece.data
            if not self.done and self.epochs is None:
                raise DataError(
                    f"reader {self.stream.rank} must have at least one sample, got "
                    "none. Use fewer readers."
                )
            self.epoch, self.done, self._pieces = self.epoch + 1, 0, None
        raise StopIteration

    def state_dict(self) -> dict[str, int]:
        """Return where it is: the epoch, and the samples of it that are done."""
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on behind the last chunk that another one of the same kind gave out."""
        self.epoch, self.done = int(state["epoch"]), int(state["done"])
        self._pieces = None

    def spans(self) -> list[RowRange]:
        """Return what is read in the present pass, in its order."""
        order = np.arange(self.stream.num_parts)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        return shard_ranges(self.stream.spans(order), *self.lane)

    def _open(self) -> Iterator[Piece]:
        """Yield the chunks of the present pass that are not done."""
        number_of_lane, num_lanes = self.lane
        most = self.stream.window // num_lanes
        size = self.size or min(MAX_CHUNK, max(1, most // 2))
        window = max(size, most // size * size) if self.shuffle else size
        at_once = max(1, AT_ONCE // num_lanes) if self.shuffle else 1
        reader = self.stream.rank * num_lanes + number_of_lane
        first, left_out = divmod(self.done, window)
        windows = self.stream.windows(window, self.spans(), at_once=at_once, skip=first)
        for number, piece in enumerate(windows, start=first):
            rows = np.arange(len(piece.keys))
            if self.shuffle:
                key = (self.seed, self.epoch, number, reader)
                rows = np.random.default_rng(key).permutation(rows)
            rows, left_out = rows[left_out:], 0
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                yield take(piece, part) if self.shuffle else piece
            del piece  # or it would live on while the next window is read


DataOrStream: TypeAlias = MultimodalData | MultimodalStream


def parts_of(samples: DataOrStream) -> Iterable[MultimodalData]:
    """Return all samples, those of a stream some at a time."""
    return samples.chunks() if isinstance(samples, MultimodalStream) else [samples]


def in_memory(samples: DataOrStream) -> MultimodalData:
    """Return all samples, those of a stream one part after the other."""
    if isinstance(samples, MultimodalData):
        return samples
    return MultimodalData.concat(list(samples.chunks()))
