"""Sparse attention: explicit edges and one softmax over the edges of each target.

Letters: ``N`` rows, ``E`` edges, ``H`` heads, ``D`` width. Leading axes ``...`` are the
members of an ensemble.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmgraph.graph import Graph
from mmgraph.nn.attention.weights import RelationWeights
from mmgraph.ops import segment_softmax, segment_sum
from mmgraph.schema import EdgeType


@dataclass(frozen=True)
class Attention:
    """Attention weights of the edges of one relation.

    The weights of all edges to a node, over all relations, and its null sink sum to 1.

    Attributes:
        source: ``[E]`` index of the source of each edge among the nodes of its type, as
            in ``h_dict`` of the output of a model.
        target: ``[E]`` index of the target of each edge among the nodes of its type.
        sample: ``[E]`` sample of each edge.
        weight: ``[..., E, H]`` weight of each edge and head.
        sink: ``[..., N, H]`` weight of the null sink of each of the ``N`` nodes of the
            target type; zero in a layer without sinks.
    """

    source: Tensor
    target: Tensor
    sample: Tensor
    weight: Tensor
    sink: Tensor


class _Edges(NamedTuple):
    """Edges of one relation: their ends, and the logits and values of the sources.

    Attributes:
        source: ``[E]`` row among the nodes of the source type.
        target: ``[E]`` row among the nodes of the target type.
        row: ``[E]`` row of the target in the table of all targets.
        logits: ``[..., E, H]``.
        value: ``[..., E, H, d]``.
    """

    source: Tensor
    target: Tensor
    row: Tensor
    logits: Tensor
    value: Tensor


def attend_sparse(
    weights: RelationWeights, query: Tensor, key: Tensor, value: Tensor, graph: Graph
) -> Tensor:
    """Compute attention over the edges of all relations.

    Args:
        weights: Parameters of the relations.
        query: ``[..., N, D]`` queries of the targets.
        key: ``[..., N', D]`` keys of the sources.
        value: ``[..., N', D]`` values of the sources.
        graph: Nodes and relations.

    Returns:
        ``[..., N, D]`` attended values; zero where a target has no incoming edge.
    """
    edges, total = _edges(weights, query, key, value, graph), query.shape[-2]
    index = torch.cat([each.row for each in edges])
    sink = _row_sinks(weights, graph, index.device)
    logits = torch.cat([each.logits for each in edges], -2)
    weight = segment_softmax(logits, index, total, sink)
    message = torch.cat([each.value for each in edges], -3) * weight[..., None]
    return segment_sum(message.flatten(-2), index, total)


def edge_weights(
    weights: RelationWeights, query: Tensor, key: Tensor, value: Tensor, graph: Graph
) -> dict[EdgeType, Attention]:
    """Return the attention weights of every edge, by relation.

    Args:
        weights: Parameters of the relations.
        query: ``[..., N, D]`` queries of the targets.
        key: ``[..., N', D]`` keys of the sources.
        value: ``[..., N', D]`` values of the sources.
        graph: Nodes and relations.
    """
    edges, total = _edges(weights, query, key, value, graph), query.shape[-2]
    parts, rows = [each.logits for each in edges], [each.row for each in edges]
    sink = _row_sinks(weights, graph, query.device)
    if sink is not None:  # one more edge to every target
        parts.append(sink)
        rows.append(torch.arange(total, device=query.device))
    weight = segment_softmax(torch.cat(parts, -2), torch.cat(rows), total)
    split = weight.split([len(row) for row in rows], -2)
    none = weight.new_zeros(*weight.shape[:-2], total, weight.shape[-1])
    sinks = none if sink is None else split[-1]
    ranges = graph.rows_among(weights.targets)
    found = {}
    for relation, each, part in zip(weights.relations, edges, split, strict=False):
        found[relation.edge_type] = Attention(
            each.source,
            each.target,
            graph.nodes[relation.target].sample[each.target],
            part,
            sinks[..., ranges[relation.target], :],
        )
    return found


def _edges(
    weights: RelationWeights, query: Tensor, key: Tensor, value: Tensor, graph: Graph
) -> list[_Edges]:
    """Return the edges of every relation."""
    first = {n: rows.start for n, rows in graph.rows_among(weights.targets).items()}
    sources = tuple(graph.rows_among(weights.sources))
    keys, values = graph.split(key, sources), graph.split(value, sources)
    queries, edges = weights.heads(query), []
    for number, relation in enumerate(weights.relations):
        src, dst = graph.edges(relation)
        src = src - graph.rows[relation.source].start
        dst = dst - graph.rows[relation.target].start
        k, v = weights.per_relation(
            number, keys[relation.source], values[relation.source]
        )
        row = dst + first[relation.target]
        q = queries.index_select(-3, row)
        logits = _edge_logits(weights, number, q, k, src, dst, graph)
        sent = weights.heads(v.index_select(-2, src))
        edges.append(_Edges(src, dst, row, logits, sent))
    return edges


def _row_sinks(
    weights: RelationWeights, graph: Graph, device: torch.device
) -> Tensor | None:
    """Return the sink ``[..., N, H]`` of every row of the targets."""
    if weights.sink is None:
        return None
    types = graph.rows_among(weights.targets)
    numbers = torch.tensor([weights.targets.index(name) for name in types])
    counts = torch.tensor([len(graph.nodes[name]) for name in types])
    return weights.sink.index_select(-2, numbers.repeat_interleave(counts).to(device))


def _edge_logits(
    weights: RelationWeights,
    number: int,
    query: Tensor,
    key: Tensor,
    src: Tensor,
    dst: Tensor,
    graph: Graph,
) -> Tensor:
    """Return the logits ``[..., E, H]`` of the edges of one relation."""
    relation = weights.relations[number]
    source, target = graph.nodes[relation.source], graph.nodes[relation.target]
    edge_key = weights.heads(key.index_select(-2, src))
    logits = (query * edge_key).sum(-1) / math.sqrt(query.shape[-1])
    logits = logits + weights.bias.select(-2, number)[..., None, :]
    if number in weights.timed:
        assert weights.time_encoding is not None
        assert source.time is not None
        assert target.time is not None
        delta = target.time[dst] - source.time[src]
        logits = logits + weights.time_encoding(delta, weights.timed.index(number))
    if source.log_reliability is not None:
        logits = logits + source.log_reliability[..., src, None]
    return logits
