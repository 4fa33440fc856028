"""Random subsample of a stream, of bounded size, in one pass.

Shapes: n samples of a piece, S samples of the subsample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import IntArray
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.shuffle import concat_pieces, take_samples
from mmgraph.data.stream.source import Piece, hash_keys
from mmgraph.data.stream.stream import MultimodalStream
from mmgraph.data.targets import known_labels, missing_labels
from mmgraph.errors import DataError

MIN_PER_CLASS = 8  # samples of every class that are kept, however rare it is

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Sample:
    """Subsample of a stream.

    Attributes:
        data: Samples that were drawn, in the order of the stream.
        keys: ``[S]`` numbers of the samples, ascending.
        total: Number of samples of the whole stream.
    """

    data: MultimodalData
    keys: IntArray
    total: int


def draw_sample(
    stream: MultimodalStream,
    most: int,
    *,
    seed: int = 0,
    classes: bool = False,
    on_keys: Callable[[IntArray], None] = lambda _: None,
) -> Sample:
    """Draw a random subsample of a stream; groups are drawn whole.

    The samples (or groups) whose numbers have the smallest hashes are kept, so that the
    result depends neither on the order of reading nor on the reader. With ``classes``,
    the first samples of each class are added, without the rest of their groups.

    Args:
        stream: Stream; all of it is read, also if it is a shard.
        most: Largest number of samples, without those that ``classes`` adds.
        seed: Seed of the hash.
        classes: Keep at least 8 samples of every class of ``y``, however rare.
        on_keys: Called with the keys of each chunk that is read.

    Returns:
        Subsample; the whole stream if it has at most ``most`` samples.

    Raises:
        DataError: If the first group that is drawn is larger than ``most``.
    """
    chunks = stream.shard(0, 1).chunks()
    keeper = _ReservoirSampler(most, seed, classes)
    total = 0
    for data in chunks:
        total += len(data)
        on_keys(chunks.keys)
        keeper.add(Piece(data, chunks.keys))
    kept = keeper.finish()
    if not len(kept.keys):
        raise DataError(
            f"a group must have at most {most} samples in the memory of the stream, "
            f"got larger ones only among {total} samples. Raise memory."
        )
    order = np.argsort(kept.keys, kind="stable")
    kept = take_samples(kept, order)
    return Sample(kept.data, kept.keys, total)


class _ReservoirSampler:
    """Sampler that keeps the smallest hashes, and the first samples of each class."""

    def __init__(self, most: int, seed: int, classes: bool) -> None:
        self.most, self.seed, self.classes = most, seed, classes
        self.pieces: list[Piece] = []
        self.hashes: list[Hashes] = []
        self.firsts: list[npt.NDArray[np.bool_]] = []
        self.limit: np.uint64 | None = None
        self.seen: dict[object, int] = {}
        self.held = 0

    def add(self, piece: Piece) -> None:
        """Add the samples of a piece that belong to the current subsample."""
        hashes = self._hash(piece)
        first = self._first_of_class(piece.data)
        keep = first.copy()
        keep |= True if self.limit is None else hashes < self.limit
        rows = np.flatnonzero(keep)
        if not len(rows):
            return
        self.pieces.append(take_samples(piece, rows))
        self.hashes.append(hashes[rows])
        self.firsts.append(first[rows])
        self.held += len(rows)
        if self.held > 2 * self.most:
            self._thin()

    def finish(self) -> Piece:
        """Return the samples that were kept."""
        if self.held > self.most:
            self._thin()
        return concat_pieces(self.pieces)

    def _thin(self) -> None:
        hashes, first = np.concatenate(self.hashes), np.concatenate(self.firsts)
        if len(hashes) > self.most:
            self.limit = np.partition(hashes, self.most)[self.most]
            rows = np.flatnonzero((hashes < self.limit) | first)
            self.pieces = [take_samples(concat_pieces(self.pieces), rows)]
            self.hashes, self.firsts = [hashes[rows]], [first[rows]]
            self.held = len(rows)

    def _hash(self, piece: Piece) -> Hashes:
        groups = piece.data.groups
        if groups is None:
            return hash_keys(piece.keys, self.seed)
        names, which = np.unique(groups.astype(str), return_inverse=True)
        key = self.seed.to_bytes(8, "little")
        digests = [
            blake2b(name.encode(), digest_size=8, key=key).digest() for name in names
        ]
        table: Hashes = np.frombuffer(b"".join(digests), dtype=np.uint64)
        return table[which]

    def _first_of_class(self, data: MultimodalData) -> npt.NDArray[np.bool_]:
        """Return ``[n]``: True for the first samples of each class."""
        first, y = np.zeros(len(data), dtype=bool), data.y
        if not self.classes or y is None or y.ndim > 1:
            return first
        rows = np.flatnonzero(~missing_labels(y))
        names, which = np.unique(known_labels(y), return_inverse=True)
        for code, name in enumerate(names.tolist()):
            before = self.seen.get(name, 0)
            if before < MIN_PER_CLASS:
                of_class = rows[which == code]
                first[of_class[: MIN_PER_CLASS - before]] = True
                self.seen[name] = before + len(of_class)
        return first
