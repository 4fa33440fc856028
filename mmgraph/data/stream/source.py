"""Sources of streams: numbered parts that can be read in any order.

Shapes: n samples of a piece.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import IntArray
from mmgraph.data.multimodal import MultimodalData
from mmgraph.schema import Schema


class Piece(NamedTuple):
    """Consecutive samples of a part.

    Attributes:
        data: The n samples.
        keys: ``[n]`` int64 numbers of the samples, unique in the source and independent
            of the order of reading.
    """

    data: MultimodalData
    keys: IntArray


@dataclass(frozen=True)
class RowRange:
    """Row range of a part: every ``step``-th sample from ``start`` up to ``stop``.

    Attributes:
        part: Number of the part.
        start: First sample.
        stop: End of the range, exclusive; None for the end of a part of unknown size.
        step: Distance between samples; above 1 only if ``stop`` is None.
    """

    part: int
    start: int
    stop: int | None
    step: int = 1


@runtime_checkable
class Source(Protocol):
    """Interface of sources: parts with samples in a fixed order, read forward."""

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Number of samples of each part; None where it is unknown."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""

    @property
    def schema(self) -> Schema | None:
        """Schema that was stored or passed; None if it is inferred."""

    def name_of(self, part: int) -> str:
        """Return the name of a part for error messages."""

    def read(self, span: RowRange, size: int) -> Iterator[Piece]:
        """Yield the samples of a row range in pieces of at most ``size`` samples."""


def spans_of(sizes: tuple[int | None, ...], order: IntArray) -> list[RowRange]:
    """Return the row ranges of whole parts in a given order."""
    return [RowRange(part, 0, sizes[part]) for part in order.tolist()]


def count_samples(spans: Sequence[RowRange]) -> int | None:
    """Return the total number of samples of row ranges; None if it is unknown."""
    total = 0
    for span in spans:
        if span.stop is None:
            return None
        total += span.stop - span.start
    return total


def shard_ranges(
    spans: Sequence[RowRange], rank: int, world_size: int
) -> list[RowRange]:
    """Return the row ranges of one of several readers.

    Whole ranges are assigned in turn. If there are fewer ranges than readers, each
    range is divided among all readers. Every sample belongs to exactly one reader.

    Args:
        spans: Row ranges in the order of reading, the same for all readers.
        rank: Number of the reader, from 0.
        world_size: Number of readers.
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


def hash_keys(keys: IntArray, seed: int) -> npt.NDArray[np.uint64]:
    """Return a pseudorandom uint64 hash of each number, equal on all platforms.

    Args:
        keys: ``[n]`` numbers.
        seed: Seed of the hash.

    References:
        Fast Splittable Pseudorandom Number Generators, Steele, Lea, Flood, 2014
        (the finalizer of SplitMix64).
    """
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
