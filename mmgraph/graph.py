"""Relations on a batch: the nodes of every sample, in slots or joined by edges.

Letters: ``B`` samples, ``N`` nodes, ``E`` edges, ``S`` slots a sample. All nodes of a
batch stand in one table: type by type, and by sample within a type.
"""

from dataclasses import dataclass, field
from functools import cached_property, singledispatch

import torch
from torch import Tensor

from mmgraph.errors import SchemaError
from mmgraph.ops import (
    filled_slots,
    offsets_of,
    position_in,
    ranges_to_rows,
    to_slots,
)
from mmgraph.schema import Custom, Full, KNearest, Relation, SameIndex, TimeWindow


@dataclass(frozen=True)
class NodeSet:
    """The nodes of one type.

    Attributes:
        sample: ``[N]`` ascending sample number of each node.
        num_samples: ``B``.
        time: ``[N]`` seconds, ascending within a sample, or None.
        silent: ``[N]`` Bool, True for ghosts, which receive but do not send; or None.
        log_reliability: ``[..., N]`` at most 0, added to the logits of what is sent;
            None stands for 0.
    """

    sample: Tensor
    num_samples: int
    time: Tensor | None = None
    silent: Tensor | None = None
    log_reliability: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sample)

    @cached_property
    def offsets(self) -> Tensor:
        """``[B + 1]`` first row of every sample, and the end."""
        return offsets_of(self.sample, self.num_samples)

    @cached_property
    def position(self) -> Tensor:
        """``[N]`` place of each node within its sample."""
        return position_in(self.sample, self.num_samples)

    @cached_property
    def width(self) -> int:
        """Largest number of nodes of a sample."""
        return int((self.offsets[1:] - self.offsets[:-1]).amax()) if len(self) else 0


@dataclass(frozen=True)
class Layout:
    """Where the nodes of some types lie when every sample has the same slots.

    Attributes:
        slot: ``[N]`` slot of each node in the flat ``[B * S]`` order, type by type.
        num_slots: ``S``.
        sends: ``[B, S]`` Bool: the slot holds a node that sends.
        log_reliability: ``[..., B, S]``, or None where every node is observed.
        block: ``[S]`` number of the type in each slot.
    """

    slot: Tensor
    num_slots: int
    sends: Tensor
    log_reliability: Tensor | None
    block: Tensor


@dataclass(frozen=True)
class Graph:
    """Every sample's graph: typed nodes in one table, and relations between them.

    Attributes:
        nodes: Node sets in the order of the table.
        num_samples: ``B``.
    """

    nodes: dict[str, NodeSet]
    num_samples: int
    _layouts: dict[tuple[str, ...], Layout] = field(default_factory=dict, repr=False)

    @cached_property
    def rows(self) -> dict[str, slice]:
        """The rows of the table that belong to each type."""
        rows, first = {}, 0
        for name, nodes in self.nodes.items():
            rows[name] = slice(first, first + len(nodes))
            first += len(nodes)
        return rows

    def layout(self, types: tuple[str, ...]) -> Layout:
        """Lay the nodes of some types out in slots; computed once a graph."""
        if types not in self._layouts:
            self._layouts[types] = self._lay_out(types)
        return self._layouts[types]

    def _lay_out(self, types: tuple[str, ...]) -> Layout:
        sets = [self.nodes[name] for name in types]
        widths = [nodes.width for nodes in sets]
        total = sum(widths)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        slot = torch.cat(
            [
                nodes.sample * total + nodes.position + start
                for nodes, start in zip(sets, starts, strict=True)
            ]
        )
        silent = [
            nodes.silent
            if nodes.silent is not None
            else torch.zeros_like(nodes.sample, dtype=torch.bool)
            for nodes in sets
        ]
        num_flat = self.num_samples * total
        sends = filled_slots(slot[~torch.cat(silent)], num_flat)
        block = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        return Layout(
            slot,
            total,
            sends.view(self.num_samples, total),
            _reliability_slots(sets, slot, self.num_samples, total),
            block.to(slot.device),
        )

    def edges(self, relation: Relation) -> Tensor:
        """Return ``edge_index [2, E]`` of table rows, sorted by target, then source."""
        source, target = self.nodes[relation.source], self.nodes[relation.target]
        if isinstance(relation.topology, Custom):
            src, dst = _custom_edges(relation, source, target)
        else:
            start, stop = ranges(relation.topology, source, target)
            dst, src = ranges_to_rows(start, stop)
        if source.silent is not None:
            heard = ~source.silent[src]
            src, dst = src[heard], dst[heard]
        first_src = self.rows[relation.source].start
        first_dst = self.rows[relation.target].start
        return torch.stack([src + first_src, dst + first_dst])

    def mask(self, relation: Relation) -> Tensor | None:
        """Return ``[B, S_target, S_source]`` Bool edges, or None where all are."""
        if isinstance(relation.topology, Full):
            return None
        source, target = self.nodes[relation.source], self.nodes[relation.target]
        shape = (self.num_samples, target.width, source.width)
        mask = torch.zeros(shape, dtype=torch.bool, device=source.sample.device)
        src, dst = self.edges(relation)
        src = src - self.rows[relation.source].start
        dst = dst - self.rows[relation.target].start
        mask[target.sample[dst], target.position[dst], source.position[src]] = True
        return mask

    def time_slots(self, name: str) -> Tensor:
        """Return the times of a type's nodes in slots, ``[B, S]``; empty ones are 0."""
        nodes = self.nodes[name]
        if nodes.time is None:
            raise AssertionError(f"node type {name!r} has no time")
        slot = nodes.sample * nodes.width + nodes.position
        flat = to_slots(nodes.time[:, None], slot, self.num_samples * nodes.width)
        return flat.view(self.num_samples, nodes.width)


def _reliability_slots(
    sets: list[NodeSet], slot: Tensor, num_samples: int, num_slots: int
) -> Tensor | None:
    given = [nodes.log_reliability for nodes in sets]
    some = next((value for value in given if value is not None), None)
    if some is None:
        return None
    rows = [
        some.new_zeros(*some.shape[:-1], len(nodes)) if value is None else value
        for nodes, value in zip(sets, given, strict=True)
    ]
    flat = to_slots(torch.cat(rows, -1)[..., None], slot, num_samples * num_slots)
    return flat.reshape(*some.shape[:-1], num_samples, num_slots)


def _custom_edges(
    relation: Relation, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    """Call the user's function; order its edges and refuse impossible ones."""
    assert isinstance(relation.topology, Custom)
    edge_index = relation.topology.function(source, target)
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.is_floating_point():
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must return whole numbers "
            f"of shape [2, E], got {edge_index.dtype} of shape "
            f"{list(edge_index.shape)}."
        )
    src, dst = edge_index.long()
    in_range = (src >= 0) & (src < len(source)) & (dst >= 0) & (dst < len(target))
    if not bool(in_range.all()):
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must return rows below "
            f"{len(source)} (source) and {len(target)} (target), got others."
        )
    if not bool((source.sample[src] == target.sample[dst]).all()):
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must join nodes of one "
            "sample, got an edge between two samples."
        )
    key = torch.unique(dst * max(len(source), 1) + src)
    return key % max(len(source), 1), key // max(len(source), 1)


@singledispatch
def ranges(topology: object, source: NodeSet, target: NodeSet) -> tuple[Tensor, Tensor]:
    """Return the first source row of each target node and the end, ``[N]`` both.

    Rows of a sample are sorted, so what a target node hears is a range.
    """
    raise AssertionError(f"topology {topology!r} has no ranges")


@ranges.register
def _full(_: Full, source: NodeSet, target: NodeSet) -> tuple[Tensor, Tensor]:
    return source.offsets[target.sample], source.offsets[target.sample + 1]


@ranges.register
def _same_index(
    _: SameIndex, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    start = source.offsets[target.sample] + target.position
    return start, torch.minimum(start + 1, source.offsets[target.sample + 1])


@ranges.register
def _time_window(
    topology: TimeWindow, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    assert source.time is not None
    assert target.time is not None
    low, high = target.time - topology.seconds, target.time + topology.seconds
    start = _first_row_at(source, target.sample, low, right=False)
    return start, _first_row_at(source, target.sample, high, right=True)


@ranges.register
def _k_nearest(
    topology: KNearest, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    """The k nearest of sorted times are neighbours: move a window until it fits.

    The window moves on while its first row is farther away than the row after its
    last. Of rows at the same time, those that keep the window whole are taken.
    """
    assert source.time is not None
    assert target.time is not None
    first = source.offsets[target.sample]
    end = source.offsets[target.sample + 1]
    k = torch.minimum(torch.full_like(first, topology.k), end - first)
    here = _first_row_at(source, target.sample, target.time, right=False)
    start = torch.minimum(torch.maximum(here - topology.k, first), end - k)
    leaving = start[:, None] + torch.arange(topology.k, device=first.device)  # [N, k]
    entering = leaving + k[:, None]
    now = target.time[:, None]
    farther = now - _times(source, leaving) > _times(source, entering) - now
    start = start + (farther & (entering < end[:, None])).sum(1)
    return start, start + k


def _times(source: NodeSet, rows: Tensor) -> Tensor:
    """Times of rows; a row past the end reads as zero (its range is empty)."""
    assert source.time is not None
    if not len(source):
        return torch.zeros_like(rows, dtype=source.time.dtype)
    return source.time[rows.clamp(max=len(source) - 1)]


def _first_row_at(
    source: NodeSet, sample: Tensor, time: Tensor, *, right: bool
) -> Tensor:
    """Return the first row of the sample not before (``right``: after) the time."""
    assert source.time is not None
    low, high = source.offsets[sample].clone(), source.offsets[sample + 1].clone()
    for _ in range(max(source.width, 1).bit_length()):  # bisection, all at once
        middle = (low + high) // 2
        value = _times(source, middle)
        before = (value <= time) if right else (value < time)
        open_ = low < high
        low = torch.where(open_ & before, middle + 1, low)
        high = torch.where(open_ & ~before, middle, high)
    return low
