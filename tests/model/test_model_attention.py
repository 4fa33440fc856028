"""Attention weights of a model, by edge type."""

import pytest
import torch
from torch_geometric.nn import SAGEConv

from mmgraph import Batch, Classification, ConfigError, FusionModel, Modality, Schema

MODALITIES = [Modality("a", 3), Modality("b", 2, tokens="ragged"), Modality("c", 4)]
CROSS = Schema.cross(MODALITIES, query="b", keys=["a", "c"])


@pytest.fixture
def batch():
    """Three samples: 0 is complete, 1 has a and b, 2 has c alone."""
    x = {"a": torch.randn(2, 3), "b": torch.randn(5, 2), "c": torch.randn(2, 4)}
    sample = {
        "a": torch.tensor([0, 1]),
        "b": torch.tensor([0, 0, 1, 1, 1]),
        "c": torch.tensor([0, 2]),
    }
    return Batch(3, x, sample)


def make_model(schema=CROSS, **options):
    options = {"hidden_channels": 8, "num_heads": 2} | options
    return FusionModel(schema, Classification(3), **options)


@pytest.mark.parametrize("members", [None, 2])
def test_nodes_of_missing_modalities_have_no_edges(members, batch):
    model = make_model(members=members)
    found = model.attention(batch)
    assert tuple(found) == CROSS.edge_types
    edges = found["a", "to", "b"]
    assert edges.sample.tolist() == [0, 0, 1, 1, 1]
    assert edges.source.tolist() == [0, 0, 1, 1, 1]
    assert edges.target.tolist() == [0, 1, 2, 3, 4]
    assert found["c", "to", "b"].sample.tolist() == [0, 0]  # sample 2 has no query
    leading = () if members is None else (members,)
    assert edges.weight.shape == edges.sink.shape == (*leading, 5, 2)
    total = edges.weight + edges.sink
    total[..., :2, :] += found["c", "to", "b"].weight
    torch.testing.assert_close(total, torch.ones_like(total))
    hidden = batch.hold_out(torch.tensor([[False, False, True]] * 3))
    assert not len(model.attention(hidden)["c", "to", "b"].sample)


def test_weights_are_those_of_the_layer_named(batch):
    model = make_model()
    first, last = (model.attention(batch, layer=number) for number in (0, 1))
    assert tuple(first) == CROSS.edge_types
    assert tuple(last) == (("b", "to", "fuse"),)  # others cannot reach the readout
    both = model.attention(batch)
    assert torch.equal(both["a", "to", "b"].weight, first["a", "to", "b"].weight)
    assert torch.equal(both["b", "to", "fuse"].weight, last["b", "to", "fuse"].weight)
    assert not torch.equal(
        first["b", "to", "fuse"].weight, last["b", "to", "fuse"].weight
    )


def test_weights_need_no_gradient_and_predictions_stay_the_same(batch):
    model = make_model()
    before = model(batch).logits
    assert not model.attention(batch)["a", "to", "b"].weight.requires_grad
    assert torch.equal(model(batch).logits, before)


def test_both_execution_paths_have_the_same_weights(batch):
    dense, sparse = (make_model(execution=e, seed=1) for e in ("dense", "sparse"))
    other = sparse.attention(batch)
    for name, edges in dense.attention(batch).items():
        torch.testing.assert_close(edges.weight, other[name].weight)


def test_padding_of_a_regular_batch_has_no_edges():
    schema = Schema.star([MODALITIES[0], MODALITIES[2]])
    x = {"a": torch.randn(3, 3), "c": torch.randn(3, 4)}
    present = torch.tensor([[True, False], [True, True], [False, False]])
    found = make_model(schema).attention(Batch.regular(x, present))
    assert found["a", "to", "fuse"].sample.tolist() == [0, 1]
    assert found["c", "to", "fuse"].sample.tolist() == [1]


def test_evidence_is_part_of_the_nodes(batch):
    model = make_model(Schema.complete(MODALITIES), evidence_channels=1)
    evidence = torch.randn(3, 3, 1)
    one, other = (model.attention(batch, e) for e in (evidence, -evidence))
    edges = ("a", "to", "c")
    assert not torch.equal(one[edges].weight, other[edges].weight)


def test_a_schema_without_relations_has_no_attention(batch):
    assert make_model(Schema.late(MODALITIES)).attention(batch) == {}


def test_what_has_no_attention_is_rejected(batch):
    with pytest.raises(ConfigError, match=r"layer must be from 0 to 1, got 2\. The"):
        make_model().attention(batch, layer=2)
    model = make_model(conv=lambda: SAGEConv((8, 8), 8))
    with pytest.raises(ConfigError, match=r"got a layer of PyGConv\. Build the model"):
        model.attention(batch)
