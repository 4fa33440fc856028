"""Offsets of clocks that a model learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmgraph import (
    Batch,
    Classification,
    FusionClassifier,
    FusionModel,
    Modality,
    MultimodalData,
    Regression,
    Relation,
    Schema,
    SchemaError,
    TimeWindow,
)

SHIFT = 0.2
ROWS = 16
WATCH = Modality("watch", 1, tokens="ragged", time=True, clock="learned")
EVENT = Modality("event", 1, tokens="ragged", time=True)


def schema_of(topology=None, **watch) -> Schema:
    """Events receive from the rows of the watch."""
    options = {} if topology is None else {"topology": topology}
    relation = Relation("watch", "event", **options)
    modalities = (replace(WATCH, **watch), EVENT)
    return Schema(modalities, (), (relation,), ("event",))


def draw(num: int, shift: float = SHIFT) -> tuple[Batch, torch.Tensor]:
    """Waves of two sensors with two clocks; the target is the wave at the event."""
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(num, 1, generator=generator)
    times = 3.0 * torch.rand(num, ROWS, generator=generator).sort(1).values
    event = 0.5 + 2 * torch.rand(num, 1, generator=generator)

    def wave(seconds):
        return torch.sin(2 * math.pi * seconds / 2 + phase)

    x = {"watch": wave(times).reshape(-1, 1), "event": torch.ones(num, 1)}
    rows = torch.arange(num)
    sample = {"watch": rows.repeat_interleave(ROWS), "event": rows}
    seconds = {"watch": times.reshape(-1) + shift, "event": event.reshape(-1)}
    seconds = {name: value.double() for name, value in seconds.items()}
    return Batch(num, x, sample, seconds), wave(event)


def build(schema: Schema, **options) -> FusionModel:
    sizes = {"hidden_channels": 16, "num_heads": 2, "num_layers": 1, "seed": 0}
    return FusionModel(schema, Regression(), **sizes, **options)


@pytest.mark.slow
def test_the_offset_of_two_sequences_of_one_signal_is_found():
    batch, y = draw(200)
    model = build(schema_of())
    model.fit_scaling(batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=200)
    for _ in range(200):
        loss = model.task.loss(model(batch).logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert model.clock_offsets["watch"] == pytest.approx(SHIFT, abs=0.05)


@pytest.mark.parametrize("topology", [None, TimeWindow(0.3)])
@pytest.mark.parametrize("members", [None, 2])
def test_both_execution_paths_shift_times(topology, members):
    schema = schema_of(topology)
    batch, y = draw(6)
    early, _ = draw(6, 0.0)
    results, gradients = [], []
    for execution in ("dense", "sparse"):
        shifted = build(schema, execution=execution, members=members)
        recorded = build(schema, execution=execution, members=members)
        with torch.no_grad():
            shifted.nodes.clocks["watch"].fill_(SHIFT)
            for model in (shifted, recorded):
                model.layers[0].messages.time_encoding.weight.mul_(100)
        found, expected = shifted(batch).logits, recorded(early).logits
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(recorded(batch).logits, expected, atol=1e-3)
        shifted.task.loss(found, y).sum().backward()
        results.append(found)
        gradients.append(shifted.nodes.clocks["watch"].grad)
    assert torch.allclose(*results, atol=1e-5)
    assert torch.allclose(*gradients, atol=1e-4)
    assert gradients[0].abs().sum() > 0


def test_time_encodings_of_learned_clocks_are_symmetric():
    model = build(schema_of())
    encoding = model.layers[0].messages.time_encoding
    with torch.no_grad():
        encoding.weight.normal_()
    seconds = torch.tensor([0.3, -0.3, 1.7, -1.7])
    logits = encoding(seconds, 0)
    assert torch.allclose(logits[::2], logits[1::2])
    encoding = build(schema_of(clock="recorded")).layers[0].messages.time_encoding
    logits = encoding(seconds, 0)
    assert not torch.allclose(logits[::2], logits[1::2])


def test_recorded_clocks_have_no_parameters():
    names = dict(build(schema_of(clock="recorded")).named_parameters())
    assert not any("clocks" in name for name in names)
    assert build(schema_of(clock="recorded")).clock_offsets == {}


def test_learned_clocks_are_saved_with_the_schema():
    schema = schema_of()
    assert Schema.from_json(schema.to_json()) == schema
    assert '"clock": "learned"' in schema.to_json()
    recorded = schema_of(clock="recorded")
    assert "clock" not in recorded.to_json()
    assert recorded.hash != schema.hash
    document = schema.to_json().replace("learned", "atomic")
    with pytest.raises(SchemaError, match=r"clock has a wrong value: 'atomic'"):
        Schema.from_json(document)


def test_learned_clocks_need_times():
    with pytest.raises(SchemaError, match="'labs' with clock='learned' must have tim"):
        Modality("labs", 3, clock="learned")
    with pytest.raises(SchemaError, match="clock 'recorded' or 'learned', got 'own'"):
        Modality("labs", 3, time=True, clock="own")


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 6, size=40)
    watch = [rng.normal(size=(n, 1)) for n in lengths]
    times = [np.sort(rng.random(n)) for n in lengths]
    data = MultimodalData.from_arrays(
        {"watch": watch, "event": rng.normal(size=(40, 1))},
        times={"watch": times, "event": rng.random(40)},
        y=np.arange(40) % 2,
    )
    schema = Schema.complete([WATCH, replace(EVENT, tokens="single")])
    small = {"members": 2, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
    clf = FusionClassifier(**small, experts=("linear",), seed=0, schema=schema)
    return clf.fit(data), data


def test_estimators_learn_and_save_offsets(fitted, tmp_path):
    clf, data = fitted
    offsets = clf.model_.graph.clock_offsets
    assert set(offsets) == {"watch"}
    assert offsets["watch"] != 0
    clf.model_.beta.fill_(1.0)
    expected = clf.predict_proba(data)
    clf.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    assert loaded.model_.graph.clock_offsets == offsets
    assert np.array_equal(loaded.predict_proba(data), expected)


def test_classification_reads_the_shifted_times(fitted):
    clf, data = fitted
    assert isinstance(clf.model_.graph.task, Classification)
    clf.model_.beta.fill_(1.0)
    before = clf.predict_proba(data)
    clocks = clf.model_.graph.nodes.clocks
    with torch.no_grad():
        clocks["watch"].add_(5.0)
    moved = data.shift_times({"watch": 5.0})
    assert np.allclose(clf.predict_proba(moved), before, atol=1e-5)
    with torch.no_grad():
        clocks["watch"].sub_(5.0)
