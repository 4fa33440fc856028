"""In which order a stream is read: spans in turns, windows of an exact size.

Shapes: n samples of a window.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mmgraph.data.column import IntArray, concat_columns
from mmgraph.data.multimodal import MultimodalData
from mmgraph.data.stream.source import Piece, RowRange, Source
from mmgraph.data.targets import concat_metadata

Claim = Callable[[], Piece]


class Cursor:
    """A span that is read forward, and opened only when something of it is read.

    Args:
        source: what is read.
        span: which samples of it.
        size: samples that are decoded at a time.
    """

    def __init__(self, source: Source, span: RowRange, size: int) -> None:
        self.source, self.span, self.size = source, span, size
        self.claimed = span.start
        self.reader: Iterator[Piece] | None = None
        self.rest: Piece | None = None

    def claim(self, num: int) -> tuple[int, Claim]:
        """Reserve the next samples; return how many there are, and how to read them.

        Where the size of the span is known, what is never read is not decoded unless
        something behind it in the span is. Without samples left the number is 0.
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
        taken, self.rest = cut(self.rest, num)
        if len(taken.keys) < num and len(taken.keys):
            more = self._take(num - len(taken.keys))
            taken = join([taken, more]) if len(more.keys) else taken
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
    """Yield windows of exactly ``window`` samples (the last may be smaller).

    Args:
        source: what is read.
        spans: in the order in which they are opened.
        window: samples of a window.
        size: samples that are taken of a span before it is the next one's turn.
        at_once: spans that are open at the same time.
        skip: windows to leave out; spans that lie in them alone are never opened.
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
            yield join([claim() for claim in claims])


def cut(piece: Piece, num: int) -> tuple[Piece, Piece]:
    """Return the first samples of a piece, and the others."""
    if num >= len(piece.keys):
        return piece, take(piece, slice(0, 0))
    return take(piece, slice(0, num)), take(piece, slice(num, None))


def take(piece: Piece, rows: IntArray | slice) -> Piece:
    """Return some samples of a piece."""
    return Piece(piece.data[rows], piece.keys[rows])


def join(pieces: Sequence[Piece]) -> Piece:
    """Join pieces; that ids are unique is not checked again."""
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
