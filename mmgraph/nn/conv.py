"""Message passing over typed relations.

Letters: ``N`` nodes, ``B`` samples, ``S`` slots a sample, ``E`` edges, ``H`` heads,
``D`` width, ``d = D / H``. Leading axes ``...`` are the members of an ensemble.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph import Graph, Layout
from mmgraph.nn.clock import Clock
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.ops import segment_softmax, segment_sum, to_slots
from mmgraph.schema import Custom, Relation

Capacity: TypeAlias = Literal["bias", "scalar", "full"]
Execution: TypeAlias = Literal["auto", "dense", "sparse"]

MAX_PADDING = 8
MAX_ELEMENTWISE = 24


@dataclass(frozen=True)
class _Group:
    """Target types that hear the same sources: attended together when dense.

    ``relations[i][j]`` is the number of the relation from ``sources[j]`` to
    ``targets[i]``.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    relations: tuple[tuple[int, ...], ...]


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
        execution: ``"dense"`` slots, ``"sparse"`` edges, or ``"auto"``: sparse where
            a topology is Custom or slots would be mostly padding. Equal results.
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
            self.clock = Clock(len(self.timed), num_heads, members=members)
        self._groups = _group(self.relations, joint=capacity == "bias")

    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        """Attend.

        Args:
            h: ``[..., N, D]`` node states in the order of ``graph``.
            graph: Nodes and relations.

        Returns:
            ``[..., N_t, D]`` for every target type.
        """
        q = dict(zip(self.targets, self.query(h, graph.rows), strict=True))
        kv = dict(zip(self.sources, self.key_value(h, graph.rows), strict=True))
        heard = (self._dense if self._is_dense(graph) else self._sparse)(q, kv, graph)
        if self.gelu:
            heard = {name: F.gelu(value) for name, value in heard.items()}
        weight, bias = self.out.weight.unbind(-3), self.out.bias.unbind(-3)
        return {
            name: heard[name] @ weight[i] + bias[i]
            for i, name in enumerate(self.targets)
        }

    def _is_dense(self, graph: Graph) -> bool:
        if self.execution != "auto":
            return self.execution == "dense"
        if any(isinstance(r.topology, Custom) for r in self.relations):
            return False
        rows = sum(len(graph.nodes[name]) for name in self.sources)
        slots = graph.num_samples * sum(graph.nodes[s].width for s in self.sources)
        return slots <= MAX_PADDING * max(rows, 1)

    # Dense: one attention call a group of targets, on slots.

    def _dense(
        self, q: dict[str, Tensor], kv: dict[str, Tensor], graph: Graph
    ) -> dict[str, Tensor]:
        heard: dict[str, Tensor] = {}
        for group in self._groups:
            target, source = graph.layout(group.targets), graph.layout(group.sources)
            query = self._slots(torch.cat([q[t] for t in group.targets], -2), target)
            key_value = self._source_rows(group, kv)
            sink = int(self.sink is not None)  # one more slot, with zero content
            key, value = self._slots(key_value, source, spare=sink).chunk(2, -1)
            mask = self._dense_mask(group, graph, source)
            deaf = None if sink else (mask == -torch.inf).all(-1, keepdim=True)
            if deaf is not None:  # softmax over nothing is NaN, also backwards
                mask = torch.where(deaf, 0, mask)
            result = self._attend(query, self._heads(key), self._heads(value), mask)
            if deaf is not None:
                result = torch.where(deaf.movedim(-3, -2), 0, result)
            rows = result.flatten(-2).flatten(-3, -2).index_select(-2, target.slot)
            counts = [len(graph.nodes[t]) for t in group.targets]
            heard.update(zip(group.targets, rows.split(counts, -2), strict=True))
        return heard

    def _attend(self, q: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``[..., B, T, D]`` to ``[..., B, S, H, d]`` slots.

        ``mask`` is ``[..., B, H, T, S]``; the result ``[..., B, T, H, d]``. Many tiny
        products are faster as one sum over an axis than as batched matrices.
        """
        query = self._heads(q)
        if not key.shape[-3]:
            return torch.zeros_like(query)
        if query.shape[-3] * key.shape[-3] > MAX_ELEMENTWISE:
            query, key, value = (x.transpose(-2, -3) for x in (query, key, value))
            result = F.scaled_dot_product_attention(query, key, value, mask)
            return result.transpose(-2, -3)
        product = query[..., :, None, :, :] * key[..., None, :, :, :]
        logits = product.sum(-1) / math.sqrt(query.shape[-1])  # [..., B, T, S, H]
        logits = logits + mask.movedim(-3, -1)
        weight = logits.softmax(-2)
        return (weight[..., None] * value[..., None, :, :, :]).sum(-3)

    def _slots(self, rows: Tensor, layout: Layout, *, spare: int = 0) -> Tensor:
        """Lay ``[..., N, D]`` out as ``[..., B, S + spare, D]``; spare slots are 0."""
        num_samples, num_slots = layout.sends.shape
        slot = layout.slot + spare * (layout.slot // max(num_slots, 1))
        num_slots = num_slots + spare
        flat = to_slots(rows, slot, num_samples * num_slots)
        return flat.unflatten(-2, (num_samples, num_slots))

    def _source_rows(self, group: _Group, kv: dict[str, Tensor]) -> Tensor:
        """Return keys and values ``[..., N, 2 D]`` of all sources of a group."""
        rows = []
        for j, name in enumerate(group.sources):
            both = kv[name]
            if self.capacity != "bias":
                key, value = both.chunk(2, -1)
                both = torch.cat(
                    self._per_relation(group.relations[0][j], key, value), -1
                )
            rows.append(both)
        return torch.cat(rows, -2)

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

    def _dense_mask(self, group: _Group, graph: Graph, source: Layout) -> Tensor:
        """Return the additive mask ``[..., B, H, S_target, S_source (+ 1)]``."""
        target = graph.layout(group.targets)
        numbers = torch.tensor(group.relations, device=source.block.device)
        numbers = numbers[target.block][:, source.block]  # [S_target, S_source]
        bias = self.bias.movedim(-1, 0)[..., numbers].movedim(0, -3)
        bias = bias.unsqueeze(-4)  # [..., 1, H, S_target, S_source]
        allowed = source.sends[:, None, None, :]
        extra = self._blocks(group, graph)
        if extra is not None:
            allowed, added = allowed & extra[0], extra[1]
            bias = bias if added is None else bias + added
        if source.log_reliability is not None:
            bias = bias + source.log_reliability[..., :, None, None, :]
        mask = torch.where(allowed, bias, -torch.inf)
        if self.sink is None:
            return mask
        sink = self.sink.index_select(-2, self._sink_numbers(group, target))
        sink = sink.transpose(-1, -2)[..., None, :, :, None]  # [..., 1, H, S_target, 1]
        return torch.cat([mask, sink.expand(*mask.shape[:-1], 1)], dim=-1)

    def _sink_numbers(self, group: _Group, target: Layout) -> Tensor:
        numbers = torch.tensor([self.targets.index(t) for t in group.targets])
        return numbers.to(target.block.device)[target.block]

    def _blocks(
        self, group: _Group, graph: Graph
    ) -> tuple[Tensor, Tensor | None] | None:
        """Return what depends on single edges: allowed ones and the time bias."""
        numbers = [n for row in group.relations for n in row]
        timed = any(n in self.timed for n in numbers)
        masks = {n: graph.mask(self.relations[n]) for n in numbers}
        if not timed and all(mask is None for mask in masks.values()):
            return None
        allowed, added = [], []
        for i, t in enumerate(group.targets):
            row_allowed, row_added = [], []
            for j, s in enumerate(group.sources):
                number = group.relations[i][j]
                shape = (graph.nodes[t].width, graph.nodes[s].width)
                row_allowed.append(self._allowed(masks[number], graph, shape))
                if timed:
                    row_added.append(self._time_bias(number, t, s, graph))
            allowed.append(torch.cat(row_allowed, -1))
            if timed:
                added.append(torch.cat(row_added, -1))
        return (
            torch.cat(allowed, -2)[:, None],
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
        bias = self.clock(delta.flatten(), self.timed.index(number))  # [..., BSS, H]
        return bias.unflatten(-2, delta.shape).movedim(-1, -3)

    # Sparse: explicit edges, one segment softmax.

    def _sparse(
        self, q: dict[str, Tensor], kv: dict[str, Tensor], graph: Graph
    ) -> dict[str, Tensor]:
        first, total = {}, 0
        for name in self.targets:  # targets get row numbers of their own
            first[name] = total
            total += len(graph.nodes[name])
        query = self._heads(torch.cat([q[t] for t in self.targets], -2))
        logits, values, targets = [], [], []
        for number, relation in enumerate(self.relations):
            src, dst = graph.edges(relation)
            src = src - graph.rows[relation.source].start
            dst = dst - graph.rows[relation.target].start
            key, value = kv[relation.source].chunk(2, -1)
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
            counts = torch.tensor([len(graph.nodes[t]) for t in self.targets])
            which = torch.arange(len(counts)).repeat_interleave(counts)
            sink = self.sink.index_select(-2, which.to(index.device))
        weight = segment_softmax(torch.cat(logits, -2), index, total, sink)
        message = torch.cat(values, -3) * weight[..., None]
        heard = segment_sum(message.flatten(-2), index, total)
        counts_ = [len(graph.nodes[t]) for t in self.targets]
        return dict(zip(self.targets, heard.split(counts_, -2), strict=True))

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
            logits = logits + self.clock(delta, self.timed.index(number))
        if source.log_reliability is not None:
            logits = logits + source.log_reliability[..., src, None]
        return logits


def _group(relations: Sequence[Relation], *, joint: bool) -> tuple[_Group, ...]:
    """Put targets together that hear the same sources; alone unless ``joint``."""
    heard: dict[str, list[int]] = {}
    for number, relation in enumerate(relations):
        heard.setdefault(relation.target, []).append(number)
    groups: dict[tuple[str, ...], list[str]] = {}
    for target, numbers in heard.items():
        numbers.sort(key=lambda n: (relations[n].source, relations[n].name))
        sources = tuple(relations[n].source for n in numbers)
        groups.setdefault(sources if joint else (target, *sources), []).append(target)
    return tuple(
        _Group(
            tuple(targets),
            tuple(relations[n].source for n in heard[targets[0]]),
            tuple(tuple(heard[t]) for t in targets),
        )
        for targets in groups.values()
    )
