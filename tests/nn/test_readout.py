import pytest
import torch
from random_graphs import node_set, ragged_graph

from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.nn import (
    AttentionReadout,
    FuseReadout,
    FusionReadout,
    LowRankFusion,
    MaxReadout,
    MeanReadout,
    ProductFusion,
)

CHANNELS = 8
TYPES = ("a", "b", "c")


@pytest.fixture
def graph():
    """Sample 0 has no nodes; sample 3 has a placeholder node and observed ones."""
    graph = ragged_graph(1)
    a = graph.nodes["a"]
    receive_only = torch.zeros(len(a), dtype=torch.bool)
    receive_only[-1] = receive_only[1] = True
    graph.nodes["a"] = NodeSet(a.sample, a.num_samples, a.time, receive_only)
    return graph


def states(graph, *leading):
    num_nodes = sum(len(nodes) for nodes in graph.nodes.values())
    return torch.randn(*leading, num_nodes, CHANNELS).double()


def standard(h):
    centered = h - h.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def rows_of(graph, h, name, sample):
    nodes = graph.nodes[name]
    mine = nodes.sample == sample
    if nodes.receive_only is not None:
        mine = mine & ~nodes.receive_only
    return standard(h[graph.rows[name]][mine])


def by_sample(graph, h, reduce):
    """Reduce the read nodes of each sample, a list by type; nothing is zero."""
    result = torch.zeros(graph.num_samples, CHANNELS).double()
    for sample in range(graph.num_samples):
        parts = [rows_of(graph, h, name, sample) for name in TYPES]
        parts = [part for part in parts if len(part)]
        if parts:
            result[sample] = reduce(parts)
    return result


def test_the_mean_weighs_types_alike(graph):
    h = states(graph)
    expected = by_sample(
        graph, h, lambda parts: torch.stack([part.mean(0) for part in parts]).mean(0)
    )
    z = MeanReadout(TYPES, CHANNELS)(h, graph)
    torch.testing.assert_close(z, expected)
    assert not z[0].any()
    assert z[1:].any(1).sum() >= 3


def test_the_maximum_is_taken_over_all_nodes(graph):
    h = states(graph)
    expected = by_sample(graph, h, lambda parts: torch.cat(parts).amax(0))
    z = MaxReadout(TYPES, CHANNELS)(h, graph)
    torch.testing.assert_close(z, expected)
    assert not z[0].any()


def test_an_operator_reads_the_mean_of_each_type(graph):
    h = states(graph)
    operator = ProductFusion(len(TYPES), CHANNELS)
    z = FusionReadout(TYPES, CHANNELS, operator=operator)(h, graph)
    expected = by_sample(
        graph, h, lambda parts: torch.stack([part.mean(0) for part in parts]).prod(0)
    )
    torch.testing.assert_close(z, expected)
    assert not z[0].any()


def low_rank(types, channels, *, members=None):
    operator = LowRankFusion(len(types), channels, members=members)
    return FusionReadout(types, channels, operator=operator)


def test_attention_pools_with_a_sink(graph):
    readout = AttentionReadout(TYPES, CHANNELS, num_heads=2).double()
    with torch.no_grad():
        for p in readout.parameters():
            p.normal_()
    h = states(graph)

    def pool(parts):
        rows = torch.cat(parts)
        logits = torch.cat([rows @ readout.query, readout.sink])
        weight = logits.softmax(0)[:-1]  # [N, H]
        value = rows @ readout.value.weight + readout.value.bias
        return torch.cat(
            [(weight[:, [i]] * value.chunk(2, 1)[i]).sum(0) for i in range(2)]
        )

    z = readout(h, graph)
    torch.testing.assert_close(z, by_sample(graph, h, pool))
    assert not z[0].any()


def test_the_fuse_readout_puts_latent_nodes_side_by_side(graph):
    h = states(graph)
    readout = FuseReadout(("f",), CHANNELS, num_nodes=2)
    z = readout(h, graph)
    assert readout.out_channels == 2 * CHANNELS
    latents = standard(h[graph.rows["f"]])
    for sample in range(graph.num_samples):
        expected = latents[2 * sample : 2 * sample + 2].flatten()
        torch.testing.assert_close(z[sample], expected)


@pytest.mark.parametrize("cls", [MeanReadout, MaxReadout, AttentionReadout, low_rank])
def test_placeholders_are_not_read(cls, graph):
    readout = cls(TYPES, CHANNELS).double()
    h = states(graph)
    before = readout(h, graph)
    placeholders = (
        torch.nonzero(graph.nodes["a"].receive_only)[:, 0] + graph.rows["a"].start
    )
    h[placeholders] = torch.randn(len(placeholders), CHANNELS).double()
    assert torch.equal(readout(h, graph), before)
    h[graph.rows["b"].start] += torch.randn(CHANNELS)
    assert not torch.equal(readout(h, graph), before)


@pytest.mark.parametrize("cls", [MeanReadout, MaxReadout, AttentionReadout, low_rank])
def test_members_are_read_one_by_one(cls, graph):
    together = cls(TYPES, CHANNELS, members=3).double()
    h = states(graph, 3)
    z = together(h, graph)
    assert z.shape == (3, graph.num_samples, CHANNELS)
    for member in range(3):
        alone = cls(TYPES, CHANNELS).double()
        parameters = together.state_dict().items()
        alone.load_state_dict({k: v[member] for k, v in parameters})
        torch.testing.assert_close(alone(h[member], graph), z[member])
    fuse = FuseReadout(("f",), CHANNELS, num_nodes=2)
    torch.testing.assert_close(fuse(h, graph)[1], fuse(h[1], graph))


def test_a_batch_without_samples_is_read_as_nothing():
    graph = Graph({name: node_set([]) for name in (*TYPES, "f")}, 0)
    for cls in (MeanReadout, MaxReadout, AttentionReadout, low_rank):
        assert cls(TYPES, CHANNELS)(torch.empty(0, CHANNELS), graph).shape == (0, 8)
    fuse = FuseReadout(("f",), CHANNELS, num_nodes=2)
    assert fuse(torch.empty(3, 0, CHANNELS), graph).shape == (3, 0, 16)
