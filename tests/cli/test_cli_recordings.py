"""`mmgraph train` on folders of recordings."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, MultimodalData
from mmgraph.cli import app

pd = pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture
def folder(tmp_path):
    """Four people who walk and run, at two rates; labels of intervals."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(4):
        for sensor, rate in (("acc", 10), ("hr", 1)):
            t = np.arange(40 * rate) / rate
            level = rng.normal(size=len(t)) + 4 * (t >= 20)
            path = tmp_path / "recordings" / f"p{person}" / f"{sensor}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"time": t, "v": level}).to_csv(path, index=False)
        rows += [(f"p{person}", 0, 20, "walk"), (f"p{person}", 20, 40, "run")]
    labels = pd.DataFrame(rows, columns=["recording", "start", "stop", "activity"])
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def train(folder, *options):
    arguments = ["train", "recordings", "--labels", "labels.csv", "--output", "model"]
    return CliRunner().invoke(app, [*arguments, "--epochs", "1", *options])


@pytest.mark.slow
def test_recordings_are_trained_on_in_windows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    options = ("--label", "activity", "--window", "10", "--level", "data")
    result = train(folder, *options, "--test", "0.25")
    assert result.exit_code == 0, result.output
    assert "MultimodalData: 12 samples" in result.output
    assert "Task: classification, 2 classes: run, walk" in result.output
    data = MultimodalData.from_recordings("recordings", "labels.csv", y="activity")
    windows = data.windows(10, label="activity")
    assert FusionClassifier.from_pretrained("model").score(windows) > 0.9
    windows.to_parquet("windows.parquet")
    arguments = ["predict", "model", "windows.parquet", "--output", "out.parquet"]
    predicted = CliRunner().invoke(app, arguments)
    assert predicted.exit_code == 0, predicted.output
    assert len(pd.read_parquet("out.parquet")) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "activity"], "--window is required for labels over time"),
        (["--label", "activity", "--step", "2"], "window is required with step"),
        (["--label", "activity", "--window", "0"], "window"),
        (
            ["--label", "mood", "--window", "5"],
            "--label must be a column of the labels",
        ),
        (
            ["--label", "activity", "--rate", "acc=fast"],
            "--rate must be a valid number",
        ),
        (["--label", "activity", "--window", "90"], "the longest lasts 40 s"),
    ],
)
def test_errors_name_options(folder, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    result = train(folder, *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())


def test_windows_need_a_table_of_labels(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ["train", "recordings", "--label", "y", "--window", "5"]
    result = CliRunner().invoke(app, [*arguments, "--output", "model"])
    assert "--labels is required for recordings" in " ".join(result.output.split())
    arguments = ["train", "labels.csv", "--label", "y", "--labels", "labels.csv"]
    result = CliRunner().invoke(app, [*arguments, "--output", "model"])
    assert "--labels must come with a folder" in " ".join(result.output.split())
