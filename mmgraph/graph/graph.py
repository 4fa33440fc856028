"""Typed nodes of a batch and the relations between them.

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
    """Rows by node type, as views of one table.

    Attributes:
        table: ``[..., N, D]`` rows of all types, type after type.
    """

    def __init__(self, table: Tensor, counts: Mapping[str, int]) -> None:
        parts = torch.split_with_sizes(table, list(counts.values()), -2)
        super().__init__(zip(counts, parts, strict=True))
        self.table = table


@dataclass(frozen=True)
class Graph:
    """Graphs of all samples of a batch, with their nodes in one table.

    Layouts and row ranges are computed on first use and cached.

    Attributes:
        nodes: Node sets by type, in the order of the table.
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
        """Rows of each type in the table."""
        return self.rows_among(self.nodes)

    def rows_among(self, types: Collection[str]) -> dict[str, slice]:
        """Return the rows of each type in a table of only these types.

        The order is that of the graph, whatever the order of ``types``.
        """
        rows, first = {}, 0
        for name in self.nodes:
            if name in types:
                rows[name] = slice(first, first + self.nodes[name].num_nodes)
                first = rows[name].stop
        return rows

    def split(self, table: Tensor, types: Iterable[str]) -> TypedRows:
        """Split a table ``[..., N, D]`` that holds these types in this order."""
        return TypedRows(table, {name: self.nodes[name].num_nodes for name in types})

    def reorder(
        self, table: Tensor, types: Sequence[str], selected: Sequence[str]
    ) -> Tensor:
        """Select and order types of a table.

        Args:
            table: ``[..., N, D]`` rows of ``types``, in this order.
            types: Node types of the table.
            selected: Types of the result, in order; a type may occur repeatedly.

        Returns:
            ``[..., N', D]``.
        """
        if tuple(types) == tuple(selected):
            return table
        parts = self.split(table, types)
        return torch.cat([parts[name] for name in selected], -2)

    def layout(self, types: tuple[str, ...]) -> Layout:
        """Return the dense layout of the nodes of some types."""
        if types not in self._layouts:
            self._layouts[types] = lay_out(
                [self.nodes[name] for name in types], self.num_samples
            )
        return self._layouts[types]

    def bounds(self, types: tuple[str, ...], among: tuple[str, ...]) -> Tensor:
        """Return ``[types, B + 1]``: the first row of each sample, and the end.

        Requires the compiled kernels; the result is on the CPU.

        Args:
            types: Node types whose rows are located.
            among: Node types of the table in which they are located.
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

    def receive_only_rows(self, types: tuple[str, ...]) -> Tensor | None:
        """Return ``[N]`` Bool of a table of these types; None if every node sends."""
        nodes = [self.nodes[name] for name in self.rows_among(types)]
        if all(n.receive_only is None for n in nodes):
            return None
        return torch.cat([n.sends_to == n.num_samples for n in nodes])

    def pack(
        self, targets: tuple[str, ...], sources: tuple[str, ...]
    ) -> Packing | None:
        """Return the packed layout of targets and sources, if it pays.

        None where :meth:`layout` is as fast or required: few pairs of slots are empty,
        some sources are receive-only or have a reliability, or the model is being
        compiled, because packed sizes depend on the content of the batch.
        """
        both = targets, sources
        if both not in self._packings:
            self._packings[both] = self._pack(targets, sources)
        return self._packings[both]

    def _pack(
        self, targets: tuple[str, ...], sources: tuple[str, ...]
    ) -> Packing | None:
        target_sets = [self.nodes[name] for name in targets]
        source_sets = [self.nodes[name] for name in sources]
        if torch.compiler.is_compiling() or any(
            n.receive_only is not None or n.log_reliability is not None
            for n in source_sets
        ):
            return None
        if count_gaps(target_sets, source_sets, self.num_samples) <= MIN_GAPS:
            return None
        return pack(
            [n.sample for n in target_sets],
            [n.sample for n in source_sets],
            self.num_samples,
        )

    def edges(self, relation: Relation) -> Tensor:
        """Return ``edge_index [2, E]`` of table rows, sorted by target, then source.

        Receive-only sources have no edges.

        Raises:
            SchemaError: If the function of a Custom topology returns invalid edges.
        """
        source, target = self.nodes[relation.source], self.nodes[relation.target]
        if isinstance(relation.topology, Custom):
            src, dst = custom_edges(relation, source, target)
        else:
            start, stop = ranges(relation.topology, source, target)
            dst, src = ranges_to_rows(start, stop)
        if source.receive_only is not None:
            sends = ~source.receive_only[src]
            src, dst = src[sends], dst[sends]
        first_src = self.rows[relation.source].start
        first_dst = self.rows[relation.target].start
        return torch.stack([src + first_src, dst + first_dst])

    def mask(self, relation: Relation) -> Tensor | None:
        """Return the Bool adjacency ``[B, S_target, S_source]``; None if complete."""
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
        """Return the times of the nodes of a type, ``[B, S]``; 0 in empty slots."""
        nodes = self.nodes[name]
        if nodes.time is None:
            raise AssertionError(f"node type {name!r} has no time")
        slot = nodes.sample * nodes.width + nodes.position
        flat = to_slots(nodes.time[:, None], slot, self.num_samples * nodes.width)
        return flat.view(self.num_samples, nodes.width)
