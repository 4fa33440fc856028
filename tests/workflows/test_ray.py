"""Predictions and embeddings on a local cluster of two workers."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, MultimodalData
from mmgraph.cli.app import app
from mmgraph.errors import ConfigError, DataError
from mmgraph.workflows.predict import PredictRequest
from mmgraph.workflows.ray import predict_on_ray
from mmgraph.workflows.saved_model import Columns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray and what it imports
]
SMALL = {"members": 2, "epochs": 1, "hidden_channels": 8, "experts": ("linear",)}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 2
    a, b = rng.normal(size=(2, 90, 3)) + y[:, None]
    b[::4] = np.nan
    return MultimodalData.from_arrays({"a": a, "b": b}, y=y)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    for i, start in enumerate(range(0, 90, 13)):
        data[np.arange(start, min(start + 13, 90))].to_parquet(path / f"{i}.parquet")
    return path


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model = FusionClassifier(**SMALL).fit(data)
    Columns("classification", "y", {}, None, None).save(model, path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_workers_answer_like_one_process_and_in_order(
    cluster, folder, model, data, tmp_path
):
    alone, spread = tmp_path / "alone.parquet", tmp_path / "spread.parquet"
    for path, options in ((alone, ()), (spread, ("--ray", "--workers", 2))):
        done = run("predict", model, folder, "--output", path, *options)
        assert done.exit_code == 0, done.output
        assert "90 predictions" in done.stdout
    tables = [pq.read_table(path) for path in (alone, spread)]
    assert tables[1].column("id").to_pylist() == list(range(90))
    assert tables[0].column_names == tables[1].column_names
    expected = FusionClassifier.from_pretrained(model).predict_proba(data)[:, 1]
    for table in tables:
        said = table.column("probability_1").to_numpy()
        np.testing.assert_allclose(said, expected, atol=1e-6)
    out = tmp_path / "z.npy"
    done = run("embed", folder, "--model", model, "--output", out, "--ray")
    assert done.exit_code == 0, done.output
    z = FusionClassifier.from_pretrained(model).transform(data)
    np.testing.assert_allclose(np.load(out), z, atol=1e-5)


def test_workers_read_files_of_other_columns_with_notices(cluster, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=60), "sex": ["f", "m", "f"] * 20})
    frame["died"] = np.arange(60) % 2
    modalities = {"history": ["age", "sex"]}
    data = MultimodalData.from_pandas(frame, modalities, y="died")
    fitted, kinds = FusionClassifier(**SMALL).fit(data), {"history": ("age", "sex")}
    columns = Columns("classification", "died", kinds, None, None)
    columns.save(fitted, tmp_path / "model")
    (folder := tmp_path / "folder").mkdir()
    frame[:30].assign(sex="x").to_parquet(folder / "0.parquet")
    frame[30:].drop(columns="age").to_parquet(folder / "1.parquet")
    spread, alone = (
        run("predict", tmp_path / "model", folder, *options)
        for options in (("--ray", "--workers", 2), ())
    )
    assert spread.exit_code == alone.exit_code == 0
    assert spread.stdout == alone.stdout
    assert sorted(spread.stderr.splitlines()) == sorted(alone.stderr.splitlines())
    assert "training data lack: sex=x" in spread.stderr
    assert "lacks the column 'age' in 1.parquet" in spread.stderr


def test_fault_in_a_shard_names_it(cluster, folder, model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    wrong = MultimodalData.from_arrays({"a": np.ones((3, 9))}, y=[0, 1, 0])
    wrong.to_parquet(copy / "4.parquet")
    with pytest.raises(DataError, match=r"4\.parquet: .*'a' must have 3 channels"):
        list(predict_on_ray(PredictRequest("predict", model, copy), workers=2))


def test_file_alone_needs_no_cluster(folder, model):
    pytest.importorskip("ray.data")
    with pytest.raises(ConfigError, match="--ray must get a folder of Parquet files"):
        list(
            predict_on_ray(
                PredictRequest("predict", model, folder / "0.parquet"), workers=2
            )
        )
