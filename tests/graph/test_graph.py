from types import SimpleNamespace

import pytest
import torch
from random_graphs import TOPOLOGIES, node_set, ragged_graph

from mmgraph import Custom, Full, KNearest, Relation, SchemaError, TimeWindow
from mmgraph.graph import NodeSet, ranges
from mmgraph.graph.graph import Graph
from mmgraph.schema import SameIndex

PAIRS = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]


def nearest(times, now, k):
    """The k nearest; of two equally near ones on either side, the earlier.

    Of nodes at the same time the one that keeps the chosen nodes neighbors comes
    first: the later one in the past, the earlier one in the future.
    """
    past = [j for j, t in enumerate(times) if t < now]
    future = [j for j, t in enumerate(times) if t >= now]
    order = sorted(
        range(len(times)),
        key=lambda j: (abs(times[j] - now), j in future, -j if j in past else j),
    )
    return set(order[:k])


def sends_to(topology, source, target, j, i):
    """Return whether source node j sends to target node i of the same sample."""
    if isinstance(topology, Full):
        return True
    if isinstance(topology, SameIndex):
        return source.position[j] == target.position[i]
    if isinstance(topology, TimeWindow):
        return abs(source.time[j] - target.time[i]) <= topology.seconds
    if isinstance(topology, KNearest):
        mates = [n for n, s in enumerate(source.sample) if s == source.sample[j]]
        times = [source.time[n] for n in mates]
        return mates.index(j) in nearest(times, target.time[i], topology.k)
    return (source.position[j] + target.position[i]) % 2 == 0


def plain(nodes):
    """The nodes as lists, which a loop reads faster than tensors."""
    fields = ("sample", "position", "time", "receive_only")
    values = {name: getattr(nodes, name) for name in fields}
    return SimpleNamespace(
        **{k: v if v is None else v.tolist() for k, v in values.items()}
    )


def reference(graph, relation):
    """All edges as (source, target) in table rows, sorted by target, then source."""
    source, target = (plain(graph.nodes[name]) for name in relation.edge_type[::2])
    first = graph.rows[relation.source].start, graph.rows[relation.target].start
    return [
        [j + first[0], i + first[1]]
        for i in range(len(target.sample))
        for j in range(len(source.sample))
        if source.sample[j] == target.sample[i]
        and (source.receive_only is None or not source.receive_only[j])
        and sends_to(relation.topology, source, target, j, i)
    ]


@pytest.mark.parametrize("pair", PAIRS, ids="".join)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_edges_and_mask_equal_the_definition_of_the_topology(name, pair):
    num_edges = 0
    for seed in range(4):
        graph = ragged_graph(seed)
        relation = Relation(*pair, "r", TOPOLOGIES[name])
        expected = reference(graph, relation)
        assert graph.edges(relation).T.tolist() == expected
        num_edges += len(expected)
        mask = graph.mask(relation)
        if name == "full":
            assert mask is None
            continue
        source, target = graph.nodes[pair[0]], graph.nodes[pair[1]]
        assert mask.shape == (graph.num_samples, target.width, source.width)
        sample, i, j = torch.nonzero(mask).T
        rows = torch.stack(
            [
                source.offsets[sample] + j + graph.rows[pair[0]].start,
                target.offsets[sample] + i + graph.rows[pair[1]].start,
            ]
        )
        assert sorted(rows.T.tolist()) == sorted(expected)
    assert num_edges > 0, "an empty reference would not test anything"


@pytest.mark.parametrize(
    ("times", "now", "k", "chosen"),
    [
        ([0, 1, 2], 1, 1, [1]),
        ([0, 2], 1, 1, [0]),
        ([0, 1, 3, 4], 2, 2, [1, 2]),
        ([0, 1, 3, 4], 2, 3, [0, 1, 2]),
        ([0, 4], 9, 5, [0, 1]),
        ([5, 6, 7], 0, 2, [0, 1]),
        ([5, 6, 7], 99, 2, [1, 2]),
        ([0, 0, 2], 2, 2, [1, 2]),  # nodes at the same time
        ([0, 0, 0, 2, 4], 2, 2, [2, 3]),
        ([2, 4, 4], 2, 2, [0, 1]),
        ([3, 3, 3], 3, 2, [0, 1]),
    ],
)
def test_k_nearest_chooses_by_time_and_prefers_the_earlier(times, now, k, chosen):
    def nodes(times):
        return NodeSet(torch.zeros(len(times)).long(), 1, torch.tensor(times).double())

    start, stop = ranges(KNearest(k), nodes(times), nodes([now]))
    assert list(range(int(start), int(stop))) == chosen


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_types_without_nodes_have_no_edges(name):
    empty = node_set([0, 0, 0], timed=True)
    some = node_set([0, 2, 1], timed=True, generator=torch.Generator())
    graph = Graph({"a": empty, "b": some}, 3)
    for pair in (("a", "b"), ("b", "a"), ("a", "a")):
        relation = Relation(*pair, "r", TOPOLOGIES[name])
        assert graph.edges(relation).shape == (2, 0)
        if name != "full":
            mask = graph.mask(relation)
            assert mask.shape[0] == 3
            assert not mask.any()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_placeholders_receive_but_do_not_send(name):
    graph = ragged_graph(1)
    receive_only = torch.arange(len(graph.nodes["a"])) % 2 == 0
    source = graph.nodes["a"]
    quiet = NodeSet(source.sample, source.num_samples, source.time, receive_only)
    quiet_graph = Graph(graph.nodes | {"a": quiet}, graph.num_samples)
    for pair in PAIRS[:3]:
        relation = Relation(*pair, "r", TOPOLOGIES[name])
        edges = graph.edges(relation)
        if pair[0] == "a":
            edges = edges[:, ~receive_only[edges[0] - graph.rows["a"].start]]
        assert torch.equal(quiet_graph.edges(relation), edges)
    assert quiet_graph.edges(Relation("b", "a")).shape[1] > 0


def test_a_layout_has_a_slot_for_every_node_and_names_who_sends():
    graph = ragged_graph(2)
    receive_only = torch.zeros(len(graph.nodes["a"]), dtype=torch.bool)
    receive_only[0] = True
    a = graph.nodes["a"]
    graph.nodes["a"] = NodeSet(a.sample, a.num_samples, a.time, receive_only)
    layout = graph.layout(("c", "a"))
    sets = [graph.nodes["c"], graph.nodes["a"]]
    widths = [nodes.width for nodes in sets]
    assert layout.num_slots == sum(widths)
    assert layout.block == (0,) * widths[0] + (1,) * widths[1]
    expected = [
        (start + int(p)) * graph.num_samples + int(s)
        for nodes, start in zip(sets, (0, widths[0]), strict=True)
        for s, p in zip(nodes.sample, nodes.position, strict=True)
    ]
    assert layout.slots.slot.tolist() == expected
    assert len(set(expected)) == len(expected)
    quiet = expected[len(sets[0])]  # the first a is a placeholder
    assert torch.nonzero(layout.sends.flatten())[:, 0].tolist() == sorted(
        set(expected) - {quiet}
    )
    assert layout.log_reliability is None
    assert graph.layout(("c", "a")) is layout


def test_reliability_is_laid_out_and_zero_where_it_is_not_given():
    graph = ragged_graph(3)
    b = graph.nodes["b"]
    reliability = -torch.rand(2, len(b))
    graph.nodes["b"] = NodeSet(b.sample, b.num_samples, b.time, None, reliability)
    layout = graph.layout(("a", "b"))
    flat = layout.log_reliability.flatten(-2).clone()
    assert layout.log_reliability.shape == (2, layout.num_slots, graph.num_samples)
    num_a = len(graph.nodes["a"])
    assert torch.equal(flat[:, layout.slots.slot[num_a:]], reliability)
    flat[:, layout.slots.slot[num_a:]] = 0
    assert not flat.any()


def test_even_nodes_lie_in_their_slots_already():
    nodes = {"a": node_set([1] * 3), "b": node_set([1] * 3)}
    layout = Graph(nodes, 3).layout(("b", "a"))
    assert (layout.slots, layout.sends, layout.widths) == (None, None, (1, 1))
    rows = torch.randn(6, 4)
    slots = layout.spread(rows)
    assert slots.data_ptr() == rows.data_ptr()
    assert torch.equal(slots, rows.view(2, 3, 4))
    assert torch.equal(layout.gather(slots), rows)


@pytest.mark.parametrize("num_a", [0, 2])
def test_rows_are_spread_and_gathered(num_a):
    graph = Graph({"a": node_set([num_a] * 3), "b": node_set([1, 0, 2])}, 3)
    layout = graph.layout(("b", "a"))
    rows = torch.randn(2, 3 + 3 * num_a, 4, requires_grad=True)
    slots = layout.spread(rows)
    assert slots.shape == (2, 2 + num_a, 3, 4)
    assert torch.equal(slots[:, :2, :, 0] != 0, layout.sends[:2].expand(2, 2, 3))
    gathered = layout.gather(slots)
    assert torch.equal(gathered, rows)
    (gradient,) = torch.autograd.grad((gathered * rows.detach()).sum(), rows)
    assert torch.equal(gradient, rows)


def test_widths_known_beforehand_are_not_counted():
    nodes = NodeSet(torch.tensor([0, 2]), 3, max_per_sample=1)
    assert (nodes.width, nodes.is_even) == (1, False)
    assert nodes.position.tolist() == [0, 0]
    pairs = NodeSet(torch.tensor([0, 0, 1, 1]), 2, max_per_sample=2)
    assert (pairs.width, pairs.is_even) == (2, True)
    assert pairs.position.tolist() == [0, 1, 0, 1]
    assert NodeSet(torch.tensor([0, 2]), 3, max_per_sample=2).position.tolist() == [
        0,
        0,
    ]


def test_tables_are_split_and_reordered_by_type():
    graph = ragged_graph(4)
    table = torch.randn(sum(len(graph.nodes[name]) for name in "fb"), 2)
    parts = graph.split(table, ("f", "b"))
    assert torch.equal(graph.reorder(table, "fb", "fb"), table)
    expected = torch.cat([parts["b"], parts["f"], parts["b"]])
    assert torch.equal(graph.reorder(table, "fb", "bfb"), expected)
    rows = graph.rows_among(("f", "b"))
    assert list(rows) == ["b", "f"]
    assert rows["f"] == slice(len(parts["b"]), len(table))


def test_rows_follow_each_other_type_by_type():
    graph = ragged_graph(4)
    sizes = [len(nodes) for nodes in graph.nodes.values()]
    assert [rows.start for rows in graph.rows.values()] == [
        sum(sizes[:i]) for i in range(4)
    ]
    assert list(graph.rows.values())[-1].stop == sum(sizes)


def test_time_slots_hold_the_times():
    graph = ragged_graph(5)
    a = graph.nodes["a"]
    slots = graph.time_slots("a")
    assert slots.shape == (graph.num_samples, a.width)
    assert torch.equal(slots[a.sample, a.position], a.time)
    slots[a.sample, a.position] = 0
    assert not slots.any()
    with pytest.raises(AssertionError, match="node type 'c' has no time"):
        graph.time_slots("c")


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.zeros(2, 1), r"must return integers of shape \[2, E\], got torch"),
        (torch.zeros(3, 1).long(), r"of shape \[2, E\], got torch.int64 of .*\[3, 1\]"),
        (torch.zeros(2).long(), r"must return integers of shape \[2, E\]"),
        (torch.tensor([[3], [0]]), r"rows below 3 \(source\) and 2 \(target\)"),
        (torch.tensor([[0], [2]]), r"rows below 3 \(source\) and 2 \(target\)"),
        (torch.tensor([[-1], [0]]), r"rows below 3 \(source\) and 2 \(target\)"),
        (torch.tensor([[0], [1]]), "an edge between two samples"),
    ],
)
def test_edges_of_a_custom_function_are_checked(edges, message):
    graph = Graph({"a": node_set([2, 1]), "b": node_set([1, 1])}, 2)
    relation = Relation("a", "b", "mine", Custom(lambda *_: edges, "bad"))
    with pytest.raises(SchemaError, match=message) as error:
        graph.edges(relation)
    assert "Relation ('a', 'mine', 'b')" in str(error.value)


def test_an_unknown_topology_has_no_ranges():
    nodes = node_set([1])
    with pytest.raises(AssertionError, match="has no ranges"):
        ranges("ring", nodes, nodes)
