"""Regular batches: all samples have rows of all modalities; a mask marks padding."""

import pytest
import torch
from torch import nn

from mmgraph import (
    Batch,
    Classification,
    DataError,
    FusionModel,
    KNearest,
    Latent,
    Modality,
    Relation,
    Schema,
    TimeWindow,
)
from mmgraph.nn import Encoded

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
    "gated": (Schema.late(MODALITIES), {"readout": "gated"}),
    "low-rank": (Schema.late(MODALITIES), {"readout": "low_rank", "members": 2}),
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


def build(name, models=MODELS, **options):
    schema, own = models[name]
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


SEQUENCES = (
    Modality("labs", 3),
    Modality("ecg", 2, tokens="ragged", max_nodes=4),
    Modality("move", 1, tokens="ragged", time=True),
)
OF_SEQUENCES = {
    "star": (Schema.star(SEQUENCES), {}),
    "complete-members": (Schema.complete(SEQUENCES), {"members": 2}),
    "mixture": (Schema.complete(SEQUENCES), {"feed_forward": "mixture"}),
    "mean": (Schema.late(SEQUENCES), {"evidence_channels": 2}),
    "max": (Schema.late(SEQUENCES), {"readout": "max"}),
    "low-rank": (Schema.late(SEQUENCES), {"readout": "low_rank"}),
    "attention": (Schema.late(SEQUENCES), {"readout": "attention"}),
    "windows": (
        Schema(
            SEQUENCES,
            [Latent("fuse")],
            [
                Relation("move", "move", topology=TimeWindow(2.0)),
                Relation("move", "move", "again", KNearest(2)),
                Relation("*", "fuse"),
            ],
        ),
        {},
    ),
}
STEPS = {"ecg": 9, "move": 5}


def padded(num_samples, dtype=torch.float64):
    """Sequences of all lengths: none, one, as many as nodes and more."""
    x = {"labs": torch.randn(num_samples, 3, dtype=dtype)}
    x["ecg"] = torch.randn(num_samples, 9, 2, dtype=dtype)
    x["move"] = torch.randn(num_samples, 5, 1, dtype=dtype)
    each = torch.arange(num_samples)
    lengths = {"ecg": each.add(7) % 10, "move": each.add(5) % 6}
    time = {"move": torch.rand(num_samples, 5, dtype=dtype).cumsum(1)}
    return x, lengths, time


def poison(x, lengths, time, present):
    """The same with NaN wherever nothing is."""
    gone = {"labs": ~present[:, 0]}
    for i, (name, length) in enumerate(lengths.items(), start=1):
        gone[name] = torch.arange(STEPS[name]) >= length[:, None]
        gone[name] = gone[name] | ~present[:, i, None]
    filled = {n: v.masked_fill(gone[n][..., None], torch.nan) for n, v in x.items()}
    seconds = {n: t.masked_fill(gone[n], torch.inf) for n, t in time.items()}
    return filled, lengths, seconds


@pytest.mark.parametrize("execution", ["dense", "sparse"])
@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_padded_sequences_say_what_packed_ones_say(name, execution):
    model = build(name, OF_SEQUENCES, execution=execution)
    (x, lengths, time), present = padded(11), mask(11)
    regular = Batch.regular(x, present, lengths=lengths, time=time)
    packed = regular.packed()
    kept = torch.where(present[:, 1], lengths["ecg"], 0)
    assert torch.equal(packed.sample["ecg"].bincount(minlength=11), kept)
    assert torch.equal(regular.present, packed.present)
    result, expected = run(model, regular), run(model, packed)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    x, lengths, time = poison(x, lengths, time, present)
    again = run(model, Batch.regular(x, present, lengths=lengths, time=time))
    assert torch.equal(again[0], result[0])
    assert all(torch.equal(a, b) for a, b in zip(again[1], result[1], strict=True))


class Largest(nn.Module):
    """A custom encoder with one node per sequence: its largest row."""

    def forward(self, x, sample, time, num_samples):
        owner = torch.unique(sample)
        rows = torch.stack([x[sample == i].amax(0) for i in owner])
        return Encoded(rows.repeat(1, 4), owner, None)


def test_an_encoder_of_ones_own_does_not_see_what_keeps_a_place():
    schema = Schema.star([Modality("ecg", 2, tokens="ragged"), Modality("labs", 3)])
    encoders = {"ecg": Largest()}
    task = Classification(3)
    model = FusionModel(schema, task, hidden_channels=8, encoders=encoders).double()
    (x, lengths, _), present = padded(11), mask(11)[:, :2]
    some = {"ecg": x["ecg"] - 9, "labs": x["labs"]}  # below what stands in gaps
    regular = Batch.regular(some, present, lengths={"ecg": lengths["ecg"]})
    result, expected = model(regular).logits, model(regular.packed()).logits
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


class Two(nn.Module):
    """A custom encoder with two nodes per row."""

    def forward(self, x, sample, time, num_samples):
        return Encoded(x.repeat(2, 4)[:, :8], sample.repeat(2).sort()[0], None)


def test_an_encoder_may_give_other_nodes_than_rows():
    task, encoders = Classification(3), {"labs": Two()}
    schema = Schema.star([Modality("labs", 3), Modality("c", 2)])
    model = FusionModel(schema, task, hidden_channels=8, encoders=encoders).double()
    x, present = {n: rows(6)[n] for n in ("labs", "c")}, mask(6)[:, :2]
    regular = Batch.regular(x, present)
    result, expected = model(regular).logits, model(regular.packed()).logits
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["star", "mixture"])
def test_what_keeps_a_place_is_not_learned_from(name):
    (x, lengths, time), present = padded(11), mask(11)
    regular = Batch.regular(x, present, lengths=lengths, time=time)
    one, other = build(name, OF_SEQUENCES), build(name, OF_SEQUENCES)
    one.fit_scaling(regular)
    other.fit_scaling(regular.packed())
    for a, b in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    results, expected = one(regular).auxiliary, other(regular.packed()).auxiliary
    torch.testing.assert_close(results, expected)


def test_padded_sequences_are_whole_unless_lengths_say_otherwise():
    x = {"ecg": torch.randn(3, 4, 2)}
    there = torch.tensor([[True], [True], [False]])
    batch = Batch.regular(x, there)
    assert batch.packed().sample["ecg"].bincount(minlength=3).tolist() == [4, 4, 0]
    hidden = batch.hold_out(torch.tensor([[True], [False], [False]])).visible()
    assert hidden.x["ecg"].shape == (12, 2)
    assert torch.equal(hidden.packed().x["ecg"], x["ecg"][1])
    empty = Batch.regular({"ecg": torch.empty(0, 4, 2)}, there[:0])
    assert not empty.packed().x["ecg"].numel()


@pytest.mark.parametrize(
    ("lengths", "got"),
    [
        ({"ecg": torch.ones(2).long()}, r"\[2\] for rows \[3, 4, 2\]"),
        ({"labs": torch.ones(3).long()}, r"\[3\] for rows \[3, 1\]"),
        ({"egc": torch.ones(3).long()}, r"\[3\] for no rows"),
    ],
)
def test_lengths_belong_to_padded_sequences(lengths, got):
    x = {"ecg": torch.randn(3, 4, 2), "labs": torch.randn(3, 1)}
    with pytest.raises(DataError, match=rf"must be \[B\] rows of a padded .*{got}"):
        Batch.regular(x, torch.ones(3, 2, dtype=torch.bool), lengths=lengths)


def test_times_and_rows_have_the_shapes_of_regular_batches():
    x, there = {"ecg": torch.randn(3, 4, 2)}, torch.ones(3, 1, dtype=torch.bool)
    with pytest.raises(DataError, match=r"time\['ecg'\] must .* got \[3\] for rows"):
        Batch.regular(x, there, time={"ecg": torch.zeros(3)})
    with pytest.raises(DataError, match=r"time\['egc'\] must .* for no rows"):
        Batch.regular(x, there, time={"egc": torch.zeros(3, 4)})
    with pytest.raises(DataError, match=r"x\['ecg'\] must be rows .* got \[3\]"):
        Batch.regular({"ecg": torch.zeros(3)}, there)


class Served(nn.Module):
    """A model as a function of tensors alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, present, lengths=None, time=None):
        batch = Batch.regular(x, present, lengths=lengths, time=time)
        return self.model(batch).logits


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name", ["star", "complete-members", "bottleneck", "max", "low-rank"]
)
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


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["star", "complete-members"])
def test_a_model_of_sequences_is_exported_for_any_lengths(name):
    served = Served(build(name, OF_SEQUENCES)).eval()
    batch = torch.export.Dim("batch", min=1)
    steps = {n: torch.export.Dim(n, min=1) for n in STEPS}
    shapes = {"labs": {0: batch}} | {n: {0: batch, 1: t} for n, t in steps.items()}
    (x, lengths, time), present = padded(5), mask(5)
    program = torch.export.export(
        served,
        (x, present, lengths, time),
        dynamic_shapes=(
            shapes,
            {0: batch},
            {n: {0: batch} for n in STEPS},
            {"move": shapes["move"]},
        ),
    )
    for size in (2, 9):
        (x, lengths, time), present = padded(size), mask(size)
        x["ecg"] = torch.cat([x["ecg"], x["ecg"].flip(1)], 1)
        lengths["ecg"] = lengths["ecg"] * 2
        given = x, present, lengths, time
        torch.testing.assert_close(program.module()(*given), served(*given))
