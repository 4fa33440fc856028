"""Commands do not overwrite their input, or a model of another kind."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, MultimodalData
from mmgraph.cli import app
from mmgraph.config import TrainConfig, build_config
from mmgraph.workflows import train as workflow
from mmgraph.workflows.saved_model import Columns


def run(*arguments, code=0) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output if code == 0 else result.stderr


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a table, a folder of tables, and links to both."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=60)
    days = np.clip(np.round(20 + 9 * x), 0, 60).astype(int)
    rows = [f"{a:.3f},{d},{int(a > 0)},{a:.1f}" for a, d in zip(x, days, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["wbc,days,died,age", *rows]) + "\n")
    (tmp_path / "parts").mkdir()
    MultimodalData.from_arrays({"labs": x}).to_parquet(tmp_path / "parts" / "0.parquet")
    (tmp_path / "link.csv").symlink_to("t.csv")
    (tmp_path / "linked").symlink_to("parts")
    os.link(tmp_path / "t.csv", tmp_path / "hard.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "output"),
    [
        ("t.csv", "t.csv"),
        ("t.csv", "parts/../t.csv"),
        ("t.csv", "link.csv"),
        ("link.csv", "t.csv"),
        ("t.csv", "hard.csv"),
        ("parts", "parts/0.parquet"),
        ("parts", "linked/new.parquet"),
        ("linked", "parts/new.csv"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "embed"])
def test_inputs_are_not_overwritten(here, command, file, output):
    if command == "embed":
        output = output.replace(".csv", ".parquet")
        if output.endswith("link.parquet") or "hard" in output or output == "t.parquet":
            pytest.skip("embed writes no CSV")
    given = ("m", file) if command == "predict" else (file, "--model", "m")
    before = (here / "t.csv").read_bytes(), os.listdir(here / "parts")
    message = run(command, *given, "--output", output, code=2)
    assert "Output must not overwrite its input" in message or "/../" in output
    assert ((here / "t.csv").read_bytes(), os.listdir(here / "parts")) == before


def test_links_inside_an_input_folder_are_inputs(here):
    (here / "other.parquet").write_bytes((here / "parts" / "0.parquet").read_bytes())
    (here / "parts" / "1.parquet").symlink_to(here / "other.parquet")
    message = run("predict", "m", "parts", "--output", "other.parquet", code=2)
    assert "got 'other.parquet', which is in 'parts'" in message


def test_other_commands_do_not_overwrite_their_inputs(here):
    columns = ("--label", "died", "--modality", "labs=wbc")
    message = run("train", "parts", *columns, "--output", "linked", code=2)
    assert "got 'linked', which is 'parts'" in message
    message = run("search", "x", "--index", "parts", "--page", "parts/p.html", code=2)
    assert "which is in 'parts'" in message
    for option in ("--conformal", "--acquire"):
        given = ("predict", "m", "parts", option, "t.csv", "--output", "link.csv")
        assert "got 'link.csv', which is 't.csv'" in run(*given, code=2)
    message = run("contributions", "m", "t.csv", "--page", "hard.csv", code=2)
    assert "got 'hard.csv', which is 't.csv'" in message
    message = run("contributions", "parts", "t.csv", "--page", "parts/p", code=2)
    assert "which is in 'parts'" in message
    message = run("index", "parts", "--model", "m", "--output", "parts", code=2)
    assert "Output must" in message


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(
        workflow,
        "_options",
        lambda config: {"epochs": 1, "members": 1, "experts": ("linear",)},
    )


@pytest.mark.usefixtures("_quick")
def test_task_score_and_models_of_another_kind(here):
    run_file = {"file": "t.csv", "output": "m", "label": "died"}
    run_file |= {"modalities": {"labs": ["wbc"]}}
    (here / "run.json").write_text(json.dumps(run_file))
    printed = run("train", "--config", "run.json")
    assert "Task: classification, 2 classes: 0, 1" in printed
    assert "Out-of-fold accuracy: 0.9" in printed
    again = run("train", "--config", "run.json", "--seed", 1)  # the same kind of model
    assert "Model: m" in again
    message = run("train", "--config", "run.json", "--label", "days", code=2)
    assert "holds a model of classification with another task and label" in message
    assert "--overwrite" in message
    assert Columns.load(here / "m").label == "died"
    printed = run("train", "--config", "run.json", "--label", "days", "--overwrite")
    assert "Task: regression\n" in printed
    assert "Out-of-fold R2: 0.9" in printed
    assert "'days' has more than 20 different whole numbers" in printed
    assert Columns.load(here / "m").task == "regression"
    printed = run(
        *("train", "--config", "run.json", "--label", "days", "--output", "classes"),
        *("--task", "classification"),
    )
    assert "Task: classification, " in printed
    assert (
        " classes: 0, " in printed or " classes: 1, " in printed or ", ..." in printed
    )


def test_file_and_output_are_required(here):
    assert "output is required" in run("train", "t.csv", "--label", "died", code=2)
    assert "file is required" in run("train", "--output", "m", code=2)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (np.arange(60) % 20, "classification"),
        (np.arange(60) % 21, "regression"),
        (np.arange(60) % 3 + 0.5, "regression"),
        (np.arange(60) % 2 == 0, "classification"),
        ([f"c{i % 30}" for i in range(60)], "classification"),
    ],
)
def test_task_of_labels(here, values, task):
    data = MultimodalData.from_arrays({"labs": np.ones((60, 1))}, y=values)
    given = {"file": "t.csv", "output": "m", "label": "y"}
    lines: list[str] = []
    config = build_config(TrainConfig, given)
    assert workflow._task(config, data, lines.append) == task
    assert len(lines) == (len(np.unique(values)) == 21)


def test_out_of_fold_score_is_saved(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    data = MultimodalData.from_arrays({"a": x}, y=(x[:, 0] > 0).astype(int))
    small = {"epochs": 1, "members": 1, "hidden_channels": 8, "experts": ("linear",)}
    clf = FusionClassifier(**small).fit(data)
    assert 0.8 < clf.out_of_fold_score_ <= 1
    noise = np.random.default_rng(1).permutation(data.y)
    assert FusionClassifier(**small).fit(data, noise).out_of_fold_score_ < 0.8
    clf.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert loaded.out_of_fold_score_ == clf.out_of_fold_score_
