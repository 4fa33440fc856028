"""Streams of multimodal data, and iterators over their chunks.

Shapes: n samples of a chunk.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from mmgraph.data.column import AnyArray, IntArray
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.parquet import (
    Fields,
    ParquetSource,
    TableSource,
    error_prefix,
    open_folder,
)
from mmgraph.data.stream.records import Records, RecordSource, check_repeatable
from mmgraph.data.stream.schema import StreamInfo, fit_piece, infer_stream_info
from mmgraph.data.stream.shuffle import concat_pieces, read_windows, take_samples
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
from mmgraph.typing import ModalityMapping, PathLike

MEMORY = 1 << 30  # bytes
WINDOW_SHARE = 16  # a shuffled window, which is copied twice, uses 1/16 of the memory
MAX_PIECE = 512  # samples
MAX_CHUNK = 2048  # samples
AT_ONCE = 4  # row groups that are read in turn while samples are shuffled


@dataclass(frozen=True, eq=False)
class MultimodalStream:
    """Multimodal data set that is read piece by piece, for data larger than memory.

    Build it with :meth:`from_parquet`, :meth:`from_huggingface` or
    :meth:`from_iterable`. Estimators accept it wherever they accept
    :class:`mmgraph.MultimodalData`, and stay within its memory limit.

    Attributes:
        source: Source of the samples.
        given_schema: Schema that was passed; None if it is inferred from the first
            samples.
        memory: Memory in bytes that reading and fitting may use, without the model.
        rank: Number of this reader among ``world_size`` readers.
        world_size: Number of readers that share the samples; each sample is read by one
            of them.

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
        path: PathLike,
        *,
        modalities: ModalityMapping | None = None,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Open a folder of Parquet files, which are read in the order of their paths.

        Args:
            path: Folder, searched recursively for ``.parquet``, or one file.
            modalities: Columns of each modality, for files that
                :meth:`mmgraph.MultimodalData.to_parquet` did not write; see
                :meth:`mmgraph.MultimodalData.from_parquet`. A column that some files
                lack is missing there. Lists of numbers are vectors if the first ones
                have equal length, unless the schema has ``tokens="ragged"``.
            y: Column of labels; None reads none.
            ids: Column of ids; None numbers the samples. Default: "id" if it exists,
                otherwise the samples are numbered. With ``modalities`` they are also
                numbered if some file lacks "id", or if it has repeats or nulls or holds
                neither numbers nor strings. Ids that number the samples of each file
                from 0 are replaced by one numbering.
            groups: Column of groups; None reads none. Default: "group" if it exists.
            schema: Schema that the columns must fit. Default: a star of the modalities.
            memory: Memory in bytes that reading and fitting may use, without the model.

        Returns:
            Stream of all rows of all files.

        Raises:
            DataError: If there is no file, or one is damaged or contradicts the others;
                the message names it.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> data = MultimodalData.from_arrays({"labs": [[1.0, 2.0], None]})
            >>> with TemporaryDirectory() as folder:
            ...     data.to_parquet(f"{folder}/0.parquet")
            ...     data.to_parquet(f"{folder}/1.parquet")
            ...     MultimodalStream.from_parquet(folder).num_samples
            4
        """
        source = open_folder(path, Fields(modalities, y, ids, groups))
        return cls(source, schema, memory)

    @classmethod
    def from_huggingface(
        cls,
        dataset: Any,  # noqa: ANN401  # its library is optional
        *,
        modalities: ModalityMapping,
        y: str | None = None,
        ids: str | None = None,
        groups: str | None = None,
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Open a Hugging Face dataset.

        Args:
            dataset: ``Dataset`` or ``IterableDataset`` (``streaming=True``) of the
                package ``datasets``. Its shards are the parts that are shuffled.
            modalities: Features of each modality, as in :meth:`from_parquet`.
            y: Feature of the labels; None reads none.
            ids: Feature of the ids; None numbers the samples.
            groups: Feature of the groups; None reads none.
            schema: Schema that the features must fit. Default: a star of the
                modalities.
            memory: Memory in bytes that reading and fitting may use, without the model.

        Returns:
            Stream of all rows of the dataset.

        Raises:
            DataError: If ``dataset`` is not a Hugging Face dataset.

        Example:
            >>> from datasets import Dataset  # doctest: +SKIP
            >>> dataset = Dataset.from_dict(
            ...     {"age": [61.0, 58.0], "label": [0, 1]}
            ... )  # doctest: +SKIP
            >>> MultimodalStream.from_huggingface(
            ...     dataset, modalities={"history": ["age"]}, y="label"
            ... ).load().y  # doctest: +SKIP
            array([0, 1])
        """
        if hasattr(dataset, "to_iterable_dataset"):
            dataset = dataset.to_iterable_dataset()
        if not hasattr(dataset, "with_format") or not hasattr(dataset, "num_shards"):
            raise DataError(
                "dataset must be a Dataset or IterableDataset of Hugging Face, got "
                f"{type(dataset).__name__}. Select a split, such as dataset['train'], "
                "or use from_iterable."
            )
        fields = Fields(modalities, y, ids, groups)
        if dataset.features is None:  # types of tables would depend on single rows
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
        samples: Records | Callable[[], Records],
        *,
        modalities: ModalityMapping,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
        schema: Schema | None = None,
        memory: int = MEMORY,
    ) -> "MultimodalStream":
        """Open an iterable of dicts, one per sample.

        Args:
            samples: Iterable that can be iterated repeatedly in the same order, or a
                function that returns a new iterable for each pass.
            modalities: Key of each modality, or a list of keys with numbers. A value is
                one entry of a list in :meth:`mmgraph.MultimodalData.from_arrays`. The
                times of "ecg" are read from "ecg.time".
            y: Key of the labels; None reads none. Default: "y" if it exists.
            ids: Key of the ids; None numbers the samples. Default: "id" if it exists.
            groups: Key of the groups; None reads none. Default: "group" if it exists.
            schema: Schema that the values must fit. Default: a star of the modalities.
            memory: Memory in bytes that reading and fitting may use, without the model.

        Returns:
            Stream of all records.

        Raises:
            DataError: If the samples can be iterated only once.

        Example:
            >>> def records():
            ...     yield {"labs": [1.0, 2.0], "died": 0}
            ...     yield {"labs": [3.0, 4.0], "died": 1}
            >>> names = {"labs": "labs"}
            >>> stream = MultimodalStream.from_iterable(
            ...     records, modalities=names, y="died"
            ... )
            >>> stream.load().shape
            (2, 1)
        """
        check_repeatable(samples)
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
    def _info(self) -> StreamInfo:
        return infer_stream_info(self.source, self.given_schema)

    @cached_property
    def _typed_source(self) -> Source:
        """Source that reads the strings of all pieces as those of the first samples."""
        texts = [name for name, c in self._info.columns.items() if c.is_text]
        return declare_strings(self.source, self._info.strings, texts)

    @property
    def schema(self) -> Schema:
        """Schema that was passed; otherwise a star inferred from the first samples."""
        return self._info.schema

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return self.source.modalities or self.schema.modality_names

    @property
    def row_bytes(self) -> int:
        """Average memory of a sample in bytes, estimated from the first samples."""
        return self._info.row_bytes

    @property
    def num_samples(self) -> int | None:
        """Number of samples of this reader in an unshuffled epoch; None if unknown."""
        return count_samples(self.spans(np.arange(self.num_parts)))

    @property
    def num_parts(self) -> int:
        """Number of parts that are read independently: row groups, or shards."""
        return len(self.source.sizes)

    def shard(self, rank: int, world_size: int) -> "MultimodalStream":
        """Return the share of one of several readers.

        In each epoch whole row groups (or shards of Hugging Face) are assigned to the
        readers in turn; if there are fewer of them than readers, each is divided.
        Readers may have different numbers of samples.

        Args:
            rank: Number of the reader, from 0.
            world_size: Number of readers.

        Returns:
            Stream of the same source that yields the samples of this reader only.

        Raises:
            DataError: If the rank is not below the number of readers.

        Example:
            >>> records = [{"a": [float(i)]} for i in range(5)]
            >>> stream = MultimodalStream.from_iterable(records, modalities={"a": "a"})
            >>> stream.shard(1, 2).load().ids
            array([1, 3])
        """
        if not 0 <= rank < world_size:
            raise DataError(
                f"rank must be from 0 to {world_size - 1}, got {rank}. Number the "
                "readers from 0."
            )
        return replace(self, rank=rank, world_size=world_size)

    def with_schema(self, schema: Schema) -> "MultimodalStream":
        """Return the stream with another schema.

        Args:
            schema: Schema that every piece must fit. A piece that does not fit raises
                a DataError when it is read.

        Returns:
            Stream of the same samples.

        Example:
            >>> records = [{"ecg": [0.1, 0.2]}, {"ecg": [0.3, 0.4]}]
            >>> names = {"ecg": "ecg"}
            >>> stream = MultimodalStream.from_iterable(records, modalities=names)
            >>> schema = Schema.star([Modality("ecg", 1, tokens="ragged")])
            >>> stream.with_schema(schema).load().columns["ecg"].lengths
            array([2, 2])
        """
        source = self.source
        if isinstance(source, RecordSource):
            source = replace(source, schema=schema)
        return replace(self, source=source, given_schema=schema)

    def load(self) -> MultimodalData:
        """Read all samples into memory, in their order.

        Returns:
            Data with the schema of the stream.

        Raises:
            DataError: If a piece cannot be read or does not fit the schema.

        Example:
            >>> records = [{"a": [1.0]}, {"a": [2.0]}]
            >>> stream = MultimodalStream.from_iterable(records, modalities={"a": "a"})
            >>> stream.load().shape
            (2, 1)
        """
        pieces = [Piece(chunk, chunk.ids) for chunk in self.chunks()]
        return concat_pieces(pieces).data

    def labels(self) -> AnyArray | None:
        """Read the labels of all samples, in their order.

        Returns:
            ``[N]`` or ``[N, K]`` labels; None if the stream has none.

        Raises:
            DataError: If a piece cannot be read or does not fit the schema.

        Example:
            >>> records = [{"a": [1.0], "y": "ill"}, {"a": [2.0], "y": "well"}]
            >>> stream = MultimodalStream.from_iterable(records, modalities={"a": "a"})
            >>> stream.labels()
            array(['ill', 'well'], dtype='<U4')
        """
        return concat_metadata("y", [chunk.y for chunk in self.chunks()])

    def chunks(
        self,
        size: int | None = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epochs: int | None = 1,
    ) -> "ChunkIterator":
        """Return an iterator over chunks of samples.

        Args:
            size: Number of samples of a chunk, at least 1. Default: at most 2048, fewer
                if the memory limit requires it.
            shuffle: Shuffle the samples: row groups are read in random order, several
                in turn, and their samples are permuted within a window of 1/16 of the
                memory limit.
            seed: Seed of the order; the same seed and epoch give the same order.
            epochs: Number of passes over the samples; None repeats forever.

        Returns:
            Iterator over :class:`mmgraph.MultimodalData` that can be stopped and
            resumed.

        Raises:
            DataError: If ``size`` is below 1.

        Example:
            >>> records = [{"a": [float(i)]} for i in range(5)]
            >>> stream = MultimodalStream.from_iterable(records, modalities={"a": "a"})
            >>> [len(chunk) for chunk in stream.chunks(2)]
            [2, 2, 1]
        """
        return ChunkIterator(self, size, shuffle=shuffle, seed=seed, epochs=epochs)

    @property
    def window(self) -> int:
        """Number of samples within which the order is shuffled."""
        return max(1, self.memory // WINDOW_SHARE // self.row_bytes)

    def spans(self, order: IntArray) -> list[RowRange]:
        """Return the row ranges of this reader.

        Args:
            order: Numbers of the parts in the order of reading.

        Returns:
            Row ranges in the order of reading; see :meth:`shard`.
        """
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
        """Yield windows of samples in the form of the schema.

        Args:
            window: Number of samples of a window; the last may be smaller.
            spans: Row ranges in the order of reading.
            at_once: Number of ranges that are read in turn.
            skip: Number of windows to skip.

        Returns:
            Iterator over pieces of ``window`` samples.

        Raises:
            DataError: If a piece cannot be read or does not fit the schema.
        """
        return read_windows(
            _Fitted(self._typed_source, self._info, self.modalities),
            spans,
            window=window,
            size=max(1, min(MAX_PIECE, window // at_once)),
            at_once=at_once,
            skip=skip,
        )


def declare_strings(
    source: Source, columns: Collection[str], texts: Collection[str]
) -> Source:
    """Return a source that does not infer from single pieces what strings are.

    Args:
        source: Source to read.
        columns: Columns whose strings are categories.
        texts: Modalities that are text, if they are a single column.
    """
    if not isinstance(source, ParquetSource | TableSource | RecordSource):
        return source
    sources = {name: (source.fields.modalities or {}).get(name) for name in texts}
    named = {column for column in sources.values() if isinstance(column, str)}
    strings = source.fields.strings | named | set(columns)
    return replace(source, fields=replace(source.fields, strings=strings))


@dataclass(frozen=True)
class _Fitted:
    """Source whose pieces are converted to one schema."""

    source: Source
    info: StreamInfo
    modalities: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return self.info.schema

    @property
    def sizes(self) -> tuple[int | None, ...]:
        return self.source.sizes

    def name_of(self, part: int) -> str:
        return self.source.name_of(part)

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        for piece in self.source.read(span, size):
            with error_prefix(self.source.name_of(span.part)):
                fitted = fit_piece(piece, self.info, self.modalities)
            yield fitted


class ChunkIterator(Iterator[MultimodalData]):
    """Resumable iterator over the chunks of a stream.

    Args:
        stream: Stream to read.
        size: Number of samples of a chunk; None chooses it by the memory limit.
        shuffle: Shuffle the samples, see :meth:`MultimodalStream.chunks`.
        seed: Seed of the order.
        epochs: Number of passes; None repeats forever.
        lane: Number of the lane and number of lanes. Lanes are disjoint shares of the
            stream that are read concurrently; each uses its share of the memory and
            of the open files.

    Attributes:
        epoch: Number of finished passes.
        done: Number of samples of the current pass that were returned.
        keys: ``[n]`` numbers of the samples of the last chunk, unique in the stream.

    Raises:
        DataError: If ``size`` is below 1.
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
            raise DataError(f"size must be at least 1 sample, got {size}. Increase it.")
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
        """Return the position of the iterator.

        Returns:
            Number of finished epochs ("epoch"), and of samples returned in the current
            one ("done").

        Example:
            >>> records = [{"a": [float(i)]} for i in range(5)]
            >>> stream = MultimodalStream.from_iterable(records, modalities={"a": "a"})
            >>> chunks = stream.chunks(2)
            >>> _ = next(chunks)
            >>> resumed = stream.chunks(2)
            >>> resumed.load_state_dict(chunks.state_dict())
            >>> next(resumed).ids
            array([2, 3])
        """
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after the last chunk of an iterator with the same parameters.

        Args:
            state: Position that :meth:`state_dict` returned.
        """
        self.epoch, self.done = int(state["epoch"]), int(state["done"])
        self._pieces = None

    def spans(self) -> list[RowRange]:
        """Return the row ranges of the current pass, in the order of reading."""
        order = np.arange(self.stream.num_parts)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        return shard_ranges(self.stream.spans(order), *self.lane)

    def _open(self) -> Iterator[Piece]:
        """Yield the remaining chunks of the current pass."""
        lane, num_lanes = self.lane
        most = self.stream.window // num_lanes
        size = self.size or min(MAX_CHUNK, max(1, most // 2))
        window = max(size, most // size * size) if self.shuffle else size
        at_once = max(1, AT_ONCE // num_lanes) if self.shuffle else 1
        reader = self.stream.rank * num_lanes + lane
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
                yield take_samples(piece, part) if self.shuffle else piece
            del piece  # otherwise it stays in memory while the next window is read


DataOrStream: TypeAlias = MultimodalData | MultimodalStream


def parts_of(samples: DataOrStream) -> Iterable[MultimodalData]:
    """Return the chunks of a stream, or data in memory as a single chunk."""
    return samples.chunks() if isinstance(samples, MultimodalStream) else [samples]


def in_memory(samples: DataOrStream) -> MultimodalData:
    """Return all samples of data or of a stream as data in memory."""
    if isinstance(samples, MultimodalData):
        return samples
    return MultimodalData.concat(list(samples.chunks()))
