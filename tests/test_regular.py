"""Regular batches: every sample has a row of everything, a mask says what is there."""

import jaxtyping
import pytest
import torch
from torch import nn

from mmgraph import (
    Batch,
    Classification,
    DataError,
    FusionModel,
    Latent,
    Modality,
    Relation,
    Schema,
)

MODALITIES = (
    Modality("labs", 3),
    Modality("gene", 4, kind="embedding"),
    Modality("c", 2),
)
NAMES = tuple(m.name for m in MODALITIES)
TWO_WAY = Schema(
    MODALITIES,
    [Latent("fuse")],
    [Relation("*", "fuse"), Relation("fuse", "*"), Relation("labs", "gene")],
)
MODELS = {
    "star": (Schema.star(MODALITIES), {}),
    "two-way": (TWO_WAY, {"capacity": "full"}),
    "complete-members": (
        Schema.complete(MODALITIES),
        {"members": 2, "capacity": "scalar"},
    ),
    "bottleneck": (Schema.bottleneck(MODALITIES), {}),
    "mixture": (Schema.complete(MODALITIES), {"feed_forward": "mixture"}),
    "mean": (Schema.late(MODALITIES), {"evidence_channels": 2}),
    "max": (Schema.late(MODALITIES), {"readout": "max"}),
    "attention": (Schema.late(MODALITIES), {"readout": "attention"}),
}


def rows(num_samples, dtype=torch.float64):
    return {
        m.name: torch.randn(num_samples, m.channels, dtype=dtype) for m in MODALITIES
    }


def mask(num_samples):
    """Everything, nothing, one modality in no sample, the rest at random."""
    present = torch.rand(num_samples, 3) > 0.4
    present[0], present[1] = True, False
    return present


def build(name, **options):
    schema, own = MODELS[name]
    model = FusionModel(schema, Classification(3), hidden_channels=8, **own, **options)
    return model.double()


def run(model, batch):
    evidence = None
    if model.nodes.evidence is not None:
        evidence = torch.linspace(-1, 1, 6).double().view(3, 2)
        evidence = evidence.expand(batch.num_samples, 3, 2)
        evidence = evidence.masked_fill(~batch.present[..., None], torch.nan)
    logits = model(batch, evidence).logits
    return logits, torch.autograd.grad(
        logits.sin().sum(), list(model.parameters()), materialize_grads=True
    )


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("name", MODELS)
def test_a_regular_batch_says_what_the_packed_one_says(name, execution):
    model, x, present = build(name, execution=execution), rows(6), mask(6)
    regular = Batch.regular(x, present)
    result, expected = run(model, regular), run(model, regular.packed())
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    poisoned = {
        name: torch.where(present[:, i, None], value, torch.nan)
        for i, (name, value) in enumerate(x.items())
    }
    again = run(model, Batch.regular(poisoned, present))
    assert torch.equal(again[0], result[0])
    assert all(torch.equal(a, b) for a, b in zip(again[1], result[1], strict=True))


def test_what_is_hidden_in_a_regular_batch_stays_regular():
    batch = Batch.regular(rows(4), torch.ones(4, 3, dtype=torch.bool))
    held_out = torch.zeros(4, 3, dtype=torch.bool)
    held_out[1, 0] = True
    seen = batch.hold_out(held_out).visible()
    assert seen.x["labs"].shape == (4, 3)
    assert torch.equal(seen.present, ~held_out)
    assert not seen.x["labs"][1].any()
    packed = seen.packed()
    assert packed.sample["labs"].tolist() == [0, 2, 3]
    assert torch.equal(packed.x["labs"], batch.x["labs"][[0, 2, 3]])
    assert packed.packed() is packed
    chosen = seen.select(["c", "labs"]).to(torch.float32)
    assert torch.equal(chosen.present, ~held_out[:, [2, 0]])
    assert seen.to_hetero_data()["labs"].x.shape == (3, 3)


def test_completion_of_a_regular_batch_is_that_of_the_packed_one():
    schema = Schema.complete(MODALITIES)
    model = FusionModel(
        schema, Classification(3), hidden_channels=8, completion=True, promote=True
    )
    regular = Batch.regular(rows(5, torch.float32), mask(5))
    one, other = (model(b, complete=["labs"]) for b in (regular, regular.packed()))
    torch.testing.assert_close(one.logits, other.logits)
    torch.testing.assert_close(one.completed["labs"].h, other.completed["labs"].h)


def test_a_regular_batch_needs_a_row_for_every_sample():
    x = rows(4)
    with pytest.raises(DataError, match=r"present must be Bool of shape \[4, 3\]"):
        Batch.regular(x, torch.ones(4, 2, dtype=torch.bool))
    with pytest.raises(DataError, match=r"x\['labs'\] .* got \[3, 3\] and \[4\]"):
        Batch.regular(x | {"labs": x["labs"][:3]}, torch.ones(4, 3, dtype=torch.bool))


class Served(nn.Module):
    """A model as a function of tensors alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, present):
        return self.model(Batch.regular(x, present)).logits


@pytest.fixture
def _sizes_may_be_symbols():
    """Numbers of samples are symbols while a model is exported, which are no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("_sizes_may_be_symbols")
@pytest.mark.parametrize("name", ["star", "complete-members", "bottleneck", "max"])
def test_a_model_of_regular_batches_is_exported_for_any_batch_size(name):
    served = Served(build(name)).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        served,
        (rows(5), mask(5)),
        dynamic_shapes=({n: {0: batch} for n in NAMES}, {0: batch}),
    )
    for size in (2, 9):
        x, present = rows(size), mask(size)
        torch.testing.assert_close(program.module()(x, present), served(x, present))
