"""Slots of packed rows, and bucketing of samples with similar numbers of rows.

Letters: ``B`` samples, ``N`` rows, ``S`` slots per sample, ``D`` width. The sample is
    the
fastest axis of slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.ops import invert, move_rows

BUCKET_COST = 4096  # empty pairs of slots that cost as much as one more bucket
MIN_GAPS = 16384  # empty pairs of slots above which packing pays


@dataclass(frozen=True)
class Slots:
    """Assignment of rows to flat slots.

    Attributes:
        slot: ``[N]`` flat slot of each row.
        row: Row of each flat slot, ``N`` where it is empty.
    """

    slot: Tensor
    row: Tensor

    @classmethod
    def of(cls, slot: Tensor, num_slots: int) -> "Slots":
        """Return the assignment of rows to these distinct slots."""
        return cls(slot, invert(slot, num_slots))

    def spread(self, rows: Tensor) -> Tensor:
        """Return rows ``[..., N, D]`` in flat slots; an empty slot is zero."""
        return move_rows(rows, self.row, self.slot)

    def gather(self, flat: Tensor) -> Tensor:
        """Return the rows ``[..., N, D]`` of flat slots."""
        return move_rows(flat, self.slot, self.row)


class Bucket(NamedTuple):
    """Samples with similar numbers of rows, padded to the same numbers of slots.

    Attributes:
        num_samples: Samples of the bucket.
        num_targets: Target slots of each sample.
        num_sources: Source slots of each sample.
    """

    num_samples: int
    num_targets: int
    num_sources: int

    @property
    def area(self) -> int:
        """Number of pairs of target and source slots."""
        return self.num_samples * self.num_targets * self.num_sources

    def merge(self, other: "Bucket") -> "Bucket":
        """Return one bucket for the samples of both."""
        return Bucket(
            self.num_samples + other.num_samples,
            max(self.num_targets, other.num_targets),
            max(self.num_sources, other.num_sources),
        )


@dataclass(frozen=True)
class Packing:
    """Packed layout: the rows of each sample without gaps between types.

    The slots of the buckets follow each other.

    Attributes:
        buckets: At least one.
        targets: Slots of the target rows.
        sources: Slots of the source rows.
        target_type: Index of the type in each target slot; arbitrary in an empty one.
        source_type: Index of the type in each source slot; an empty one has the index
            after the last type.
    """

    buckets: list[Bucket]
    targets: Slots
    sources: Slots
    target_type: Tensor
    source_type: Tensor


def pack(
    targets: Sequence[Tensor], sources: Sequence[Tensor], num_samples: int
) -> Packing:
    """Assign rows to slots of buckets of samples with similar numbers of rows.

    Samples are sorted by their numbers of rows, and split into buckets where that saves
    more empty pairs of slots than a bucket costs.

    Args:
        targets: Ascending sample indices of the target rows, by type.
        sources: Ascending sample indices of the source rows, by type.
        num_samples: ``B``.
    """
    target_cells = _Cells(targets, num_samples)
    source_cells = _Cells(sources, num_samples)
    stride = num_samples and int(target_cells.total.amax()) + 1
    order = (source_cells.total * stride + target_cells.total).argsort(descending=True)
    buckets = plan_buckets(
        target_cells.total[order].tolist(), source_cells.total[order].tolist()
    )
    sizes = torch.tensor([b.num_samples for b in buckets], device=order.device)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(num_samples, device=order.device) - first
    size = torch.empty_like(order)
    size[order] = sizes.repeat_interleave(sizes)

    def assign(cells: "_Cells", widths: list[int], fill: int) -> tuple[Slots, Tensor]:
        areas = [w * b.num_samples for w, b in zip(widths, buckets, strict=True)]
        starts = torch.tensor(areas, device=order.device)
        start = torch.empty_like(order)
        start[order] = (starts.cumsum(0) - starts).repeat_interleave(sizes)
        slot = (start + rank)[cells.sample] + cells.position * size[cells.sample]
        kind = torch.full((sum(areas),), fill, device=order.device)
        return Slots.of(slot, sum(areas)), kind.index_copy_(0, slot, cells.type)

    target_slots, target_type = assign(
        target_cells, [b.num_targets for b in buckets], 0
    )
    source_slots, source_type = assign(
        source_cells, [b.num_sources for b in buckets], len(sources)
    )
    return Packing(buckets, target_slots, source_slots, target_type, source_type)


class _Cells:
    """Rows of several types, and their numbers by sample.

    Attributes:
        sample: ``[N]`` sample of each row.
        type: ``[N]`` index of the type of each row.
        position: ``[N]`` index of each row among the rows of its sample.
        total: ``[B]`` number of rows of each sample.
    """

    def __init__(self, samples: Sequence[Tensor], num_samples: int) -> None:
        self.sample = torch.cat(list(samples))
        numbers = torch.arange(len(samples), device=self.sample.device)
        lengths = torch.tensor([len(s) for s in samples], device=self.sample.device)
        self.type = numbers.repeat_interleave(lengths)
        cell = self.sample + self.type * num_samples
        counts = torch.bincount(cell, minlength=len(samples) * num_samples)
        first_row = counts.cumsum(0) - counts
        table = counts.view(len(samples), num_samples)
        before = (table.cumsum(0) - table).flatten()
        rows = torch.arange(len(cell), device=cell.device)
        self.position = rows + (before - first_row)[cell]
        self.total = table.sum(0)


def plan_buckets(targets: list[int], sources: list[int]) -> list[Bucket]:
    """Split sorted samples into buckets.

    Splits recursively where that saves the most empty pairs of slots, as long as it
    saves more than ``BUCKET_COST``.

    Args:
        targets: Number of target rows of each sample, in descending order.
        sources: Number of source rows of each sample.
    """
    alike = groupby(zip(targets, sources, strict=True))
    return _split([Bucket(sum(1 for _ in same), *key) for key, same in alike])


def _split(buckets: list[Bucket]) -> list[Bucket]:
    if len(buckets) < 2:
        return buckets
    heads = list(accumulate(buckets, Bucket.merge))
    tails = list(accumulate(reversed(buckets), Bucket.merge))[::-1]
    areas = [h.area + t.area for h, t in zip(heads, tails[1:], strict=False)]
    least = min(areas)
    if least + BUCKET_COST > heads[-1].area:
        return [heads[-1]]
    cut = areas.index(least) + 1
    return _split(buckets[:cut]) + _split(buckets[cut:])
