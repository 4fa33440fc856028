"""Commands that load a model whose pretrained encoder has moved since the training."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionRetriever, MultimodalData, serving
from mmgraph.cli import app
from mmgraph.workflows.saved_model import Columns

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

NUM = 40
SMALL = {"members": 1, "hidden_channels": 8, "num_heads": 2, "experts": ("linear",)}


def run(*arguments: object, code: int = 0) -> str:
    """Run the command line; return what it said."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a table, and two models whose encoder has moved since."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_models.make_text(folder / "weights")
    y = np.arange(NUM) % 2
    notes = [f"{('bad', 'good')[k]} bird" for k in y]
    table = pa.table({"age": y + 0.5, "note": notes, "y": y})
    pq.write_table(table, folder / "a.parquet")
    data = MultimodalData.from_arrays({"labs": y[:, None] + 0.5, "note": notes}, y=y)
    encoders = {"note": folder / "weights"}
    clf = FusionClassifier(**SMALL, epochs=1, encoders=encoders).fit(data)
    ret = FusionRetriever(**SMALL, encoders=encoders).fit(data)
    modalities = {"labs": ("age",), "note": ("note",)}
    Columns("classification", "y", modalities, None, None).save(clf, folder / "clf")
    Columns("retrieval", None, modalities, None, None).save(ret, folder / "ret")
    (folder / "weights").rename(folder / "moved")
    return folder


def ask_about(saved, command: str) -> tuple[object, ...]:
    """Return the arguments of a command that loads a saved model."""
    z, found, file = saved / "z.npy", saved / "found", saved / "a.parquet"
    return {
        "predict": ("predict", saved / "clf", file),
        "evaluate": ("evaluate", saved / "clf", file),
        "export": ("export", saved / "clf", "--output", saved / "a.onnx"),
        "embed": ("embed", file, "--model", saved / "ret", "--output", z),
        "index": ("index", file, "--model", saved / "ret", "--output", found),
    }[command]


@pytest.mark.parametrize("command", ["predict", "evaluate", "embed", "index", "export"])
def test_command_line_is_told_where_an_encoder_is_now(saved, command, monkeypatch):
    monkeypatch.setattr(serving, "export", lambda _, output: output.touch())
    asked = ask_about(saved, command)
    said = run(*asked, code=2)
    assert "must be at its original path" in said
    assert "--encoder note=path" in said
    run(*asked, "--encoder", f"note={saved / 'moved'}")
    said = run(*asked, "--encoder", f"labs={saved / 'moved'}", code=2)
    assert "modalities that had one in the training (note), got 'labs'" in said


def test_search_is_told_where_an_encoder_is_now(saved, tmp_path):
    shutil.copytree(saved / "moved", tmp_path / "here")
    here = ("--encoder", f"note={tmp_path / 'here'}")
    run(*ask_about(saved, "index")[:-1], tmp_path / "found", *here)
    search = ("search", "a good bird", "--index", tmp_path / "found", "--top", 1)
    run(*search)  # the index remembers
    (tmp_path / "here").rename(tmp_path / "there")
    assert "must be at its original path" in run(*search, code=2)
    run(*search, "--encoder", f"note={tmp_path / 'there'}")
