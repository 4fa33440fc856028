"""Shuffled reading of a stream: interleaved row ranges in windows of fixed size.

Shapes: n samples of a window.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mmgraph.data.column import IntArray
from mmgraph.data.concat import concat_columns
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.source import Piece, RowRange, Source
from mmgraph.data.targets import concat_metadata

Claim = Callable[[], Piece]


class Cursor:
    """Lazy forward reader of a row range.

    Args:
        source: Source to read.
        span: Row range of the source.
        size: Number of samples that are decoded at once.
    """

    def __init__(self, source: Source, span: RowRange, size: int) -> None:
        self.source, self.span, self.size = source, span, size
        self.claimed = span.start
        self.reader: Iterator[Piece] | None = None
        self.rest: Piece | None = None

    def claim(self, num: int) -> tuple[int, Claim]:
        """Reserve the next samples for reading.

        If the size of the range is known, reserved samples are decoded only when they,
        or later samples of the range, are read.

        Args:
            num: Number of samples to reserve.

        Returns:
            Number of reserved samples, 0 at the end, and a function that reads them.
        """
        if self.span.stop is None:
            piece = self._take(num)
            return len(piece.keys), lambda: piece
        start = self.claimed
        num = min(num, self.span.stop - start)
        self.claimed += num
        return num, lambda: self._take_at(start, num)

    def _take_at(self, start: int, num: int) -> Piece:
        if self.reader is None:
            span = RowRange(self.span.part, start, self.span.stop)
            self.reader = self.source.read(span, self.size)
        return self._take(num)

    def _take(self, num: int) -> Piece:
        if self.reader is None:
            self.reader = self.source.read(self.span, self.size)
        if self.rest is None or not len(self.rest.keys):
            self.rest = next(self.reader, self.rest)
        if self.rest is None:
            return EMPTY
        taken, self.rest = split_piece(self.rest, num)
        if len(taken.keys) < num and len(taken.keys):
            more = self._take(num - len(taken.keys))
            taken = concat_pieces([taken, more]) if len(more.keys) else taken
        return taken


EMPTY = Piece(MultimodalData({}, np.empty(0)), np.empty(0, dtype=np.int64))


def read_windows(
    source: Source,
    spans: Sequence[RowRange],
    *,
    window: int,
    size: int,
    at_once: int,
    skip: int = 0,
) -> Iterator[Piece]:
    """Yield windows of exactly ``window`` samples; the last may be smaller.

    Args:
        source: Source to read.
        spans: Row ranges in the order in which they are opened.
        window: Number of samples of a window.
        size: Number of samples that are read from a range before the next range.
        at_once: Number of ranges that are open at the same time.
        skip: Number of windows to skip; ranges inside them are never opened.
    """
    waiting = deque(Cursor(source, span, size) for span in spans)
    opened = deque(waiting.popleft() for _ in range(min(at_once, len(waiting))))
    while opened:
        claims: list[Claim] = []
        total = 0
        while opened and total < window:
            cursor = opened.popleft()
            num, claim = cursor.claim(min(size, window - total))
            if num:
                total += num
                claims.append(claim)
                opened.append(cursor)
            elif waiting:
                opened.append(waiting.popleft())
        if skip:
            skip -= 1
        elif claims:
            yield concat_pieces([claim() for claim in claims])


def split_piece(piece: Piece, num: int) -> tuple[Piece, Piece]:
    """Return the first ``num`` samples of a piece, and the remaining ones."""
    if num >= len(piece.keys):
        return piece, take_samples(piece, slice(0, 0))
    return take_samples(piece, slice(0, num)), take_samples(piece, slice(num, None))


def take_samples(piece: Piece, rows: IntArray | slice) -> Piece:
    """Return a selection of the samples of a piece."""
    return Piece(piece.data[rows], piece.keys[rows])


def concat_pieces(pieces: Sequence[Piece]) -> Piece:
    """Concatenate pieces, without checking again that ids are unique."""
    if len(pieces) == 1:
        return pieces[0]
    parts = [piece.data for piece in pieces]
    columns = {
        name: concat_columns(name, [part.columns[name] for part in parts])
        for name in parts[0].columns
    }
    ids = concat_metadata("ids", [part.ids for part in parts])
    assert ids is not None
    data = MultimodalData(
        columns,
        ids=ids,
        y=concat_metadata("y", [part.y for part in parts]),
        groups=concat_metadata("groups", [part.groups for part in parts]),
        split_name=concat_metadata("split_name", [part.split_name for part in parts]),
        given_schema=parts[0].given_schema,
    )
    return Piece(data, np.concatenate([piece.keys for piece in pieces]))
