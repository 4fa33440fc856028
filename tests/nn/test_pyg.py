import pytest
import torch
from random_graphs import node_set
from torch_geometric.nn import GATv2Conv, HGTConv, RGCNConv, SAGEConv

from mmgraph import (
    Batch,
    Classification,
    ConfigError,
    FusionModel,
    Modality,
    Schema,
    SchemaError,
)
from mmgraph.graph.graph import Graph
from mmgraph.nn import PyGConv
from mmgraph.schema import Relation

SCHEMA = Schema.complete([Modality("a", 3), Modality("b", 2, tokens="ragged")])
METADATA = (list(SCHEMA.node_types), list(SCHEMA.edge_types))
D = 8
CONVS = {
    "gatv2": (lambda: GATv2Conv((D, D), D, add_self_loops=False), "pair"),
    "sage": (lambda: SAGEConv((D, D), D), "pair"),
    "hgt": (lambda: HGTConv(D, D, METADATA, heads=2), "hetero"),
    "rgcn": (lambda: RGCNConv(D, D, num_relations=len(SCHEMA.relations)), "typed"),
}


def make_batch():
    """Four samples: complete, only a, nothing, only b."""
    return Batch(
        4,
        {"a": torch.randn(2, 3), "b": torch.randn(4, 2)},
        {"a": torch.tensor([0, 1]), "b": torch.tensor([0, 3, 3, 3])},
    )


def make_model(name):
    torch.manual_seed(1)
    build, _ = CONVS[name]
    model = FusionModel(SCHEMA, task=Classification(3), hidden_channels=D, conv=build)
    with torch.no_grad():  # biases that begin at zero would hide what they do
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("name", CONVS)
def test_convolutions_run_and_learn_in_a_model(name):
    model = make_model(name)
    convs = [layer.messages for layer in model.layers]
    assert all(isinstance(conv, PyGConv) for conv in convs)
    assert {conv.kind for conv in convs} == {CONVS[name][1]}
    output = model(make_batch())
    assert output.logits.shape == (4, 3)
    assert output.logits.isfinite().all()
    output.logits.square().sum().backward()
    assert all(any(p.grad is not None for p in conv.parameters()) for conv in convs)
    for conv in convs:
        gradients = [p.grad for p in conv.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", CONVS)
def test_a_sample_alone_equals_the_sample_in_a_batch(name):
    model, batch = make_model(name), make_batch()
    logits = model(batch).logits
    assert (logits - logits.mean(0)).abs().max() > 1e-4
    for i in range(4):
        mine = {m: batch.sample[m] == i for m in batch.modalities}
        alone = Batch(
            1,
            {m: batch.x[m][rows] for m, rows in mine.items()},
            {m: torch.zeros(int(rows.sum())).long() for m, rows in mine.items()},
        )
        torch.testing.assert_close(model(alone).logits[0], logits[i])


@pytest.mark.parametrize("name", CONVS)
def test_a_modality_that_the_whole_batch_lacks_is_no_trouble(name):
    model, batch = make_model(name), make_batch()
    lacking = batch.drop(torch.tensor([[True, False]]).expand(4, 2))
    logits = model(lacking).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(model(batch.select(["a"])).logits, logits)
    torch.testing.assert_close(logits[1:3], model(batch).logits[1:3])


def test_pair_convolutions_are_summed_over_relations():
    relations = [Relation("a", "c"), Relation("b", "c"), Relation("a", "b")]
    layer = PyGConv(lambda: SAGEConv((D, D), D), relations)
    assert len(layer.convs) == 3
    graph, h = graph_of([1, 2], [2, 0], [1, 1]), torch.randn(7, D)
    attended = layer(h, graph)
    assert set(attended) == {"c", "b"}
    a, b, c = h[:3], h[3:5], h[5:]

    def sage(conv, source, target):
        return conv.lin_l(source) + conv.lin_r(target)

    means = torch.stack([a[0], a[1:].mean(0)])
    first = sage(layer.convs[0], means, c)
    nobody = torch.stack([b.mean(0), torch.zeros(D)])
    second = sage(layer.convs[1], nobody, c)
    torch.testing.assert_close(attended["c"], first + second)
    torch.testing.assert_close(attended["b"], sage(layer.convs[2], a[[0, 0]], b))


def graph_of(*counts):
    sets = {name: node_set(c) for name, c in zip("abc", counts, strict=True)}
    return Graph(sets, len(counts[0]))


def test_typed_convolutions_get_numbered_relations():
    calls = []

    class Typed(torch.nn.Module):
        def forward(self, x, edge_index, edge_type):
            calls.append((edge_index, edge_type))
            return 2 * x

    relations = [Relation("a", "b"), Relation("b", "c"), Relation("a", "c")]
    graph, h = graph_of([1, 2], [2, 0], [1, 1]), torch.randn(7, D)
    attended = PyGConv(Typed, relations)(h, graph)
    ((edge_index, edge_type),) = calls
    assert edge_type.tolist() == [0, 0, 1, 1, 2, 2, 2]
    expected = torch.cat([graph.edges(r) for r in relations], 1)
    assert torch.equal(edge_index, expected)
    assert {name: rows.tolist() for name, rows in attended.items()} == {
        "b": (2 * h[3:5]).tolist(),
        "c": (2 * h[5:]).tolist(),
    }


def test_types_for_which_a_hetero_convolution_has_nothing_are_left_out():
    class Hetero(torch.nn.Module):
        def forward(self, x_dict, edge_index_dict):
            assert list(edge_index_dict) == [("a", "to", "b")]
            assert edge_index_dict["a", "to", "b"].tolist() == [[0, 0], [0, 1]]
            return {"a": None, "b": x_dict["b"] + 1}

    graph, h = graph_of([1, 2], [2, 0], [1, 1]), torch.randn(7, D)
    attended = PyGConv(Hetero, [Relation("a", "b")])(h, graph)
    assert list(attended) == ["b"]
    assert torch.equal(attended["b"], h[3:5] + 1)


@pytest.mark.parametrize("name", CONVS)
def test_each_member_has_its_own_convolutions(name):
    build, relations = CONVS[name][0], SCHEMA.relations
    layer = PyGConv(build, relations, members=2)
    assert all(p.shape[0] == 2 for p in layer.parameters())
    assert any((p[0] != p[1]).any() for p in layer.parameters())
    nodes = {"a": node_set([1, 1]), "b": node_set([1, 2])}
    nodes["fuse"] = node_set([1, 1])
    graph, h = Graph(nodes, 2), torch.randn(2, 7, D)
    messages, single = layer(h, graph), PyGConv(build, relations)
    for member in range(2):
        for conv, copies in zip(single.convs, layer.convs, strict=True):
            names = {k: k.replace(".", "/") for k in conv.state_dict()}
            state = {k: copies.get_parameter(own)[member] for k, own in names.items()}
            conv.load_state_dict(state)
        for target, rows in single(h[member], graph).items():
            torch.testing.assert_close(messages[target][member], rows)


def test_states_of_members_need_a_layer_with_members():
    layer = PyGConv(lambda: SAGEConv((D, D), D), [Relation("a", "b")])
    message = r"got \[2, 7, 8\]\. Build the layer with members=2\."
    with pytest.raises(SchemaError, match=message):
        layer(torch.randn(2, 7, D), graph_of([1, 2], [2, 0], [1, 1]))


def test_a_convolution_of_another_width_is_rejected():
    layer = PyGConv(lambda: SAGEConv((D, D), 4), [Relation("a", "b")])
    with pytest.raises(SchemaError, match=r"rows of width 8, got 4\. Set its output"):
        layer(torch.randn(7, D), graph_of([1, 2], [2, 0], [1, 1]))


def test_convolutions_of_members_need_known_shapes():
    relations = [Relation("a", "b")]
    with pytest.raises(ConfigError, match=r"got a SAGEConv that infers them\. Give"):
        PyGConv(lambda: SAGEConv(-1, D), relations, members=2)


def test_what_is_no_convolution_is_rejected():
    with pytest.raises(SchemaError, match=r"x and edge_index, .* got Linear\('input',"):
        PyGConv(lambda: torch.nn.Linear(2, 2), [Relation("a", "b")])
