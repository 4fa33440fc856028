"""Dense attention on slots: one batched product for each group of target types.

Letters: ``N`` rows, ``B`` samples, ``H`` heads, ``T`` target and ``S`` source slots,
``D`` width, ``d = D / H``. Leading axes ``...`` are the members of an ensemble.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmgraph.graph import Graph, Layout, Packing
from mmgraph.nn.attention.dot_product import Scores, attend
from mmgraph.nn.attention.groups import RelationGroup
from mmgraph.nn.attention.packed import attend_packed
from mmgraph.nn.attention.weights import RelationWeights, select_rows


def attend_dense(
    weights: RelationWeights,
    groups: Sequence[RelationGroup],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    graph: Graph,
) -> Tensor:
    """Compute the attention of all groups.

    Args:
        weights: Parameters of the relations.
        groups: Target types that attend in one product.
        query: ``[..., N, D]`` queries of the targets.
        key: ``[..., N', D]`` keys of the sources.
        value: ``[..., N', D]`` values of the sources.
        graph: Nodes and relations.

    Returns:
        ``[..., N, D]`` attended values; zero where a target has no incoming edge.
    """
    attended: dict[str, Tensor] = {}
    types = tuple(graph.rows_among(weights.targets))
    for group in groups:
        queries = graph.reorder(query, types, group.targets)
        keys, values = _source_rows(weights, group, key, value, graph)
        packing = None
        if not weights.depends_on_edges(group):
            packing = graph.pack(group.targets, group.sources)
        if packing is None:
            rows = _attend_slots(weights, group, queries, keys, values, graph)
        else:
            rows = _attend_packed(weights, group, queries, keys, values, packing)
        if len(groups) == 1:
            return graph.reorder(rows, group.targets, types)
        attended |= graph.split(rows, group.targets)
    return torch.cat([attended[name] for name in types], -2)


def _attend_slots(
    weights: RelationWeights,
    group: RelationGroup,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    graph: Graph,
) -> Tensor:
    """Compute the attention of a group where every sample has the same slots."""
    target, source = graph.layout(group.targets), graph.layout(group.sources)
    result = attend(
        weights.heads(target.spread(query)),
        weights.heads(source.spread(key)),
        weights.heads(source.spread(value)),
        _scores(weights, group, graph, source),
    )
    return target.gather(result.flatten(-2))


def _attend_packed(
    weights: RelationWeights,
    group: RelationGroup,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
) -> Tensor:
    """Compute the attention of a group in packed slots."""
    bias = _pair_bias(weights, group)
    missing = torch.tensor(group.relations, device=bias.device) < 0
    sink = weights.sinks_of(group)
    query, key, value = (weights.heads(x) for x in (query, key, value))
    attended = attend_packed(query, key, value, bias, missing, sink, packing)
    return attended.flatten(-2)


def _source_rows(
    weights: RelationWeights,
    group: RelationGroup,
    key: Tensor,
    value: Tensor,
    graph: Graph,
) -> tuple[Tensor, Tensor]:
    """Return the keys and values ``[..., N, D]`` of the source columns of a group."""
    types = tuple(graph.rows_among(weights.sources))
    if weights.scales is None:
        return (
            graph.reorder(key, types, group.sources),
            graph.reorder(value, types, group.sources),
        )
    keys, values = graph.split(key, types), graph.split(value, types)
    rows = [
        weights.per_relation(number, keys[name], values[name])
        for number, name in zip(group.relations[0], group.sources, strict=True)
    ]
    return torch.cat([k for k, _ in rows], -2), torch.cat([v for _, v in rows], -2)


def _scores(
    weights: RelationWeights, group: RelationGroup, graph: Graph, source: Layout
) -> Scores:
    """Return the bias, the allowed pairs and the sink of a group on its slots."""
    target = graph.layout(group.targets)
    bias = _pair_bias(weights, group)  # [..., types of targets, columns, H]
    unrelated = None
    if any(number < 0 for row in group.relations for number in row):
        unrelated = torch.tensor(group.relations, device=bias.device) < 0
    sink = weights.sinks_of(group)
    if {*target.widths, *source.widths} != {1}:
        rows = torch.tensor(target.block, device=bias.device, dtype=torch.int64)
        columns = torch.tensor(source.block, device=rows.device, dtype=rows.dtype)
        bias = bias.index_select(-3, rows).index_select(-2, columns)
        unrelated = None if unrelated is None else unrelated[rows][:, columns]
        sink = None if sink is None else sink.index_select(-2, rows)
    bias = bias.movedim(-1, -3).unsqueeze(-4)  # [..., 1, H, T, S]
    if sink is not None:
        sink = sink.mT[..., None, :, :, None]  # [..., 1, H, T, 1]
    allowed = None if unrelated is None else ~unrelated[None, None]
    if source.sends is not None:
        sends = source.sends.mT[:, None, None]  # [B, 1, 1, S]
        allowed = sends if allowed is None else sends & allowed
    edges = _edge_scores(weights, group, graph)
    if edges is not None:
        allowed = edges[0] if allowed is None else allowed & edges[0]
        bias = bias if edges[1] is None else bias + edges[1]
    if source.log_reliability is not None:
        bias = bias + source.log_reliability.mT[..., None, None, :]
    return Scores(bias, allowed, sink)


def _pair_bias(weights: RelationWeights, group: RelationGroup) -> Tensor:
    """Return the bias of every pair of types, ``[..., T, S, H]``."""
    flat = [max(n, 0) for row in group.relations for n in row]
    return select_rows(weights.bias, flat).unflatten(-2, (len(group.targets), -1))


def _edge_scores(
    weights: RelationWeights, group: RelationGroup, graph: Graph
) -> tuple[Tensor, Tensor | None] | None:
    """Return the allowed pairs and the time bias; None if types determine both."""
    timed = any(n in weights.timed for n in group.numbers)
    masks = {n: graph.mask(weights.relations[n]) for n in group.numbers}
    if not timed and all(mask is None for mask in masks.values()):
        return None
    allowed, biases = [], []
    for i, t in enumerate(group.targets):
        row_allowed, row_biases = [], []
        for j, s in enumerate(group.sources):
            number = group.relations[i][j]
            shape = (graph.nodes[t].width, graph.nodes[s].width)
            row_allowed.append(_allowed(weights, masks.get(number), graph, shape))
            if timed:
                row_biases.append(_time_bias(weights, number, t, s, graph))
        allowed.append(torch.cat(row_allowed, -1))
        if timed:
            biases.append(torch.cat(row_biases, -1))
    return (
        torch.cat(allowed, -2).unsqueeze(-3),
        torch.cat(biases, -2) if timed else None,
    )


def _allowed(
    weights: RelationWeights, mask: Tensor | None, graph: Graph, shape: tuple[int, int]
) -> Tensor:
    if mask is not None:
        return mask
    device = weights.bias.device
    return torch.ones(graph.num_samples, *shape, dtype=torch.bool, device=device)


def _time_bias(
    weights: RelationWeights, number: int, target: str, source: str, graph: Graph
) -> Tensor:
    """Return ``[..., B, H, S_target, S_source]``; zero for untimed relations."""
    if number not in weights.timed:
        widths = (graph.nodes[target].width, graph.nodes[source].width)
        leading = () if weights.members is None else (weights.members,)
        return weights.bias.new_zeros(
            *leading, graph.num_samples, weights.num_heads, *widths
        )
    assert weights.time_encoding is not None
    delta = graph.time_slots(target)[:, :, None] - graph.time_slots(source)[:, None, :]
    bias = weights.time_encoding(
        delta.flatten(), weights.timed.index(number)
    )  # [..., BSS, H]
    return bias.unflatten(-2, delta.shape).movedim(-1, -3)
