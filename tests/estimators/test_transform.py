"""States of the graph as features, and `mmgraph embed`."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionRegressor, MultimodalData, checkpoint
from mmgraph.cli.app import app
from mmgraph.errors import CheckpointError, DataError
from mmgraph.workflows.load import load_estimator

SMALL = {
    "members": 2,
    "epochs": 1,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear",),
}


def make_data(num=40):
    rng = np.random.default_rng(0)
    y = np.arange(num) % 2
    a, b = rng.normal(size=(2, num, 3)) + y[:, None]
    b[::4] = np.nan
    ids = [f"patient {i}" for i in range(num)]
    return MultimodalData.from_arrays({"a": a, "b": b}, y=y, ids=ids)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def fitted(data):
    return FusionClassifier(**SMALL).fit(data)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    fitted.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "samples.parquet"
    data.to_parquet(path)
    return path


def embed(*arguments):
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


def test_transform_puts_the_members_side_by_side(fitted, data):
    z = fitted.transform(data)
    assert z.shape == (40, 16)
    assert z.dtype == np.float32
    assert len(fitted.get_feature_names_out()) == 16
    assert np.array_equal(fitted.transform(data[:0]), z[:0])
    one = fitted.model_.graph.readout.out_channels
    assert not np.allclose(z[:, :one], z[:, one:])


def test_transform_tells_samples_apart_by_what_was_observed(fitted, data):
    z = fitted.transform(data)
    assert np.ptp(z, axis=0).max() > 0.1
    nothing = fitted.transform(data.mask(np.zeros(data.shape)))
    assert np.isfinite(nothing).all()
    assert np.array_equal(nothing[0], nothing[1])
    alone = fitted.transform(data.select(["a"])[[1]])
    masked = data[[1]].mask({"b": [False]})
    np.testing.assert_allclose(alone, fitted.transform(masked), atol=1e-6)


def test_states_are_features_of_another_model(data):
    # a regressor's states, learned from the labels as numbers, tell the classes apart
    model = FusionRegressor(**SMALL)
    assert model.fit_transform(data, data.y.astype(float)).shape == (40, 16)
    pipeline = make_pipeline(FusionClassifier(**SMALL), LogisticRegression())
    assert pipeline.fit(data, data.y).score(data, data.y) > 0.7


def test_saved_estimator_is_loaded_whatever_it_is(fitted, folder, data, tmp_path):
    loaded = load_estimator(folder)
    assert type(loaded) is FusionClassifier
    assert np.array_equal(loaded.transform(data), fitted.transform(data))
    manifest = json.loads((folder / "mmgraph.json").read_text())
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name in ("Fusion", None, ["x"]):
        other = {**manifest, "estimator": name}
        other[checkpoint.OWN_HASH] = checkpoint._hash_of(other)
        (tmp_path / "mmgraph.json").write_text(json.dumps(other))
        with pytest.raises(CheckpointError, match="must hold one of FusionClassifier"):
            load_estimator(tmp_path)


def test_embed_writes_ids_and_vectors_in_order(fitted, folder, file, data, tmp_path):
    out = tmp_path / "z.parquet"
    done = embed(file, "--model", folder, "--output", out)
    assert done.exit_code == 0, done.output
    assert "40 embeddings of 16 numbers" in done.stdout
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == data.ids.tolist()
    assert np.array_equal(np.stack(table["z"].to_numpy()), fitted.transform(data))
    done = embed(file, "--model", folder, "--output", tmp_path / "z.npy")
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.load(tmp_path / "z.npy"), fitted.transform(data))


def test_embed_takes_some_modalities_alone(fitted, folder, file, data, tmp_path):
    out = tmp_path / "z.npy"
    done = embed(file, "--model", folder, "--output", out, "--only", "a")
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.load(out), fitted.transform(data.select(["a"])))


def test_embed_tells_mistakes_in_one_line(folder, file, tmp_path):
    out = tmp_path / "z.parquet"
    mistakes = {
        "must end in .parquet or .npy": (file, "--output", tmp_path / "z.txt"),
        "Parquet or CSV file must exist": (tmp_path / "no.parquet", "--output", out),
        "must name known modalities (a, b)": (file, "--output", out, "--only", "c"),
    }
    for message, arguments in mistakes.items():
        done = embed(*arguments, "--model", folder)
        assert done.exit_code == 2
        assert message in done.stderr
        assert "Traceback" not in done.output
    done = embed(file, "--output", out, "--model", tmp_path)
    assert done.exit_code == 2
    assert "Check that the folder holds a saved model." in done.stderr


def test_transform_refuses_what_it_did_not_learn(fitted):
    other = MultimodalData.from_arrays({"c": [[1.0]]})
    with pytest.raises(DataError, match="'c' must be in the schema"):
        fitted.transform(other)
