"""Training batches of a stream that several processes read together.

Letters: ``L`` lanes, ``R`` batches of a round. A lane is a fixed part of the row groups
of a stream, which is read in sequence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import IntArray
from mmgraph.data.stream.shuffle import concat_pieces, take_samples
from mmgraph.data.stream.source import Piece, count_samples
from mmgraph.data.stream.stream import AT_ONCE, ChunkIterator
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.errors import CheckpointError, DataError
from mmgraph.train.batches import TrainingBatch, TrainingSet
from mmgraph.train.progress_dir import restored

PARTS_OF_LANE = 4  # minimum number of row groups, so that lanes have similar lengths
BATCHES_AT_ONCE = 16  # maximum number of batches whose evidence is computed together


@dataclass(frozen=True)
class LaneAssignment:
    """Assignment of lanes to the processes of a group.

    A batch has samples of every lane, in the order of the lanes. Process r of P takes
    the fraction ``r L / P`` to ``(r + 1) L / P`` of the lanes, so that a lane may be
    divided between processes, and reads no other lanes.

    Attributes:
        num_lanes: ``L``.
        processes: Process group.
    """

    num_lanes: int
    processes: ProcessGroup

    def rows_before(self, counts: IntArray, rank: int) -> IntArray:
        """Return the number of samples of each lane that belong to lower ranks.

        Args:
            counts: ``[..., L]`` samples of each lane.
            rank: Rank of the process.
        """
        length = self.processes.size
        cut = rank * self.num_lanes - length * np.arange(self.num_lanes)
        share: IntArray = counts * cut.clip(0, length) // length
        return share

    @property
    def read_lanes(self) -> list[int]:
        """Lanes that this process reads."""
        whole = np.full(self.num_lanes, self.processes.size)
        rank = self.processes.rank
        mine = self.rows_before(whole, rank + 1) > self.rows_before(whole, rank)
        return np.flatnonzero(mine).tolist()

    @property
    def reported(self) -> list[int]:
        """Lanes whose counts this process reports: it takes their first samples."""
        whole = np.full(self.num_lanes, self.processes.size)
        begun = self.rows_before(whole, self.processes.rank) == 0
        return [lane for lane in self.read_lanes if begun[lane]]


@dataclass(frozen=True)
class Part:
    """This process's part of a batch.

    Attributes:
        rows: Rows of the samples of the round that this process holds.
        first: Number of samples of the batch that precede these, in other processes.
        total: Number of samples of the batch in all processes.
    """

    rows: slice
    first: int
    total: int


@dataclass(frozen=True)
class LaneChunk:
    """Samples of one lane in one round.

    Attributes:
        piece: Samples.
        y: Encoded targets of the samples.
        labeled: Indices of the samples that have a label.
    """

    piece: Piece
    y: Tensor
    labeled: IntArray


class StreamBatches:
    """Endless iterator of random batches of a stream, whose position can be saved.

    The row groups of a pass are distributed over lanes. In every round, samples are
    taken from each lane in proportion to its length and divided among batches and
    processes. The content of a batch does not depend on the number of processes.

    Args:
        source: Stream, and the functions that prepare its samples.
        batch_size: Maximum number of samples of a batch over all processes.
        processes: Process group. Each process has a part of every batch.
    """

    def __init__(
        self,
        source: "StreamTraining",
        batch_size: int,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.source, self.size, self.processes = source, batch_size, processes
        at_once = min(BATCHES_AT_ONCE, source.stream.window // batch_size)
        self.round_size = batch_size * max(1, at_once)
        self.assignment = LaneAssignment(count_lanes(source.stream), processes)
        self.epoch, self.round, self.batch = 0, -1, 0
        self.parts: list[Part] = []  # of the batches of the current round
        self.block: TrainingSet | None = None  # this process's samples of the round
        self._open(0)

    def __iter__(self) -> "StreamBatches":
        return self

    def __next__(self) -> TrainingBatch:
        while self.batch >= len(self.parts):
            self.round, self.batch = self.round + 1, 0
            self._read()
        part = self.parts[self.batch]
        self.batch += 1
        assert self.block is not None
        rows = torch.arange(part.rows.start, part.rows.stop)
        mine = self.block.take(rows.to(self.block.y.device))
        return replace(mine, first=part.first, total=part.total)

    def state(self) -> dict[str, Tensor]:
        """Return epoch, round, and the next batch of the round."""
        place = {"epoch": self.epoch, "round": self.round, "batch": self.batch}
        return {name: torch.tensor(value) for name, value in place.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a position that :meth:`state` returned.

        Raises:
            CheckpointError: If it is not a position.
        """
        place = torch.zeros((), dtype=torch.int64)
        self.epoch, self.round, self.batch = (
            int(restored(state, name, place)) for name in ("epoch", "round", "batch")
        )
        if min(self.epoch, self.round + 1, self.batch) < 0:
            raise CheckpointError("epoch, round and batch must not be negative")
        self._open(max(self.round, 0))
        if self.round >= 0:
            self._read()

    def _open(self, done: int) -> None:
        """Start the current pass after ``done`` rounds, without reading samples yet."""
        every = range(self.assignment.num_lanes)
        sizes = [count_samples(self._lane(number, None).spans()) for number in every]
        total = sum(size or 0 for size in sizes)
        self.chunks = {}
        for number in self.assignment.read_lanes:
            share = self.round_size
            if total:
                share = max(1, share * (sizes[number] or 0) // total)
            self.chunks[number] = self._lane(number, share)
            self.chunks[number].done = done * share

    def _lane(self, number: int, share: int | None) -> ChunkIterator:
        lane = ChunkIterator(
            self.source.stream,
            share,
            shuffle=True,
            seed=self.source.seed,
            epochs=self.epoch + 1,
            lane=(number, self.assignment.num_lanes),
        )
        lane.epoch = self.epoch
        return lane

    def _read(self) -> None:
        """Read this process's part of the current round."""
        self.block, self.parts = None, []  # free memory before the next round is read
        read, counts = self._next_round()
        if not counts[0].any():  # end of the pass
            self.epoch, self.round = self.epoch + 1, 0
            self._open(0)
            read, counts = self._next_round()
            if not counts[0].any():
                raise DataError(
                    "A stream must have at least one sample, got none. Add data."
                )
        if counts[1].any():
            self._divide(read, counts[1])

    def _next_round(self) -> tuple[dict[int, LaneChunk], IntArray]:
        read = self.processes.run_on_all(self._read_lanes)
        return read, self._count(read)

    def _read_lanes(self) -> dict[int, LaneChunk]:
        read = {}
        for number, chunks in self.chunks.items():
            data = next(chunks, None)
            if data is not None:
                y, labeled = self.source.targets(data)
                read[number] = LaneChunk(Piece(data, chunks.keys), y, labeled)
        return read

    def _count(self, read: Mapping[int, LaneChunk]) -> IntArray:
        """Return ``[2, L]``: samples of the round, and labeled samples of the round."""
        counts = torch.zeros(2, self.assignment.num_lanes, dtype=torch.int64)
        for number in self.assignment.reported:
            if number in read:
                counts[0, number] = len(read[number].y)
                counts[1, number] = len(read[number].labeled)
        device = self.source.sample.y.device
        total: IntArray = self.processes.sum(counts.to(device)).cpu().numpy()
        return total

    def _divide(self, read: Mapping[int, LaneChunk], counts: IntArray) -> None:
        """Divide the labeled samples ``[L]`` of a round among batches and processes.

        Prepares the samples of this process.
        """
        num = -(-int(counts.sum()) // self.size)
        bounds = counts * np.arange(num + 1)[:, None] // num  # [R + 1, L]
        sizes = np.diff(bounds, axis=0)
        rank = self.processes.rank
        low, high = (self.assignment.rows_before(sizes, r) for r in (rank, rank + 1))
        mine = (high - low).sum(1)
        last = np.cumsum(mine)
        first, totals = low.sum(1), sizes.sum(1)
        self.parts = [
            Part(slice(start, stop), preceding, total)
            for start, stop, preceding, total in np.stack(
                [last - mine, last, first, totals], axis=1
            ).tolist()
        ]
        if mine.any():
            self.block = self._prepare(read, bounds[:-1] + low, bounds[:-1] + high)
        else:  # any set: no sample of it is taken
            self.block = self.source.sample

    def _prepare(
        self, read: Mapping[int, LaneChunk], low: IntArray, high: IntArray
    ) -> TrainingSet:
        """Prepare the samples ``low`` to ``high [R, L]`` of the lanes, by batch."""
        pieces, targets, owners = [], [], []
        for number, lane in read.items():
            mine = [
                lane.labeled[a:b]
                for a, b in zip(low[:, number], high[:, number], strict=True)
            ]
            rows = np.concatenate(mine)
            pieces.append(take_samples(lane.piece, rows))
            targets.append(lane.y[torch.from_numpy(rows)])
            owners.append(np.repeat(np.arange(len(mine)), [len(r) for r in mine]))
        order = np.argsort(np.concatenate(owners), kind="stable")
        piece = take_samples(concat_pieces(pieces), order)
        y = torch.cat(targets)[torch.from_numpy(order)]
        return self.source.prepare(piece.data, piece.keys, y)


def count_lanes(stream: MultimodalStream) -> int:
    """Return the number of lanes of a stream.

    It is the number of row groups that are interleaved, or fewer if lanes would have
    very different lengths. A stream whose parts have unknown sizes has one lane, which
    every process reads.
    """
    spans = stream.spans(np.arange(stream.num_parts))
    if count_samples(spans) is None:
        return 1
    return max(1, min(AT_ONCE, len(spans) // PARTS_OF_LANE))


@dataclass(frozen=True)
class StreamTraining:
    """Stream of training samples; a :class:`mmgraph.train.BatchSource`.

    Attributes:
        stream: All samples.
        sample: Random sample in memory, with out-of-fold evidence.
        seed: Seed of the order of batches.
        targets: Maps a chunk to the encoded targets of its samples and the numbers of
            those that have a label.
        prepare: Maps labeled samples, their keys and targets to training data.
    """

    stream: MultimodalStream
    sample: TrainingSet
    seed: int
    targets: Callable[[MultimodalData], tuple[Tensor, IntArray]]
    prepare: Callable[[MultimodalData, IntArray, Tensor], TrainingSet]

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most ``most`` of the samples that are held out from all members."""
        held = torch.nonzero((self.sample.member_weights == 0).all(0))[:, 0]
        order = torch.randperm(len(held), generator=generator).to(held.device)
        return self.sample.take(held[order[:most]].sort().values)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> StreamBatches:
        """Return an endless iterator of this process's parts of random batches.

        The order depends on the seed. Every process reads only the lanes of its part.
        """
        return StreamBatches(self, batch_size, processes)
