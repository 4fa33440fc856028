"""An iterator over the chunks of a stream that can stop and go on.

Shapes: n samples of a chunk.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.order import take
from mmgraph.data.stream.source import Piece, Span, deal_spans
from mmgraph.errors import DataError

if TYPE_CHECKING:
    from mmgraph.data.stream.stream import MultimodalStream

MAX_CHUNK = 2048
AT_ONCE = 4  # row groups that are read in turns where samples are shuffled


class Chunks(Iterator[MultimodalData]):
    """Chunks of a stream, which can stop and go on where they were.

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

    def __iter__(self) -> "Chunks":
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

    def spans(self) -> list[Span]:
        """Return what is read in the present pass, in its order."""
        order = np.arange(self.stream.num_parts)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        return deal_spans(self.stream.spans(order), *self.lane)

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
