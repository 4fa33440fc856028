import math
import random
import subprocess
import sys

import pytest
import torch
from random_graphs import TOPOLOGIES, mixed_relations, node_set, ragged_graph
from torch_geometric.nn import HGTConv

from mmgraph import Full, Relation, SchemaError
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.nn import MeanReadout, RelationalAttention, conv
from mmgraph.nn.hgt import HGTLayer, relational_from_hgt

CHANNELS = 8


def attention(topology, **options):
    """A layer in float64 whose parameters are all far from their initial values."""
    layer = RelationalAttention(
        mixed_relations(topology), CHANNELS, timed=("a", "b"), num_heads=2, **options
    ).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.4 * torch.randn_like(p))
    return layer


def states(graph, *leading, channels=CHANNELS):
    num_nodes = sum(len(nodes) for nodes in graph.nodes.values())
    return torch.randn(*leading, num_nodes, channels).double().requires_grad_()


def run(layer, h, graph, execution):
    """Outputs, and gradients of a loss that weighs every cell differently."""
    layer.execution = execution
    attended = layer(h, graph)
    loss = sum(
        (value * torch.linspace(-1, 2, value.numel()).view(value.shape)).sum()
        for value in attended.values()
    )
    inputs = [h, *layer.parameters()]
    gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
    return attended, gradients


def assert_paths_agree(layer, graph, *leading):
    h = states(graph, *leading)
    dense, sparse = (run(layer, h, graph, e) for e in ("dense", "sparse"))
    torch.testing.assert_close(dense, sparse, rtol=1e-10, atol=1e-10)
    assert all(value.isfinite().all() for value in dense[0].values())
    assert all(value.isfinite().all() for value in dense[1])


@pytest.mark.parametrize("null_sink", [True, False])
@pytest.mark.parametrize("capacity", ["bias", "scalar", "full"])
@pytest.mark.parametrize(
    ("name", "members"),
    [("full", None), ("window", None), *((name, 3) for name in TOPOLOGIES)],
)
def test_dense_and_sparse_agree(name, capacity, null_sink, members):
    layer = attention(
        TOPOLOGIES[name], capacity=capacity, null_sink=null_sink, members=members
    )
    assert_paths_agree(layer, ragged_graph(1))


def out_of_weights(layer, h, graph):
    """Compute the messages of a layer from its attention weights, edge by edge."""
    kv = layer.key_value(h, graph.rows)
    senders = tuple(graph.rows_among(layer.sources))
    keys, values = (graph.split(x, senders) for x in kv.chunk(2, -1))
    receivers = graph.rows_among(layer.targets)
    leading = h.shape[:-2]
    total = {n: h.new_zeros(*leading, len(graph.nodes[n]), CHANNELS) for n in receivers}
    mass = dict.fromkeys(receivers, 0)
    for number, relation in enumerate(layer.relations):
        found = layer.weights(h, graph)[relation.edge_type]
        name = relation.target
        _, v = layer._weights().per_relation(
            number, keys[relation.source], values[relation.source]
        )
        sent = v.index_select(-2, found.source).unflatten(-1, (2, -1))
        message = (sent * found.weight[..., None]).flatten(-2)
        total[name] = total[name].index_add(-2, found.target, message)
        each = found.sink.new_zeros(found.sink.shape)
        mass[name] = mass[name] + each.index_add(-2, found.target, found.weight)
        assert torch.equal(
            graph.nodes[relation.source].sample[found.source], found.sample
        )
        assert torch.equal(graph.nodes[name].sample[found.target], found.sample)
        mass[name, "sink"] = found.sink
    rows = torch.cat([total[name] for name in receivers], -2)
    return graph.split(layer.out(rows, receivers), receivers), mass


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("null_sink", [True, False])
@pytest.mark.parametrize(
    ("topology", "capacity", "members"),
    [("window", "bias", None), ("custom", "full", 3), ("full", "scalar", 3)],
)
def test_attention_weights_times_values_are_the_messages(
    topology, capacity, members, null_sink, execution
):
    options = {"capacity": capacity, "members": members, "null_sink": null_sink}
    layer = attention(TOPOLOGIES[topology], **options)
    layer.execution = "sparse" if topology == "custom" else execution
    graph = ragged_graph(1)
    a = graph.nodes["a"]
    receive_only = torch.arange(len(a)) % 3 == 0
    graph.nodes["a"] = NodeSet(a.sample, a.num_samples, a.time, receive_only)
    h = states(graph, *(() if members is None else (members,)))
    wanted = layer(h, graph)
    found, mass = out_of_weights(layer, h, graph)
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-10)
        total = mass[name] + mass[name, "sink"]
        assert bool((mass[name, "sink"] > 0).all()) == null_sink
        attended = mass[name].detach().amax(-1) > 0  # has an incoming edge
        expected = torch.ones_like(total) if null_sink else attended[..., None].double()
        torch.testing.assert_close(total, expected.expand_as(total))
    weights = layer.weights(h, graph)
    for relation in layer.relations:
        if relation.source == "a":  # placeholders send nothing
            assert not receive_only[weights[relation.edge_type].source].any()


@pytest.mark.parametrize("leading", [(), (3,)], ids=["shared", "by member"])
def test_dense_and_sparse_agree_with_placeholders_and_reliability(leading):
    layer = attention(TOPOLOGIES["nearest_3"], members=3, capacity="scalar")
    graph = ragged_graph(3)
    a, b = graph.nodes["a"], graph.nodes["b"]
    receive_only = torch.arange(len(a)) % 3 == 0
    reliability = -torch.rand(*leading, len(b)).double()
    graph.nodes["a"] = NodeSet(a.sample, a.num_samples, a.time, receive_only)
    graph.nodes["b"] = NodeSet(b.sample, b.num_samples, b.time, None, reliability)
    assert_paths_agree(layer, graph, 3)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_members_are_layers_of_their_own(execution):
    graph = ragged_graph(1)
    stacked = attention(TOPOLOGIES["window"], capacity="full", members=3)
    h = states(graph, 3)
    together, _ = run(stacked, h, graph, execution)
    for member in range(3):
        alone = attention(TOPOLOGIES["window"], capacity="full")
        alone.load_state_dict({k: v[member] for k, v in stacked.state_dict().items()})
        attended, _ = run(alone, h[member], graph, execution)
        for name, value in attended.items():
            torch.testing.assert_close(together[name][member], value)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("null_sink", [True, False])
def test_two_nodes_in_closed_form(null_sink, execution):
    """One target with two sources, one head: written out by hand."""
    graph = Graph({"a": node_set([1]), "b": node_set([1]), "t": node_set([1])}, 1)
    layer = RelationalAttention(
        [Relation("a", "t"), Relation("b", "t")],
        2,
        num_heads=1,
        capacity="scalar",
        null_sink=null_sink,
        execution=execution,
    ).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    h = states(graph, channels=2)
    q = h[2] @ layer.query.weight[0] + layer.query.bias[0, 0]
    logits, values = [], []
    for r in range(2):
        kv = h[r] @ layer.key_value.weight[r] + layer.key_value.bias[r, 0]
        score = (q @ kv[:2]) / math.sqrt(2)
        logits.append(layer.key_scale[r, 0] * score + layer.bias[r, 0])
        values.append(layer.value_scale[r, 0] * kv[2:])
    total = logits[0].exp() + logits[1].exp()
    if null_sink:
        total = total + layer.sink[0, 0].exp()
    attended = sum(
        logit.exp() / total * value for logit, value in zip(logits, values, strict=True)
    )
    expected = attended @ layer.out.weight[0] + layer.out.bias[0]
    torch.testing.assert_close(layer(h, graph)["t"], expected)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("null_sink", [True, False])
def test_a_target_without_incoming_edges_gets_the_output_bias_only(
    null_sink, execution
):
    graph = Graph({"a": node_set([0, 2, 0]), "b": node_set([1, 1, 2])}, 3)
    layer = RelationalAttention(
        [Relation("a", "b")], CHANNELS, null_sink=null_sink, execution=execution
    ).double()
    with torch.no_grad():
        layer.out.bias.normal_()
    h = states(graph)
    attended, gradients = run(layer, h, graph, execution)
    bias = layer.out.bias[0]
    for row in (0, 2, 3):
        torch.testing.assert_close(attended["b"][row], bias[0])
    assert not torch.allclose(attended["b"][1], bias[0])
    assert all(value.isfinite().all() for value in gradients)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_nodes_without_any_source_in_the_batch_receive_zero(execution):
    graph = Graph({"a": node_set([0, 0]), "b": node_set([1, 2])}, 2)
    for null_sink in (True, False):
        layer = RelationalAttention(
            [Relation("a", "b"), Relation("b", "a")], CHANNELS, null_sink=null_sink
        ).double()
        attended, gradients = run(layer, states(graph), graph, execution)
        assert torch.equal(attended["b"], torch.zeros(3, CHANNELS).double())
        assert attended["a"].shape == (0, CHANNELS)
        assert all(value.isfinite().all() for value in gradients)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_a_sink_that_takes_all_lets_a_node_ignore_everything(execution):
    layer, graph = attention(Full(), execution=execution), ragged_graph(1)
    h = states(graph)
    before = layer(h, graph)["f"]
    assert before.std() > 0.01
    with torch.no_grad():
        layer.sink.fill_(1e4)
    number = layer.targets.index("f")
    expected = layer.out.bias[number].expand_as(before)
    torch.testing.assert_close(layer(h, graph)["f"], expected)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_an_unreliable_node_is_attended_less(execution):
    layer, graph = attention(Full(), execution=execution), ragged_graph(1)
    h = states(graph)
    b = graph.nodes["b"]

    def attended(reliability):
        value = torch.full((len(b),), reliability).double()
        sets = graph.nodes | {
            "b": NodeSet(b.sample, b.num_samples, b.time, None, value)
        }
        return layer(h, Graph(sets, graph.num_samples))["f"]

    receive_only = torch.ones(len(b), dtype=torch.bool)
    sets = graph.nodes | {"b": NodeSet(b.sample, b.num_samples, b.time, receive_only)}
    gone = layer(h, Graph(sets, graph.num_samples))["f"]
    torch.testing.assert_close(attended(0.0), layer(h, graph)["f"])
    torch.testing.assert_close(attended(-1e4), gone)
    assert (attended(-2.0) - gone).norm() < (attended(0.0) - gone).norm()


def test_channels_must_be_a_multiple_of_heads():
    with pytest.raises(SchemaError, match=r"multiple of num_heads=3, got 8\."):
        RelationalAttention([Relation("a", "b")], 8, num_heads=3)


@pytest.mark.parametrize(
    ("name", "counts", "path"),
    [
        ("full", [2, 3, 1], "dense"),
        ("window", [2, 3, 1], "dense"),
        ("custom", [2, 3, 1], "sparse"),
        ("full", [50, *[1] * 49], "sparse"),  # slots would be 98 % padding
    ],
)
def test_auto_takes_edges_where_slots_do_not_pay(name, counts, path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    graph = Graph({"a": node_set(counts, timed=True, generator=generator)}, len(counts))
    layer = RelationalAttention([Relation("a", "a", "r", TOPOLOGIES[name])], CHANNELS)
    taken = []
    for name_of_path in ("dense", "sparse"):
        original = getattr(conv, f"attend_{name_of_path}")

        def spy(*arguments, original=original, name_of_path=name_of_path):
            taken.append(name_of_path)
            return original(*arguments)

        monkeypatch.setattr(conv, f"attend_{name_of_path}", spy)
    layer(states(graph).detach().float(), graph)
    assert taken == [path]


def test_time_between_nodes_matters_only_where_both_have_time():
    graph = ragged_graph(1)
    layer = attention(Full())
    h = states(graph)
    before = layer(h, graph)
    shifted = {
        name: NodeSet(n.sample, n.num_samples, None if n.time is None else n.time * 1.5)
        for name, n in graph.nodes.items()
    }
    after = layer(h, Graph(shifted, graph.num_samples))
    assert not torch.allclose(before["a"], after["a"])
    assert torch.equal(before["f"], after["f"])
    assert torch.equal(before["c"], after["c"])


# PyTorch Geometric's HGTConv


def hgt_case(seed):
    """A random schema, its graph, an HGTConv with random parameters."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    types = [f"t{i}" for i in range(rng.randint(1, 5))]
    possible = [(s, r, t) for s in types for t in types for r in ("to", "also")]
    edge_types = rng.sample(possible, rng.randint(1, min(8, len(possible))))
    num_samples = rng.randint(1, 4)
    counts = {
        t: torch.randint(0, 4, (num_samples,), generator=generator).tolist()
        for t in types
    }
    counts[types[0]][0] = 2  # at least somebody
    if len(types) > 2:
        counts[types[-1]] = [0] * num_samples  # a type that nobody has
    graph = Graph({t: node_set(c) for t, c in counts.items()}, num_samples)
    heads = rng.choice([1, 2, 4])
    conv = HGTConv(CHANNELS, CHANNELS, (types, edge_types), heads=heads).double()
    with torch.no_grad():
        for p in conv.parameters():
            p.copy_(0.7 * torch.randn(p.shape, generator=generator))
    return graph, [Relation(s, t, r) for s, r, t in edge_types], conv


def run_hgt(conv, h, graph, relations):
    starts = {t: rows.start for t, rows in graph.rows.items()}
    edges = {
        r.edge_type: graph.edges(r)
        - torch.tensor([[starts[r.source]], [starts[r.target]]])
        for r in relations
    }
    return conv({t: h[rows] for t, rows in graph.rows.items()}, edges)


def loss_of(attended):
    return sum(
        (value * torch.linspace(-1, 2, value.numel()).view(value.shape)).sum()
        for _, value in sorted(attended.items())
    )


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("seed", range(20))
def test_the_full_layer_equals_hgt_conv(seed, execution):
    graph, relations, conv = hgt_case(seed)
    layer = relational_from_hgt(conv, relations, execution=execution)
    h = states(graph)
    expected, attended = run_hgt(conv, h, graph, relations), layer(h, graph)
    assert set(attended) == {r.target for r in relations}
    torch.testing.assert_close(attended, expected, rtol=1e-10, atol=1e-10)
    inputs = [
        torch.autograd.grad(loss_of(x), h, retain_graph=True)[0]
        for x in (attended, expected)
    ]
    torch.testing.assert_close(*inputs, rtol=1e-10, atol=1e-10)
    loss_of(expected).backward()
    ours = copied_gradients(layer, conv, relations, h, graph)
    for gradient, (name, p) in zip(ours, conv.named_parameters(), strict=True):
        theirs = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(gradient, theirs, rtol=1e-9, atol=1e-9, msg=name)


def copied_gradients(layer, conv, relations, h, graph):
    """Gradients of our loss, in the layout of the parameters of ``conv``.

    A weight is a copy, so its gradient is one too: a conv whose parameters are the
    gradients is what copying would have to start from.
    """
    layer.zero_grad()
    loss_of(layer(h, graph)).backward()
    grad = {n: torch.zeros_like(p) for n, p in conv.named_parameters()}
    a = layer.attention
    for i, t in enumerate(a.targets):
        _add(grad, f"kqv_lin.lins.{t}", 1, a.query.weight.grad[i], a.query.bias.grad[i])
        grad[f"out_lin.lins.{t}.weight"] += a.out.weight.grad[i].T
        grad[f"out_lin.lins.{t}.bias"] += a.out.bias.grad[i, 0]
        grad[f"skip.{t}"] += layer.skip.grad[i]
    for i, t in enumerate(a.sources):
        weight, bias = a.key_value.weight.grad[i], a.key_value.bias.grad[i]
        for place, part in ((0, slice(None, CHANNELS)), (2, slice(CHANNELS, None))):
            _add(grad, f"kqv_lin.lins.{t}", place, weight[:, part], bias[:, part])
    for i, relation in enumerate(relations):
        for head in range(conv.heads):
            row = head * len(conv.edge_types) + i
            grad["k_rel.weight"][row] = a.key_map.grad[i, head]
            grad["v_rel.weight"][row] = a.value_map.grad[i, head]
        grad["p_rel." + "__".join(relation.edge_type)][0] = a.key_scale.grad[i]
    return list(grad.values())


def _add(grad, name, place, weight, bias):
    rows = slice(place * CHANNELS, (place + 1) * CHANNELS)
    grad[f"{name}.weight"][rows] += weight.T
    grad[f"{name}.bias"][rows] += bias[0]


def test_hgt_in_single_precision_is_equal_too():
    graph, relations, conv = hgt_case(3)
    conv = conv.float()
    h = states(graph).detach().float()
    for execution in ("dense", "sparse"):
        layer = relational_from_hgt(conv, relations, execution=execution)
        assert next(layer.parameters()).dtype == torch.float32
        torch.testing.assert_close(
            layer(h, graph), run_hgt(conv, h, graph, relations), rtol=1e-5, atol=1e-5
        )


def test_hgt_keeps_nodes_without_incoming_edges_by_its_skip():
    graph = Graph({"a": node_set([0, 2]), "b": node_set([1, 1])}, 2)
    relations = [Relation("a", "b")]
    conv = HGTConv(CHANNELS, CHANNELS, (["a", "b"], [("a", "to", "b")])).double()
    layer = relational_from_hgt(conv, relations)
    h = states(graph)
    gate = torch.sigmoid(torch.tensor(1.0)).double()
    kept = gate * conv.out_lin.lins["b"].bias + (1 - gate) * h[2]
    attended = layer(h, graph)
    assert set(attended) == {"b"}
    torch.testing.assert_close(attended["b"][0], kept)
    torch.testing.assert_close(attended, run_hgt(conv, h, graph, relations))


def test_a_new_hgt_layer_can_be_trained():
    graph, relations, _ = hgt_case(1)
    layer = HGTLayer(relations, CHANNELS, num_heads=2).double()
    loss_of(layer(states(graph), graph)).backward()
    assert layer.skip.grad.any()
    assert layer.attention.key_map.grad.any()


def test_what_is_no_fitting_hgt_conv_is_rejected():
    types = (["a", "b"], [("a", "to", "b")])
    relations = [Relation("a", "b")]
    with pytest.raises(SchemaError, match="conv must be an HGTConv, got MeanReadout"):
        relational_from_hgt(MeanReadout(("a",), 4), relations)
    with pytest.raises(SchemaError, match=r"in_channels equal .*\[4, 8\]\. Map every"):
        relational_from_hgt(HGTConv(4, 8, types), relations)
    with pytest.raises(SchemaError, match=r"\('b', 'to', 'a'\) must be an edge type"):
        relational_from_hgt(HGTConv(8, 8, types), [Relation("b", "a")])


COMPILED = """
import torch
from mmgraph import Relation
from mmgraph.graph import Graph, NodeSet
from mmgraph.nn import FeedForward, GraphLayer, RelationalAttention
samples = {"a": torch.arange(4), "b": torch.tensor([0, 3]), "f": torch.arange(4)}
graph = Graph({n: NodeSet(s, 4, max_per_sample=1) for n, s in samples.items()}, 4)
attend = RelationalAttention([Relation(s, t) for s in "ab" for t in "abf"], 8)
layer = GraphLayer(attend, FeedForward(("a", "b", "f"), 8)).double()
h, results = torch.randn(10, 8).double().requires_grad_(), []
for function in (torch.compile(layer, fullgraph=True, backend="aot_eager"), layer):
    result = function(h, graph)
    inputs = [h, *layer.parameters()]
    results.append((result, torch.autograd.grad(result.sin().sum(), inputs)))
torch.testing.assert_close(*results)
"""


@pytest.mark.slow
def test_a_layer_is_compiled_whole_where_widths_are_known():
    """In a process without run-time type checks, which the compiler cannot follow."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
