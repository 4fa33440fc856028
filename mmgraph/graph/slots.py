"""Where the rows of a table lie when every sample has its slots.

Letters: ``B`` samples, ``N`` rows, ``S`` slots a sample, ``D`` width. Slots of one
place follow each other sample by sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.ops import invert, move_rows

PANEL_COST = 4096  # pairs of slots that cost as much as one more panel
MIN_GAPS = 16384  # pairs that must be empty for packing to pay


@dataclass(frozen=True)
class Slots:
    """Rows and their slots.

    Attributes:
        slot: ``[N]`` flat slot of each row.
        row: Row of each flat slot, ``N`` where it is empty.
    """

    slot: Tensor
    row: Tensor

    @classmethod
    def of(cls, slot: Tensor, num_slots: int) -> "Slots":
        """Number the slots of rows; no two rows share one."""
        return cls(slot, invert(slot, num_slots))

    def spread(self, rows: Tensor) -> Tensor:
        """Lay rows ``[..., N, D]`` out in flat slots; an empty one is zero."""
        return move_rows(rows, self.row, self.slot)

    def gather(self, flat: Tensor) -> Tensor:
        """Return the rows ``[..., N, D]`` that lie in flat slots."""
        return move_rows(flat, self.slot, self.row)


class Panel(NamedTuple):
    """Samples that have about as many rows, so that all get the same slots.

    Attributes:
        num_samples: Its samples.
        num_targets: Slots that each of them has for what hears.
        num_sources: The same for what is heard.
    """

    num_samples: int
    num_targets: int
    num_sources: int

    @property
    def area(self) -> int:
        """Pairs of slots of all its samples."""
        return self.num_samples * self.num_targets * self.num_sources

    def join(self, other: "Panel") -> "Panel":
        """Put the samples of two panels into one."""
        return Panel(
            self.num_samples + other.num_samples,
            max(self.num_targets, other.num_targets),
            max(self.num_sources, other.num_sources),
        )


@dataclass(frozen=True)
class Packing:
    """Targets and sources of all samples, each sample's without gaps between types.

    The slots of a panel follow those of the panel before.

    Attributes:
        panels: At least one.
        targets: Slots of what hears.
        sources: Slots of what is heard.
        target_type: Number of the type in each slot of targets; an empty one has any.
        source_type: The same of sources; an empty one has the number after the last.
    """

    panels: list[Panel]
    targets: Slots
    sources: Slots
    target_type: Tensor
    source_type: Tensor


def pack(
    targets: Sequence[Tensor], sources: Sequence[Tensor], num_samples: int
) -> Packing:
    """Pack rows, given the ascending sample numbers of each type.

    Samples are sorted by what they have, and cut into panels where that saves more
    pairs of empty slots than a panel costs.
    """
    hears, heard = _Cells(targets, num_samples), _Cells(sources, num_samples)
    most = num_samples and int(hears.total.amax()) + 1
    order = (heard.total * most + hears.total).argsort(descending=True)
    panels = plan_panels(hears.total[order].tolist(), heard.total[order].tolist())
    sizes = torch.tensor([p.num_samples for p in panels], device=order.device)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(num_samples, device=order.device) - first
    size = torch.empty_like(order)
    size[order] = sizes.repeat_interleave(sizes)

    def laid(cells: "_Cells", widths: list[int], fill: int) -> tuple[Slots, Tensor]:
        areas = [w * p.num_samples for w, p in zip(widths, panels, strict=True)]
        starts = torch.tensor(areas, device=order.device)
        start = torch.empty_like(order)
        start[order] = (starts.cumsum(0) - starts).repeat_interleave(sizes)
        slot = (start + rank)[cells.sample] + cells.place * size[cells.sample]
        kind = torch.full((sum(areas),), fill, device=order.device)
        return Slots.of(slot, sum(areas)), kind.index_copy_(0, slot, cells.type)

    target_slots, target_type = laid(hears, [p.num_targets for p in panels], 0)
    source_slots, source_type = laid(
        heard, [p.num_sources for p in panels], len(sources)
    )
    return Packing(panels, target_slots, source_slots, target_type, source_type)


class _Cells:
    """Rows of some types, and how many each sample has of each.

    Attributes:
        sample: ``[N]`` of each row.
        type: ``[N]`` number of its type.
        place: ``[N]`` number of the row among those of its sample.
        total: ``[B]`` rows of each sample.
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
        self.place = rows + (before - first_row)[cell]
        self.total = table.sum(0)


def plan_panels(targets: list[int], sources: list[int]) -> list[Panel]:
    """Cut sorted samples into panels, given how many rows each has of both kinds.

    Cuts in two where that saves most pairs, if it saves enough, and goes on with both.
    """
    alike = groupby(zip(targets, sources, strict=True))
    return _cut([Panel(sum(1 for _ in same), *key) for key, same in alike])


def _cut(panels: list[Panel]) -> list[Panel]:
    if len(panels) < 2:
        return panels
    heads = list(accumulate(panels, Panel.join))
    tails = list(accumulate(reversed(panels), Panel.join))[::-1]
    areas = [h.area + t.area for h, t in zip(heads, tails[1:], strict=False)]
    least = min(areas)
    if least + PANEL_COST > heads[-1].area:
        return [heads[-1]]
    cut = areas.index(least) + 1
    return _cut(panels[:cut]) + _cut(panels[cut:])
