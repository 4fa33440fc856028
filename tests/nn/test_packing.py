"""Slots without gaps: buckets of samples that have about as many rows."""

import pytest
import torch

from mmgraph import Relation
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.graph.slots import MIN_GAPS, BUCKET_COST, Bucket, pack, plan_buckets
from mmgraph.nn import RelationalAttention


def nodes_of(counts):
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@pytest.mark.parametrize("bucket_cost", [0, 10**9])
def test_rows_of_a_sample_follow_each_other_without_gaps(bucket_cost, monkeypatch):
    monkeypatch.setattr("mmgraph.graph.slots.BUCKET_COST", bucket_cost)
    sources = [nodes_of([2, 0, 1, 0]), nodes_of([1, 3, 0, 0])]
    packing = pack([*sources, nodes_of([1] * 4)], sources, 4)
    expected = {0: [0, 0, 1], 1: [1, 1, 1], 2: [0], 3: []}
    if bucket_cost:
        assert packing.buckets == [Bucket(4, 4, 3)]
    else:
        assert packing.buckets == [Bucket(2, 4, 3), Bucket(1, 2, 1), Bucket(1, 1, 0)]
    sample = torch.cat(sources).double()[:, None]
    flat = packing.sources.spread(sample + 1)[:, 0] - 1  # -1 where a slot is empty
    first, found = 0, {}
    for bucket in packing.buckets:
        area = bucket.num_samples * bucket.num_sources
        shape = bucket.num_sources, bucket.num_samples
        owner = flat[first : first + area].view(shape)
        types = packing.source_type[first : first + area].view(shape)
        for column in range(bucket.num_samples):
            filled = owner[:, column] >= 0
            assert filled.long().diff().le(0).all()  # left first
            assert types[~filled, column].eq(2).all()
            for who in owner[filled, column].unique().tolist():
                found[int(who)] = types[filled, column].tolist()
        first += area
    assert first == len(flat)
    assert found == {k: v for k, v in expected.items() if v}
    assert torch.equal(packing.sources.gather(flat[:, None]), sample)


def test_buckets_are_cut_where_that_saves_enough():
    few, many = [1] * 50, [BUCKET_COST] * 2
    assert plan_buckets(many + few, many + few) == [
        Bucket(2, BUCKET_COST, BUCKET_COST),
        Bucket(50, 1, 1),
    ]
    assert plan_buckets([3, 2, 1], [2, 1, 0]) == [Bucket(3, 3, 2)]
    assert plan_buckets([], []) == []


def gappy(num_samples, generator, dtype=torch.float64):
    """A graph of three types, of which samples have up to 6 nodes each, or none."""
    sets = {}
    for name in "abc":
        counts = torch.randint(0, 7, (num_samples,), generator=generator)
        counts[:2] = torch.tensor([0, 6])  # sample 0 has nothing at all
        sets[name] = NodeSet(nodes_of(counts.tolist()), num_samples)
    sets["f"] = NodeSet(torch.arange(num_samples), num_samples)
    return Graph(sets, num_samples)


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("null_sink", [True, False])
def test_packed_slots_give_what_edges_give(members, null_sink, monkeypatch):
    monkeypatch.setattr("mmgraph.graph.graph.MIN_GAPS", 0)
    monkeypatch.setattr("mmgraph.graph.slots.BUCKET_COST", 50)
    generator = torch.Generator().manual_seed(0)
    graph = gappy(20, generator)
    relations = [Relation(s, t) for t in "abcf" for s in "abc" if s + t != "ca"]
    results = []
    shape = (sum(map(len, graph.nodes.values())), 8)
    h = torch.randn(shape, generator=generator).double().requires_grad_()
    for execution in ("dense", "sparse"):
        torch.manual_seed(0)
        conv = RelationalAttention(
            relations,
            8,
            num_heads=2,
            members=members,
            null_sink=null_sink,
            execution=execution,
        ).double()
        for parameter in conv.parameters():
            torch.nn.init.normal_(parameter)
        out = conv(h, graph).table
        inputs = [h, *conv.parameters()]
        results.append((out, torch.autograd.grad(out.sin().sum(), inputs)))
    torch.testing.assert_close(*results)
    (packing,) = graph._packings.values()
    assert len(packing.buckets) > 2


def test_even_quiet_and_nearly_full_nodes_are_not_packed():
    counts = [8] * 16 + [0] * 16
    gaps = {"a": NodeSet(nodes_of(counts * 64), 2048)}
    assert Graph(gaps, 2048).pack(("a",), ("a",)) is not None
    receive_only = torch.zeros(len(gaps["a"]), dtype=torch.bool)
    quiet = {"a": NodeSet(gaps["a"].sample, 2048, receive_only=receive_only)}
    assert Graph(quiet, 2048).pack(("a",), ("a",)) is None
    even = {"a": NodeSet(nodes_of([8] * 2048), 2048)}
    assert Graph(even, 2048).pack(("a",), ("a",)) is None
    small = {"a": NodeSet(nodes_of([2, 1] * (MIN_GAPS // 8)), MIN_GAPS // 4)}
    assert Graph(small, MIN_GAPS // 4).pack(("a",), ("a",)) is None
