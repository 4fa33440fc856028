"""Where a stream reads: numbered parts that can be read in any order.

Shapes: n samples of a piece.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mmgraph.data.column import IntArray
from mmgraph.data.multimodal import MultimodalData


class Piece(NamedTuple):
    """Consecutive samples of one part.

    Attributes:
        data: the n samples.
        keys: ``[n]`` int64 numbers of the samples, unique in the source and the same
            in whatever order it is read.
    """

    data: MultimodalData
    keys: IntArray


@dataclass(frozen=True)
class RowRange:
    """Some samples of a part: every ``step``-th from ``start`` up to ``stop``.

    Attributes:
        part: number of the part.
        start: first sample.
        stop: behind the last sample; None is the end of the part, where it is unknown.
        step: distance of the samples; above 1 only where ``stop`` is None.
    """

    part: int
    start: int
    stop: int | None
    step: int = 1


@runtime_checkable
class Source(Protocol):
    """Parts of samples, read forward; the order of samples never changes."""

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Samples of each part; None where that is unknown."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""

    @property
    def schema(self) -> Any:  # noqa: ANN401
        """The schema that was given to the data; None where it is inferred."""

    def name_of(self, part: int) -> str:
        """Return what to call a part in messages of errors."""

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a span in pieces of at most ``size``."""


def spans_of(sizes: tuple[int | None, ...], order: IntArray) -> list[RowRange]:
    """Return whole parts, whose sizes are None where unknown, in an order."""
    return [RowRange(part, 0, sizes[part]) for part in order.tolist()]


def count_samples(spans: Sequence[RowRange]) -> int | None:
    """Return how many samples spans have together; None where that is unknown."""
    total = 0
    for span in spans:
        if span.stop is None:
            return None
        total += span.stop - span.start
    return total


def shard_ranges(
    spans: Sequence[RowRange], rank: int, world_size: int
) -> list[RowRange]:
    """Return the spans of one of several readers; together they read all, once.

    Spans are dealt out whole and in turn. Where there are fewer of them than readers,
    each reads its share of every one.

    Args:
        spans: in the order of reading, the same for all readers.
        rank: number of the reader.
        world_size: number of readers.
    """
    if len(spans) >= world_size:
        return list(spans[rank::world_size])
    return [_divide(span, rank, world_size) for span in spans]


def _divide(span: RowRange, rank: int, world_size: int) -> RowRange:
    if span.stop is None:
        start = span.start + rank * span.step
        return replace(span, start=start, step=span.step * world_size)
    size = span.stop - span.start
    low, high = (span.start + size * r // world_size for r in (rank, rank + 1))
    return replace(span, start=low, stop=high)


def hash_keys(keys: IntArray, seed: int) -> Any:  # noqa: ANN401
    """Map numbers to uniform uint64, as good as random and the same everywhere.

    References:
        Fast Splittable Pseudorandom Number Generators, Steele, Lea, Flood, 2014
        (the finaliser of SplitMix64).
    """
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
