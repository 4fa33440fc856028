"""Message passing over typed relations.

Letters: ``N`` nodes, ``B`` samples, ``S`` slots a sample, ``E`` edges, ``H`` heads,
``D`` width, ``d = D / H``. Leading axes ``...`` are the members of an ensemble.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph import Layout, Packing
from mmgraph.graph.graph import Graph, TypedRows
from mmgraph.nn.attention.dot_product import Scores, attend
from mmgraph.nn.attention.groups import RelationGroup, group_relations
from mmgraph.nn.attention.kernel import FusedAttention
from mmgraph.nn.attention.packed import attend_packed
from mmgraph.nn.attention.time_encoding import TimeEncoding
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.nn.segment_linear import map_ranges
from mmgraph.ops import gelu, segment_softmax, segment_sum
from mmgraph.schema import Custom, Full, Relation

Capacity: TypeAlias = Literal["bias", "scalar", "full"]
Execution: TypeAlias = Literal["auto", "dense", "sparse"]

MAX_PADDING = 8


class RelationalAttention(nn.Module):
    r"""Attention over all incoming edges of a node, with a null sink.

    For target node i of type t and edge e = (j -> i) of relation r, head h:

    ``l_e = mu[r,h] <q_i, k_j> / sqrt(d) + b[r,h] + w[r,h] . phi(dt_e) + log rho_j``
    ``a_e = exp l_e / (exp n[t,h] + sum_e' exp l_e')``, result
    ``W_O[t] sum_e a_e s[r,h] v_j``, with ``phi(dt) = [dt, sin(omega_k dt + p_k)]`` for
    relations between types that have time. A node without incoming edges gets
    ``W_O[t] 0``.

    References:
        Heterogeneous Graph Transformer, Hu, Dong, Wang, Sun, 2020, arXiv 2003.01332
        (typed projections, relation priors). Multi-Time Attention Networks for
        Irregularly Sampled Time Series, Shukla, Marlin, 2021, arXiv 2101.10318 (phi).

    Args:
        relations: The typed edges, at least one.
        channels: ``D``, a multiple of ``num_heads``.
        timed: Node types that have time.
        num_heads: ``H``.
        capacity: What a relation has of its own: ``"bias"``: b; ``"scalar"``: also
            mu and s; ``"full"``: also d x d maps of keys and values (HGT).
        null_sink: Let a node ignore everything. Without it, weights sum to one.
        gelu: Apply GELU before the output map, as HGT does.
        execution: ``"dense"`` slots, ``"sparse"`` edges, or ``"auto"``: a compiled
            kernel where there is one (float32 on CPUs, capacity "bias", no time, Full
            relations), else sparse where a topology is Custom or slots would be mostly
            padding, else dense. Equal results.
        members: Ensemble members computed together, or None for one plain model.
    """

    def __init__(
        self,
        relations: Sequence[Relation],
        channels: int,
        *,
        timed: Iterable[str] = (),
        num_heads: int = 4,
        capacity: Capacity = "bias",
        null_sink: bool = True,
        gelu: bool = False,
        execution: Execution = "auto",
        members: int | None = None,
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise SchemaError(
                f"channels must be a multiple of num_heads={num_heads}, got {channels}."
            )
        if execution not in ("auto", "dense", "sparse"):
            raise SchemaError(
                f"execution must be 'auto', 'dense' or 'sparse', got {execution!r}."
            )
        self.relations = tuple(relations)
        self.targets = tuple(dict.fromkeys(r.target for r in self.relations))
        self.sources = tuple(dict.fromkeys(r.source for r in self.relations))
        self.num_heads, self.capacity, self.gelu = num_heads, capacity, gelu
        self.execution = execution
        self.members = members
        width = channels // num_heads
        self.query = TypedLinear(self.targets, channels, channels, members=members)
        self.key_value = TypedLinear(
            self.sources, channels, 2 * channels, members=members
        )
        self.out = TypedLinear(self.targets, channels, channels, members=members)
        count = len(self.relations)
        self.bias = parameter(count, num_heads, members=members)
        if capacity != "bias":
            self.key_scale = parameter(count, num_heads, members=members, fill=1.0)
            self.value_scale = parameter(count, num_heads, members=members, fill=1.0)
        if capacity == "full":
            shape = (count, num_heads, width, width)
            bound = math.sqrt(3 / width)
            self.key_map = parameter(*shape, members=members, bound=bound)
            self.value_map = parameter(*shape, members=members, bound=bound)
        sinks = len(self.targets)
        self.sink = parameter(sinks, num_heads, members=members) if null_sink else None
        timed = set(timed)
        self.timed = tuple(
            r for r, x in enumerate(self.relations) if {x.source, x.target} <= timed
        )
        if self.timed:
            self.time_encoding = TimeEncoding(
                len(self.timed), num_heads, members=members
            )
        self._groups = group_relations(self.relations, joint=capacity == "bias")
        self._fused = FusedAttention(self._groups, self.targets, self.sources)

    def forward(self, h: Tensor, graph: Graph) -> TypedRows:
        """Attend.

        Args:
            h: ``[..., N, D]`` node states in the order of ``graph``.
            graph: Nodes and relations.

        Returns:
            ``[..., N_t, D]`` for every target type.
        """
        rows = graph.rows
        maps = self.query.over(rows), self.key_value.over(rows)
        query, source = map_ranges(h, *maps)
        if self._is_fused(query, graph):
            heard = self._fused(query, source, self.bias, self.sink, graph)
        else:
            key, value = (x.contiguous() for x in source.chunk(2, -1))
            run = self._dense if self._is_dense(graph) else self._sparse
            heard = run(query, key, value, graph)
        if self.gelu:
            heard = gelu(heard)
        own = graph.rows_among(self.targets)
        return graph.split(self.out(heard, own), own)

    def _is_dense(self, graph: Graph) -> bool:
        if self.execution != "auto":
            return self.execution == "dense"
        if any(isinstance(r.topology, Custom) for r in self.relations):
            return False
        if all(graph.nodes[name].is_even for name in self.sources):
            return True
        rows = sum(len(graph.nodes[name]) for name in self.sources)
        slots = graph.num_samples * sum(graph.nodes[s].width for s in self.sources)
        return slots <= MAX_PADDING * max(rows, 1)

    def _is_fused(self, query: Tensor, graph: Graph) -> bool:
        """Scores depend on types alone, and there is a kernel for what is given."""
        if self.execution != "auto" or self.capacity != "bias":
            return False
        if any(map(self._looks_at_edges, self._groups)):
            return False
        return self._fused.serves(query, self.bias, graph)

    # Dense: one attention call a group of targets, on slots.

    def _dense(self, q: Tensor, key: Tensor, value: Tensor, graph: Graph) -> Tensor:
        heard: dict[str, Tensor] = {}
        own = tuple(graph.rows_among(self.targets))
        for group in self._groups:
            query = graph.reorder(q, own, group.targets)
            keys, values = self._source_rows(group, key, value, graph)
            packing = None
            if not self._looks_at_edges(group):
                packing = graph.pack(group.targets, group.sources)
            if packing is None:
                rows = self._in_order(group, query, keys, values, graph)
            else:
                rows = self._packed(group, query, keys, values, packing)
            if len(self._groups) == 1:
                return graph.reorder(rows, group.targets, own)
            heard |= graph.split(rows, group.targets)
        return torch.cat([heard[name] for name in own], -2)

    def _in_order(
        self,
        group: RelationGroup,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        graph: Graph,
    ) -> Tensor:
        """Attend where every sample has the same slots."""
        target, source = graph.layout(group.targets), graph.layout(group.sources)
        result = attend(
            self._heads(target.spread(query)),
            self._heads(source.spread(key)),
            self._heads(source.spread(value)),
            self._scores(group, graph, source),
        )
        return target.gather(result.flatten(-2))

    def _packed(
        self,
        group: RelationGroup,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        packing: Packing,
    ) -> Tensor:
        """Attend in slots whose types differ from sample to sample."""
        bias = self._by_pair(group)
        missing = torch.tensor(group.relations, device=bias.device) < 0
        sink = None
        if self.sink is not None:
            sink = self._rows(self.sink, [self.targets.index(t) for t in group.targets])
        query, key, value = (self._heads(x) for x in (query, key, value))
        heard = attend_packed(query, key, value, bias, missing, sink, packing)
        return heard.flatten(-2)

    def _looks_at_edges(self, group: RelationGroup) -> bool:
        """Tell whether scores depend on single edges, not on types alone."""
        return any(
            n in self.timed or not isinstance(self.relations[n].topology, Full)
            for n in group.numbers
        )

    def _source_rows(
        self, group: RelationGroup, key: Tensor, value: Tensor, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[..., N, D]`` of all sources of a group."""
        own = tuple(graph.rows_among(self.sources))
        if self.capacity == "bias":
            return (
                graph.reorder(key, own, group.sources),
                graph.reorder(value, own, group.sources),
            )
        keys, values = graph.split(key, own), graph.split(value, own)
        rows = [
            self._per_relation(number, keys[name], values[name])
            for number, name in zip(group.relations[0], group.sources, strict=True)
        ]
        return torch.cat([k for k, _ in rows], -2), torch.cat([v for _, v in rows], -2)

    def _per_relation(
        self, number: int, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the relation's own maps and scales to ``[..., N, D]`` rows."""
        key, value = self._heads(key), self._heads(value)  # [..., N, H, d]
        if self.capacity == "full":
            key_map = self.key_map.select(-4, number)
            value_map = self.value_map.select(-4, number)
            key = torch.einsum("...nhd,...hde->...nhe", key, key_map)
            value = torch.einsum("...nhd,...hde->...nhe", value, value_map)
        key = key * self.key_scale.select(-2, number)[..., None, :, None]
        value = value * self.value_scale.select(-2, number)[..., None, :, None]
        return key.flatten(-2), value.flatten(-2)

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.num_heads, -1))

    def _scores(self, group: RelationGroup, graph: Graph, source: Layout) -> Scores:
        """Return bias, allowed pairs and sink of a group on its slots."""
        target = graph.layout(group.targets)
        bias = self._by_pair(group)  # [..., types of targets, columns, H]
        none = None
        if any(number < 0 for row in group.relations for number in row):
            none = torch.tensor(group.relations, device=bias.device) < 0
        sink = None
        if self.sink is not None:
            sink = self._rows(self.sink, [self.targets.index(t) for t in group.targets])
        if {*target.widths, *source.widths} != {1}:
            rows = torch.tensor(target.block, device=bias.device, dtype=torch.int64)
            columns = torch.tensor(source.block, device=rows.device, dtype=rows.dtype)
            bias = bias.index_select(-3, rows).index_select(-2, columns)
            none = None if none is None else none[rows][:, columns]
            sink = None if sink is None else sink.index_select(-2, rows)
        bias = bias.movedim(-1, -3).unsqueeze(-4)  # [..., 1, H, T, S]
        if sink is not None:
            sink = sink.mT[..., None, :, :, None]  # [..., 1, H, T, 1]
        allowed = None if none is None else ~none[None, None]
        if source.sends is not None:
            heard = source.sends.mT[:, None, None]  # [B, 1, 1, S]
            allowed = heard if allowed is None else heard & allowed
        extra = self._blocks(group, graph)
        if extra is not None:
            allowed = extra[0] if allowed is None else allowed & extra[0]
            bias = bias if extra[1] is None else bias + extra[1]
        if source.log_reliability is not None:
            bias = bias + source.log_reliability.mT[..., None, None, :]
        return Scores(bias, allowed, sink)

    def _by_pair(self, group: RelationGroup) -> Tensor:
        """Return the bias of every pair of types, ``[..., T, S, H]``."""
        flat = [max(n, 0) for row in group.relations for n in row]
        return self._rows(self.bias, flat).unflatten(-2, (len(group.targets), -1))

    def _rows(self, value: Tensor, numbers: list[int]) -> Tensor:
        """Return rows of ``[..., R, H]`` by their numbers."""
        if numbers == list(range(value.shape[-2])):
            return value
        return value.index_select(-2, torch.tensor(numbers, device=value.device))

    def _blocks(
        self, group: RelationGroup, graph: Graph
    ) -> tuple[Tensor, Tensor | None] | None:
        """Return what depends on single edges: allowed ones and the time bias."""
        timed = any(n in self.timed for n in group.numbers)
        masks = {n: graph.mask(self.relations[n]) for n in group.numbers}
        if not timed and all(mask is None for mask in masks.values()):
            return None
        allowed, added = [], []
        for i, t in enumerate(group.targets):
            row_allowed, row_added = [], []
            for j, s in enumerate(group.sources):
                number = group.relations[i][j]
                shape = (graph.nodes[t].width, graph.nodes[s].width)
                row_allowed.append(self._allowed(masks.get(number), graph, shape))
                if timed:
                    row_added.append(self._time_bias(number, t, s, graph))
            allowed.append(torch.cat(row_allowed, -1))
            if timed:
                added.append(torch.cat(row_added, -1))
        return (
            torch.cat(allowed, -2).unsqueeze(-3),
            torch.cat(added, -2) if timed else None,
        )

    def _allowed(
        self, mask: Tensor | None, graph: Graph, shape: tuple[int, int]
    ) -> Tensor:
        if mask is not None:
            return mask
        device = self.bias.device
        return torch.ones(graph.num_samples, *shape, dtype=torch.bool, device=device)

    def _time_bias(self, number: int, target: str, source: str, graph: Graph) -> Tensor:
        """Return ``[..., B, H, S_target, S_source]``; zero for untimed relations."""
        if number not in self.timed:
            widths = (graph.nodes[target].width, graph.nodes[source].width)
            leading = () if self.members is None else (self.members,)
            return self.bias.new_zeros(
                *leading, graph.num_samples, self.num_heads, *widths
            )
        delta = (
            graph.time_slots(target)[:, :, None] - graph.time_slots(source)[:, None, :]
        )
        bias = self.time_encoding(
            delta.flatten(), self.timed.index(number)
        )  # [..., BSS, H]
        return bias.unflatten(-2, delta.shape).movedim(-1, -3)

    # Sparse: explicit edges, one segment softmax.

    def _sparse(self, q: Tensor, k: Tensor, v: Tensor, graph: Graph) -> Tensor:
        first = {n: rows.start for n, rows in graph.rows_among(self.targets).items()}
        own = tuple(graph.rows_among(self.sources))
        keys, all_values = graph.split(k, own), graph.split(v, own)
        query, total = self._heads(q), q.shape[-2]
        logits, values, targets = [], [], []
        for number, relation in enumerate(self.relations):
            src, dst = graph.edges(relation)
            src = src - graph.rows[relation.source].start
            dst = dst - graph.rows[relation.target].start
            key, value = keys[relation.source], all_values[relation.source]
            if self.capacity != "bias":
                key, value = self._per_relation(number, key, value)
            dst_row = dst + first[relation.target]
            logits.append(
                self._edge_logits(
                    number, query.index_select(-3, dst_row), key, src, dst, graph
                )
            )
            values.append(self._heads(value.index_select(-2, src)))
            targets.append(dst_row)
        index = torch.cat(targets)
        sink = None
        if self.sink is not None:
            types = [self.targets.index(name) for name in first]
            counts = torch.tensor([len(graph.nodes[name]) for name in first])
            which = torch.tensor(types).repeat_interleave(counts)
            sink = self.sink.index_select(-2, which.to(index.device))
        weight = segment_softmax(torch.cat(logits, -2), index, total, sink)
        message = torch.cat(values, -3) * weight[..., None]
        return segment_sum(message.flatten(-2), index, total)

    def _edge_logits(
        self,
        number: int,
        query: Tensor,
        key: Tensor,
        src: Tensor,
        dst: Tensor,
        graph: Graph,
    ) -> Tensor:
        """Return ``[..., E, H]`` logits of one relation's edges."""
        relation = self.relations[number]
        source, target = graph.nodes[relation.source], graph.nodes[relation.target]
        edge_key = self._heads(key.index_select(-2, src))
        logits = (query * edge_key).sum(-1) / math.sqrt(query.shape[-1])
        logits = logits + self.bias.select(-2, number)[..., None, :]
        if number in self.timed:
            assert source.time is not None
            assert target.time is not None
            delta = target.time[dst] - source.time[src]
            logits = logits + self.time_encoding(delta, self.timed.index(number))
        if source.log_reliability is not None:
            logits = logits + source.log_reliability[..., src, None]
        return logits
