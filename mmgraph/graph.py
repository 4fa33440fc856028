"""Relations on a batch: the nodes of every sample, in slots or joined by edges.

Letters: ``B`` samples, ``N`` nodes, ``E`` edges, ``S`` slots a sample. All nodes of a
batch stand in one table: type by type, and by sample within a type.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, singledispatch

import torch
from torch import Tensor

from mmgraph.errors import SchemaError
from mmgraph.ops import from_slots, offsets_of, position_in, ranges_to_rows, to_slots
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
        most: No sample has more nodes than that, where it is known beforehand. A
            set of ``B * most`` nodes has them all, and takes no look at its content.
    """

    sample: Tensor
    num_samples: int
    time: Tensor | None = None
    silent: Tensor | None = None
    log_reliability: Tensor | None = None
    most: int | None = None

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def num_nodes(self) -> int:
        """``N``; stays symbolic while a model is exported, unlike ``len``."""
        return self.sample.shape[0]

    @property
    def heard_in(self) -> Tensor:
        """``[N]`` sample in which a node is heard: ``B``, which is none, if silent."""
        if self.silent is None:
            return self.sample
        return torch.where(self.silent, self.num_samples, self.sample)

    @property
    def is_even(self) -> bool:
        """Every sample has exactly ``width`` nodes."""
        return bool(self.num_nodes == self.num_samples * self.width)

    @cached_property
    def offsets(self) -> Tensor:
        """``[B + 1]`` first row of every sample, and the end."""
        return offsets_of(self.sample, self.num_samples)

    @property
    def position(self) -> Tensor:
        """``[N]`` place of each node within its sample."""
        if self.width <= 1:
            return torch.zeros_like(self.sample)
        if self.is_even:
            rows = torch.arange(self.num_nodes, device=self.sample.device)
            return rows - self.sample * self.width
        return position_in(self.sample, self.num_samples)

    @property
    def width(self) -> int:
        """Slots that a sample needs: ``most``, or the largest number of nodes."""
        return self._counted if self.most is None else self.most

    @cached_property
    def _counted(self) -> int:
        return int((self.offsets[1:] - self.offsets[:-1]).amax()) if len(self) else 0


class TypedRows(dict[str, Tensor]):
    """Rows by type, which are views of one table.

    Attributes:
        table: ``[..., N, D]`` rows of all types, one after the other.
    """

    def __init__(self, table: Tensor, counts: Mapping[str, int]) -> None:
        parts = table.split(list(counts.values()), -2)
        super().__init__(zip(counts, parts, strict=True))
        self.table = table


@dataclass(frozen=True)
class Layout:
    """Where the nodes of some types lie when every sample has the same slots.

    Slots of one place follow each other sample by sample, so that types with one node
    in every sample lie in their slots already.

    Attributes:
        slot: ``[N]`` slot of each node in the flat ``[S * B]`` order, type by type;
            None where that is the order of the nodes.
        num_samples: ``B``.
        widths: Slots of each type; ``S`` is their sum.
        sends: ``[S, B]`` Bool: the slot holds a node that sends; None where all do.
        log_reliability: ``[..., S, B]``, or None where every node is observed.
    """

    slot: Tensor | None
    num_samples: int
    widths: tuple[int, ...]
    sends: Tensor | None
    log_reliability: Tensor | None

    @property
    def num_slots(self) -> int:
        """``S``."""
        return sum(self.widths)

    @property
    def block(self) -> tuple[int, ...]:
        """The number of the type in each slot, ``S`` of them."""
        return tuple(i for i, width in enumerate(self.widths) for _ in range(width))

    def spread(self, rows: Tensor) -> Tensor:
        """Lay rows ``[..., N, D]`` out as ``[..., S, B, D]``; an empty slot is zero."""
        num_flat = self.num_slots * self.num_samples
        flat = rows if self.slot is None else to_slots(rows, self.slot, num_flat)
        return flat.unflatten(-2, (self.num_slots, self.num_samples))

    def gather(self, slots: Tensor) -> Tensor:
        """Return the rows ``[..., N, D]`` that lie in slots ``[..., S, B, D]``."""
        flat = slots.flatten(-3, -2)
        return flat if self.slot is None else from_slots(flat, self.slot)


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

    @property
    def rows(self) -> dict[str, slice]:
        """The rows of the table that belong to each type."""
        rows, first = {}, 0
        for name, nodes in self.nodes.items():
            rows[name] = slice(first, first + nodes.num_nodes)
            first += nodes.num_nodes
        return rows

    def rows_among(self, types: Collection[str]) -> dict[str, slice]:
        """The rows of a table of these types alone, in the order of the graph."""
        rows, first = {}, 0
        for name in self.nodes:
            if name in types:
                rows[name] = slice(first, first + self.nodes[name].num_nodes)
                first = rows[name].stop
        return rows

    def split(self, table: Tensor, types: Iterable[str]) -> TypedRows:
        """Split a table ``[..., N, D]`` of these types, in this order, by type."""
        return TypedRows(table, {name: self.nodes[name].num_nodes for name in types})

    def reorder(
        self, table: Tensor, types: Sequence[str], wanted: Sequence[str]
    ) -> Tensor:
        """Turn a table of these types into one of others among them."""
        if tuple(types) == tuple(wanted):
            return table
        parts = self.split(table, types)
        return torch.cat([parts[name] for name in wanted], -2)

    def layout(self, types: tuple[str, ...]) -> Layout:
        """Lay the nodes of some types out in slots; computed once a graph."""
        if types not in self._layouts:
            self._layouts[types] = self._lay_out(types)
        return self._layouts[types]

    def _lay_out(self, types: tuple[str, ...]) -> Layout:
        sets = [self.nodes[name] for name in types]
        widths = tuple(nodes.width for nodes in sets)
        if all(nodes.is_even and nodes.width == 1 for nodes in sets):
            slot = None
        else:
            slot = torch.cat(
                [
                    nodes.sample + (nodes.position + start) * self.num_samples
                    for nodes, start in zip(sets, _starts(widths), strict=True)
                ]
            )
        return Layout(
            slot,
            self.num_samples,
            widths,
            self._senders(sets, slot, sum(widths)),
            self._reliability(sets, slot, sum(widths)),
        )

    def _senders(
        self, sets: list[NodeSet], slot: Tensor | None, num_slots: int
    ) -> Tensor | None:
        """Return ``[S, B]`` Bool: who sends; None where all do."""
        quiet = any(nodes.silent is not None for nodes in sets)
        if not quiet and all(nodes.is_even for nodes in sets):
            return None
        sends = torch.cat(
            [
                torch.ones_like(nodes.sample, dtype=torch.bool)
                if nodes.silent is None
                else ~nodes.silent
                for nodes in sets
            ]
        )
        if slot is not None:
            empty = sends.new_zeros(num_slots * self.num_samples)
            sends = empty.index_copy(0, slot, sends)
        return sends.view(num_slots, self.num_samples)

    def _reliability(
        self, sets: list[NodeSet], slot: Tensor | None, num_slots: int
    ) -> Tensor | None:
        given = [nodes.log_reliability for nodes in sets]
        some = next((value for value in given if value is not None), None)
        if some is None:
            return None
        rows = [
            some.new_zeros(*some.shape[:-1], nodes.num_nodes)
            if value is None
            else value
            for nodes, value in zip(sets, given, strict=True)
        ]
        flat = torch.cat(rows, -1)[..., None]
        if slot is not None:
            flat = to_slots(flat, slot, num_slots * self.num_samples)
        return flat[..., 0].unflatten(-1, (num_slots, self.num_samples))

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


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:i]) for i in range(len(widths))]


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
