"""Nodes and relations of a batch.

Letters: ``B`` samples, ``N`` nodes, ``E`` edges, ``S`` slots per sample. All nodes of a
batch form one table: type by type, and by sample within a type.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmgraph import native
from mmgraph.graph.layout import Layout, count_gaps, lay_out
from mmgraph.graph.nodes import NodeSet
from mmgraph.graph.slots import MIN_GAPS, Packing, pack
from mmgraph.graph.topologies import custom_edges, ranges
from mmgraph.ops import ranges_to_rows, to_slots
from mmgraph.schema import Custom, Full, Relation


class TypedRows(dict[str, Tensor]):
    """Rows by type, which are views of one table.

    Attributes:
        table: ``[..., N, D]`` rows of all types, one after the other.
    """

    def __init__(self, table: Tensor, counts: Mapping[str, int]) -> None:
        parts = torch.split_with_sizes(table, list(counts.values()), -2)
        super().__init__(zip(counts, parts, strict=True))
        self.table = table


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
    _bounds: dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor] = field(
        default_factory=dict, repr=False
    )
    _packings: dict[tuple[tuple[str, ...], tuple[str, ...]], Packing | None] = field(
        default_factory=dict, repr=False
    )

    @property
    def rows(self) -> dict[str, slice]:
        """The rows of the table that belong to each type."""
        rows, first = {}, 0
        for name, nodes in self.nodes.items():
            rows[name] = slice(first, first + nodes.num_nodes)
            first = rows[name].stop
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
            self._layouts[types] = lay_out(
                [self.nodes[name] for name in types], self.num_samples
            )
        return self._layouts[types]

    def bounds(self, types: tuple[str, ...], among: tuple[str, ...]) -> Tensor:
        """Return ``[types, B + 1]``: where each sample's rows begin, and the end.

        Rows are those of the table of types ``among``; computed once a graph, on the
        CPU, where kernels are available.
        """
        both = types, among
        if both not in self._bounds:
            rows = self.rows_among(among)
            self._bounds[both] = native.row_bounds(
                [self.nodes[name].sample for name in types],
                [rows[name].start for name in types],
                self.num_samples,
            )
        return self._bounds[both]

    def silent_rows(self, types: tuple[str, ...]) -> Tensor | None:
        """Return ``[N]`` Bool of the table of these types: it is not heard."""
        nodes = [self.nodes[name] for name in self.rows_among(types)]
        if all(n.silent is None for n in nodes):
            return None
        return torch.cat([n.heard_in == n.num_samples for n in nodes])

    def pack(
        self, targets: tuple[str, ...], sources: tuple[str, ...]
    ) -> Packing | None:
        """Lay targets and sources out without gaps; computed once a graph.

        None where slots of :meth:`layout` serve as well: where few pairs of them are
        empty, some nodes do not send or do so with a reliability, or while a model is
        compiled, because sizes depend on the content of the batch.
        """
        both = targets, sources
        if both not in self._packings:
            self._packings[both] = self._pack(targets, sources)
        return self._packings[both]

    def _pack(
        self, targets: tuple[str, ...], sources: tuple[str, ...]
    ) -> Packing | None:
        hears = [self.nodes[name] for name in targets]
        heard = [self.nodes[name] for name in sources]
        if torch.compiler.is_compiling() or any(
            n.silent is not None or n.log_reliability is not None for n in heard
        ):
            return None
        if count_gaps(hears, heard, self.num_samples) <= MIN_GAPS:
            return None
        samples = [n.sample for n in hears], [n.sample for n in heard]
        return pack(*samples, self.num_samples)

    def edges(self, relation: Relation) -> Tensor:
        """Return ``edge_index [2, E]`` of table rows, sorted by target, then source."""
        source, target = self.nodes[relation.source], self.nodes[relation.target]
        if isinstance(relation.topology, Custom):
            src, dst = custom_edges(relation, source, target)
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
