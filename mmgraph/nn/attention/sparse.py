"""Sparse attention: explicit edges and one softmax over the edges of each target.

Letters: ``N`` rows, ``E`` edges, ``H`` heads, ``D`` width. Leading axes ``...`` are the
members of an ensemble.
"""

import math

import torch
from torch import Tensor

from mmgraph.graph import Graph
from mmgraph.nn.attention.weights import RelationWeights
from mmgraph.ops import segment_softmax, segment_sum


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
    first = {n: rows.start for n, rows in graph.rows_among(weights.targets).items()}
    sources = tuple(graph.rows_among(weights.sources))
    keys, values = graph.split(key, sources), graph.split(value, sources)
    queries, total = weights.heads(query), query.shape[-2]
    logits, sent, targets = [], [], []
    for number, relation in enumerate(weights.relations):
        src, dst = graph.edges(relation)
        src = src - graph.rows[relation.source].start
        dst = dst - graph.rows[relation.target].start
        k, v = weights.per_relation(
            number, keys[relation.source], values[relation.source]
        )
        row = dst + first[relation.target]
        q = queries.index_select(-3, row)
        logits.append(_edge_logits(weights, number, q, k, src, dst, graph))
        sent.append(weights.heads(v.index_select(-2, src)))
        targets.append(row)
    index = torch.cat(targets)
    sink = _row_sinks(weights, graph, tuple(first), index.device)
    weight = segment_softmax(torch.cat(logits, -2), index, total, sink)
    message = torch.cat(sent, -3) * weight[..., None]
    return segment_sum(message.flatten(-2), index, total)


def _row_sinks(
    weights: RelationWeights,
    graph: Graph,
    types: tuple[str, ...],
    device: torch.device,
) -> Tensor | None:
    """Return the sink ``[..., N, H]`` of every row of the targets."""
    if weights.sink is None:
        return None
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
