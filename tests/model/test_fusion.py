import math
from dataclasses import replace

import pytest
import torch

from mmgraph import (
    Batch,
    Classification,
    DataError,
    FusionModel,
    Latent,
    Modality,
    MultiLabel,
    Regression,
    Relation,
    Schema,
    SchemaError,
)
from mmgraph.model import plan_layers
from mmgraph.nn import EmbeddingEncoder, SequenceEncoder, VectorEncoder

MODALITIES = [
    Modality("a", 3),
    Modality("b", 2, tokens="ragged", time=True),
    Modality("c", 4, kind="embedding"),
]
SCHEMA = Schema.complete(MODALITIES)


@pytest.fixture
def batch():
    """Five samples: 0 has a and b, 1 has a and c, 2 nothing, 3 b and c, 4 only c."""
    x = {"a": torch.randn(2, 3), "b": torch.randn(5, 2), "c": torch.randn(3, 4)}
    sample = {
        "a": torch.tensor([0, 1]),
        "b": torch.tensor([0, 0, 3, 3, 3]),
        "c": torch.tensor([1, 3, 4]),
    }
    time = {"b": torch.tensor([0, 1.0, 0, 0.5, 2])}
    return Batch(5, x, sample, time, y=torch.tensor([0, 1, 0, 1, -1]))


def make_model(schema=SCHEMA, task=None, **options):
    options = {"hidden_channels": 8} | options
    return FusionModel(schema, task=task or Classification(3), **options)


# What is wrong


def test_an_unknown_modality_is_rejected(batch):
    wrong = Batch(1, {"z": torch.zeros(1, 3)}, {"z": torch.tensor([0])})
    with pytest.raises(SchemaError, match=r"Modality 'z' is unknown\. .*: a, b, c\."):
        make_model()(wrong)


def test_a_wrong_width_is_rejected(batch):
    wrong = replace(batch, x=batch.x | {"a": torch.zeros(2, 5)})
    with pytest.raises(
        DataError, match=r"x\['a'\] must have shape \[N, 3\], got \[2, 5"
    ):
        make_model()(wrong)


def test_a_modality_with_time_needs_its_times(batch):
    with pytest.raises(DataError, match=r"Batch\.time\['b'\] must be given, because"):
        make_model()(replace(batch, time={}))


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_text_needs_an_encoder_given(kind):
    schema = Schema([Modality("note", kind=kind)])
    message = (
        rf"'note' of kind '{kind}' must have an encoder, got none\. Pass encoders="
    )
    with pytest.raises(SchemaError, match=message):
        make_model(schema)


def test_an_encoder_given_is_used(batch):
    schema = Schema.star([Modality("note", kind="text")])
    encoder = VectorEncoder(3, 8)
    model = make_model(schema, encoders={"note": encoder})
    assert model.encoders["note"] is encoder
    given = Batch(2, {"note": batch.x["a"]}, {"note": torch.tensor([0, 1])})
    assert model(given).logits.shape == (2, 3)


def test_the_fuse_readout_reads_latents_only():
    message = r"fuse readout must read latents only, got a, b, c\. Use readout='mean'"
    with pytest.raises(SchemaError, match=message):
        make_model(Schema.late(MODALITIES), readout="fuse")
    both = Schema(MODALITIES, [Latent("f")], [Relation("*", "f")], ["f", "a"])
    with pytest.raises(SchemaError, match="latents only, got f, a"):
        make_model(both, readout="fuse")


def test_a_relation_that_cannot_matter_is_rejected():
    message = (
        r"\('a', 'to', 'b'\) must be able to reach the readout \(fuse\), but cannot"
    )
    with pytest.raises(SchemaError, match=message):
        make_model(num_layers=1)


def test_channels_must_be_a_multiple_of_heads():
    with pytest.raises(SchemaError, match=r"multiple of num_heads=4, got 10"):
        make_model(hidden_channels=10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Classification(0),
            r"Classification must have at least 1 class, got 0",
        ),
        (lambda: MultiLabel(0), r"MultiLabel must have at least 1 label, got 0"),
        (lambda: Regression(0), r"Regression must have at least 1 target, got 0"),
    ],
)
def test_a_task_predicts_something(build, message):
    with pytest.raises(SchemaError, match=message):
        build()


# What a model is made of


def test_layers_keep_what_reaches_the_readout():
    first, last = plan_layers(SCHEMA, 2)
    assert {r.edge_type for r in first.relations} == set(SCHEMA.edge_types)
    assert {r.target for r in last.relations} == {"fuse"}
    assert last.types == ("fuse",)
    assert first.types == ("a", "b", "c", "fuse")


def test_encoders_follow_the_kind_of_modality():
    encoders = make_model().encoders
    kinds = {name: type(encoder) for name, encoder in encoders.items()}
    assert kinds == {"a": VectorEncoder, "b": SequenceEncoder, "c": EmbeddingEncoder}


def test_scaling_is_fitted_on_the_rows_given(batch):
    model = make_model()
    model.fit_scaling(batch.select(["a"]))
    torch.testing.assert_close(
        model.encoders["a"].scaler.mean, batch.x["a"].mean(0), rtol=1e-5, atol=1e-6
    )
    assert not model.encoders["b"].vector.scaler.mean.any()
    model.fit_scaling(batch)
    assert model.encoders["b"].vector.scaler.mean.any()


def test_the_seed_decides_and_the_random_state_is_left_alone(batch):
    state = torch.get_rng_state()
    one, two, other = make_model(seed=1), make_model(seed=1), make_model(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one(batch).logits, two(batch).logits)
    assert not torch.equal(one(batch).logits, other(batch).logits)


@pytest.mark.parametrize(
    ("task", "y", "width"),
    [
        (Classification(3), torch.tensor([0, 1, 2, 0, -1]), 3),
        (
            MultiLabel(2),
            torch.tensor([[0, 1], [1, 1], [0, math.nan], [1, 0], [1, 1]]),
            2,
        ),
        (Regression(), torch.tensor([[0.5], [1], [2], [math.nan], [1]]), 1),
    ],
    ids=["classes", "labels", "targets"],
)
@pytest.mark.parametrize("members", [None, 2])
def test_every_task_has_outputs_and_a_loss_that_can_be_learned(
    batch, task, y, width, members
):
    model = make_model(task=task, members=members)
    model.fit_scaling(batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        logits = model(batch).logits
        loss = task.loss(logits, y).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    leading = () if members is None else (members,)
    assert logits.shape == (*leading, 5, width)
    assert losses[-1] < 0.7 * losses[0]


def test_the_prior_of_classes_is_smoothed_and_ignores_unknown_labels():
    prior = Classification(3).log_prior(torch.tensor([0, 0, 2, -1]))
    torch.testing.assert_close(prior.exp(), torch.tensor([2.5, 0.5, 1.5]) / 4.5)


def test_outputs_come_with_the_states_they_were_made_from(batch):
    model = make_model()
    output = model(batch)
    assert output.z.shape == (5, 8)
    torch.testing.assert_close(model.head(output.z), output.logits)
    shapes = {name: len(h) for name, h in output.h_dict.items()}
    assert shapes == {"a": 2, "b": 5, "c": 3, "fuse": 5}


@pytest.mark.parametrize("options", [{}, {"members": 2}, {"completion": True}], ids=str)
def test_a_saved_state_brings_the_same_outputs_back(batch, options):
    one, other = make_model(seed=1, **options), make_model(seed=2, **options)
    one.fit_scaling(batch)
    assert not torch.equal(one(batch).logits, other(batch).logits)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(batch).logits, other(batch).logits)


# Evidence


def test_evidence_of_present_modalities_is_read_and_of_missing_ones_is_not(batch):
    model = make_model(evidence_channels=2)
    evidence = torch.randn(5, 3, 2)
    logits = model(batch, evidence).logits
    poisoned = evidence.masked_fill(~batch.present[..., None], math.nan)
    poisoned.requires_grad_()
    output = model(batch, poisoned).logits
    assert torch.equal(output, logits)
    (gradient,) = torch.autograd.grad(output.square().sum(), poisoned)
    assert not gradient[~batch.present].any()
    assert gradient[batch.present].any(-1).all()


def test_evidence_of_what_is_held_out_is_not_read(batch):
    model = make_model(evidence_channels=2)
    hidden = batch.hold_out(torch.tensor([[True, False, False]]).expand(5, 3))
    evidence = torch.randn(5, 3, 2)
    changed = evidence.clone()
    changed[:, 0] = math.inf
    assert torch.equal(model(hidden, evidence).logits, model(hidden, changed).logits)


# Corners


@pytest.mark.parametrize(
    "schema", [SCHEMA, Schema.late(MODALITIES)], ids=["fuse", "late"]
)
def test_a_batch_without_samples_has_no_outputs(schema):
    x, none = {"a": torch.empty(0, 3)}, {"a": torch.empty(0).long()}
    for execution in ("dense", "sparse"):
        logits = make_model(schema, execution=execution)(Batch(0, x, none)).logits
        assert logits.shape == (0, 3)


def test_nothing_observed_gives_one_prediction_for_all(batch):
    model = make_model()
    logits = model(batch.drop(torch.zeros(5, 3, dtype=torch.bool))).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits, logits[:1].expand(5, 3))
    torch.testing.assert_close(logits[2], model(batch).logits[2])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"members": 2},
        {"capacity": "full"},
        {"feed_forward": "mixture"},
        {"completion": True, "promote": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_bfloat16_autocast_gives_finite_outputs_and_gradients(
    batch, execution, options
):
    model = make_model(execution=execution, **options)
    exact = model(batch).logits
    hidden = batch
    if "completion" in options:
        hidden = batch.hold_out(torch.tensor([[True, False, False]]).expand(5, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch).logits
        output = model(hidden)
        loss = output.logits.square().sum()
        loss = loss + sum(part.sum() for part in output.auxiliary)
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.02)
    assert output.logits.isfinite().all()
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 10
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_model_in_bfloat16_keeps_the_seconds(batch):
    model, late = make_model(), {name: t + 1499.5 for name, t in batch.time.items()}
    exact = model(replace(batch, time=late)).logits
    low = model.bfloat16()(replace(batch, time=late).to(torch.bfloat16)).logits
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05)
    rows = model.nodes._rows("b", batch)
    assert rows.time.dtype == torch.float32


def test_a_model_in_double_precision_stays_in_it(batch):
    model = make_model().double()
    assert model(batch.to(torch.float64)).logits.dtype == torch.float64
