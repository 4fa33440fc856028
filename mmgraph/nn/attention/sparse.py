"""Sparse attention: explicit edges and one segment softmax.

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
    weights: RelationWeights, q: Tensor, k: Tensor, v: Tensor, graph: Graph
) -> Tensor:
    """Attend over the edges of every relation.

    Args:
        weights: Parameters of the relations.
        q: ``[..., N, D]`` queries of the targets.
        k: ``[..., N', D]`` keys of the sources.
        v: ``[..., N', D]`` values of the sources.
        graph: Nodes and relations.

    Returns:
        ``[..., N, D]``; zero where a target has no edge.
    """
    first = {n: rows.start for n, rows in graph.rows_among(weights.targets).items()}
    own = tuple(graph.rows_among(weights.sources))
    keys, all_values = graph.split(k, own), graph.split(v, own)
    query, total = weights.heads(q), q.shape[-2]
    logits, values, targets = [], [], []
    for number, relation in enumerate(weights.relations):
        src, dst = graph.edges(relation)
        src = src - graph.rows[relation.source].start
        dst = dst - graph.rows[relation.target].start
        key, value = keys[relation.source], all_values[relation.source]
        key, value = weights.per_relation(number, key, value)
        dst_row = dst + first[relation.target]
        logits.append(
            _edge_logits(
                weights, number, query.index_select(-3, dst_row), key, src, dst, graph
            )
        )
        values.append(weights.heads(value.index_select(-2, src)))
        targets.append(dst_row)
    index = torch.cat(targets)
    sink = None
    if weights.sink is not None:
        types = [weights.targets.index(name) for name in first]
        counts = torch.tensor([len(graph.nodes[name]) for name in first])
        which = torch.tensor(types).repeat_interleave(counts)
        sink = weights.sink.index_select(-2, which.to(index.device))
    weight = segment_softmax(torch.cat(logits, -2), index, total, sink)
    message = torch.cat(values, -3) * weight[..., None]
    return segment_sum(message.flatten(-2), index, total)


def _edge_logits(
    weights: RelationWeights,
    number: int,
    query: Tensor,
    key: Tensor,
    src: Tensor,
    dst: Tensor,
    graph: Graph,
) -> Tensor:
    """Return ``[..., E, H]`` logits of one relation's edges."""
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
