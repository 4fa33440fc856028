"""Batches of a stream that several processes read and train on together.

Letters: ``L`` lanes, ``R`` batches of a round.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import IntArray
from mmgraph.data.stream.shuffle import join, take
from mmgraph.data.stream.source import Piece, count_samples
from mmgraph.data.stream.stream import AT_ONCE, ChunkIterator
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.errors import DataError
from mmgraph.train.batches import TrainingBatch, TrainingSet

PARTS_OF_LANE = 4  # row groups, at least: lanes may differ by one
BATCHES_AT_ONCE = 16  # most batches whose evidence is computed together


@dataclass(frozen=True)
class LaneAssignment:
    """How processes divide batches whose samples come from several lanes.

    A batch has samples of every lane, in the order of the lanes. Each process takes
    ``L / size`` of the lanes in turn, so that a lane may be cut, and reads no others.

    Attributes:
        num_lanes: L.
        workers: The processes.
    """

    num_lanes: int
    workers: ProcessGroup

    def before(self, counts: IntArray, rank: int) -> IntArray:
        """Return how many samples of each lane go to the processes before one.

        Args:
            counts: ``[..., L]`` samples of each lane.
            rank: Number of the process.
        """
        length = self.workers.size
        cut = rank * self.num_lanes - length * np.arange(self.num_lanes)
        share: IntArray = counts * cut.clip(0, length) // length
        return share

    @property
    def wanted(self) -> list[int]:
        """The lanes of which this process takes samples."""
        whole = np.full(self.num_lanes, self.workers.size)
        rank = self.workers.rank
        mine = self.before(whole, rank + 1) > self.before(whole, rank)
        return np.flatnonzero(mine).tolist()

    @property
    def reported(self) -> list[int]:
        """The lanes that this process tells the others about: those that it begins."""
        whole = np.full(self.num_lanes, self.workers.size)
        begun = self.before(whole, self.workers.rank) == 0
        return [lane for lane in self.wanted if begun[lane]]


@dataclass(frozen=True)
class Part:
    """A process's part of a batch.

    Attributes:
        rows: Of what the process holds of the round.
        first: Samples of the batch that other processes hold before these.
        total: Samples of the batch in all processes.
    """

    rows: slice
    first: int
    total: int


@dataclass(frozen=True)
class LaneChunk:
    """What one round has of one lane.

    Attributes:
        piece: All its samples.
        y: Their targets.
        labelled: Which of them have a label.
    """

    piece: Piece
    y: Tensor
    labelled: IntArray


class StreamBatches:
    """Endless batches of a stream in random order, which can stop and go on.

    The row groups of a pass are dealt out to lanes. In every round each lane gives some
    samples, in proportion to its length, which are divided among batches and processes.
    What a batch has does not depend on the number of processes.

    Args:
        source: The stream, and what prepares its samples.
        batch_size: Most samples of a batch, in all processes.
        workers: Who share the batches.
    """

    def __init__(
        self,
        source: "StreamTraining",
        batch_size: int,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.source, self.size, self.workers = source, batch_size, workers
        at_once = min(BATCHES_AT_ONCE, source.stream.window // batch_size)
        self.round_size = batch_size * max(1, at_once)
        self.division = LaneAssignment(count_lanes(source.stream), workers)
        self.epoch, self.round, self.batch = 0, -1, 0
        self.parts: list[Part] = []  # of the batches of the round at hand
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
        """Return the round at hand, and the first of its batches that is not done."""
        place = {"epoch": self.epoch, "round": self.round, "batch": self.batch}
        return {name: torch.tensor(value) for name, value in place.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on behind the last batch that another one gave out."""
        self.epoch, self.round, self.batch = (
            int(state[name]) for name in ("epoch", "round", "batch")
        )
        self._open(max(self.round, 0))
        if self.round >= 0:
            self._read()

    def _open(self, done: int) -> None:
        """Begin the present pass behind so many rounds; nothing is read yet."""
        every = range(self.division.num_lanes)
        sizes = [count_samples(self._lane(number, None).spans()) for number in every]
        total = sum(size or 0 for size in sizes)
        self.chunks = {}
        for number in self.division.wanted:
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
            lane=(number, self.division.num_lanes),
        )
        lane.epoch = self.epoch
        return lane

    def _read(self) -> None:
        """Read this process's part of the round at hand."""
        self.block, self.parts = None, []  # free before the next ones are read
        found, counts = self._next_round()
        if not counts[0].any():  # the pass is over
            self.epoch, self.round = self.epoch + 1, 0
            self._open(0)
            found, counts = self._next_round()
            if not counts[0].any():
                raise DataError(
                    "a stream must have at least one sample, got none. Add data."
                )
        if counts[1].any():
            self._divide(found, counts[1])

    def _next_round(self) -> tuple[dict[int, LaneChunk], IntArray]:
        found = self.workers.run_on_all(self._read_lanes)
        return found, self._count(found)

    def _read_lanes(self) -> dict[int, LaneChunk]:
        found = {}
        for number, chunks in self.chunks.items():
            data = next(chunks, None)
            if data is not None:
                y, labelled = self.source.targets(data)
                found[number] = LaneChunk(Piece(data, chunks.keys), y, labelled)
        return found

    def _count(self, found: Mapping[int, LaneChunk]) -> IntArray:
        """Return ``[2, L]`` samples of the round, and those with a label."""
        counts = torch.zeros(2, self.division.num_lanes, dtype=torch.int64)
        for number in self.division.reported:
            if number in found:
                counts[0, number] = len(found[number].y)
                counts[1, number] = len(found[number].labelled)
        device = self.source.sample.y.device
        total: IntArray = self.workers.sum(counts.to(device)).cpu().numpy()
        return total

    def _divide(self, found: Mapping[int, LaneChunk], counts: IntArray) -> None:
        """Give batches their samples of lanes, ``[L]`` in all, and prepare mine."""
        num = -(-int(counts.sum()) // self.size)
        bounds = counts * np.arange(num + 1)[:, None] // num  # [R + 1, L]
        sizes = np.diff(bounds, axis=0)
        rank = self.workers.rank
        low, high = (self.division.before(sizes, r) for r in (rank, rank + 1))
        mine = (high - low).sum(1)
        behind = np.cumsum(mine)
        before, totals = low.sum(1), sizes.sum(1)
        self.parts = [
            Part(slice(start, stop), first, total)
            for start, stop, first, total in np.stack(
                [behind - mine, behind, before, totals], axis=1
            ).tolist()
        ]
        if mine.any():
            self.block = self._prepare(found, bounds[:-1] + low, bounds[:-1] + high)
        else:  # a set that nothing is taken of
            self.block = self.source.sample

    def _prepare(
        self, found: Mapping[int, LaneChunk], low: IntArray, high: IntArray
    ) -> TrainingSet:
        """Prepare rows ``low`` to ``high [R, L]`` of the lanes, batch by batch."""
        pieces, targets, owners = [], [], []
        for number, lane in found.items():
            mine = [
                lane.labelled[a:b]
                for a, b in zip(low[:, number], high[:, number], strict=True)
            ]
            rows = np.concatenate(mine)
            pieces.append(take(lane.piece, rows))
            targets.append(lane.y[torch.from_numpy(rows)])
            owners.append(np.repeat(np.arange(len(mine)), [len(r) for r in mine]))
        order = np.argsort(np.concatenate(owners), kind="stable")
        piece = take(join(pieces), order)
        y = torch.cat(targets)[torch.from_numpy(order)]
        return self.source.prepare(piece.data, piece.keys, y)


def count_lanes(stream: MultimodalStream) -> int:
    """Return how many lanes of a stream are read apart.

    As many as row groups are read in turns, fewer where some would be much longer than
    others. A stream whose parts have unknown sizes has one, which every process reads.
    """
    spans = stream.spans(np.arange(stream.num_parts))
    if count_samples(spans) is None:
        return 1
    return max(1, min(AT_ONCE, len(spans) // PARTS_OF_LANE))


@dataclass(frozen=True)
class StreamTraining:
    """A stream as the source of training batches.

    Attributes:
        stream: All samples.
        sample: A random sample that is kept in memory, with out-of-fold evidence.
        seed: Seed of the order of batches.
        targets: Maps a chunk to the encoded targets of its samples and the numbers of
            those that have a label.
        prepare: Maps labelled samples, their keys and targets to training data.
    """

    stream: MultimodalStream
    sample: TrainingSet
    seed: int
    targets: Callable[[MultimodalData], tuple[Tensor, IntArray]]
    prepare: Callable[[MultimodalData, IntArray, Tensor], TrainingSet]

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return samples that are held out from all members, at most ``most``."""
        held = torch.nonzero((self.sample.bags == 0).all(0))[:, 0]
        order = torch.randperm(len(held), generator=generator).to(held.device)
        return self.sample.take(held[order[:most]].sort().values)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> StreamBatches:
        """Return an endless iterator of batches in the order of the seed.

        Every process reads the lanes that its part of the batches lies in, and
        prepares that part, so that several processes train one model.
        """
        return StreamBatches(self, batch_size, workers)
