"""`mmgraph contributions`, and sets and values of `mmgraph predict`."""

import csv
import io

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionMatcher, FusionRegressor, MultimodalData
from mmgraph.cli import app
from mmgraph.workflows.saved_model import Columns

pytestmark = pytest.mark.slow

NUM = 240
SMALL = {"members": 1, "epochs": 1, "experts": ("linear",), "hidden_channels": 4}
SMALL |= {"num_heads": 1}


def run(*arguments, code=0) -> str:
    """Run the command line; return its output, or its errors."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with models, and samples that they were not trained on."""
    folder, rng = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    y = rng.integers(2, size=NUM)
    arrays = {
        n: y[:, None] + s * rng.normal(size=(NUM, 2))
        for n, s in zip("ab", (1, 2), strict=True)
    }
    sites = np.array(["north", "south"])[np.arange(NUM) % 2]
    data = MultimodalData.from_arrays(arrays, y=y, groups=sites)
    for name, rows in (
        ("train", slice(80)),
        ("calibration", slice(80, 160)),
        ("test", slice(160, NUM)),
    ):
        data[rows].to_parquet(folder / f"{name}.parquet")
    few = data[160:].mask({"b": np.arange(80) % 2 == 0})
    few.to_parquet(folder / "few.parquet")
    FusionClassifier(**SMALL).fit(data[:80]).save_pretrained(folder / "classes")
    numbers = data.replace(y=y + 0.5)
    FusionRegressor(**SMALL).fit(numbers[:80]).save_pretrained(folder / "numbers")
    matcher = FusionMatcher("a", "b", members=1, hidden_channels=4, num_heads=1)
    matcher.fit(data[:80].replace(groups=None))
    Columns("matching", None, {}, None, None).save(matcher, folder / "pairs")
    return folder


def test_contributions_are_printed_and_written_as_a_page(here):
    page = here / "page.html"
    output = run(
        *("contributions", here / "classes", here / "test.parquet"),
        *("--group", "group", "--page", page),
    )
    lines = output.splitlines()
    assert lines[1].split()[:2] == ["modality", "share"]
    assert lines[2].split()[0] == "a"
    assert f"Page: {page}" in output
    html = page.read_text("utf-8")
    assert "Shares of the modalities" in html
    assert "a and b" in html
    assert "http" not in html.replace("http-equiv", "")  # nothing is loaded


def test_contributions_need_labels_and_a_model_of_single_samples(here):
    unlabeled = here / "unlabeled.parquet"
    MultimodalData.from_parquet(here / "test.parquet").replace(y=None).to_parquet(
        unlabeled
    )
    assert "'y'" in run("contributions", here / "classes", unlabeled, code=2)
    error = run("contributions", here / "pairs", here / "test.parquet", code=2)
    assert "must contain a model of classification, regression, survival, retr" in error


def test_sets_are_written_for_a_calibration_file(here):
    rows = table(
        run(
            *("predict", here / "classes", here / "few.parquet"),
            *("--conformal", here / "calibration.parquet", "--alpha", "0.2"),
        )
    )
    assert len(rows) == 80
    assert {"in_set_0", "in_set_1", "conformal_supported"} <= set(rows[0])
    truth = MultimodalData.from_parquet(here / "few.parquet").y
    covered = [row[f"in_set_{y}"] == "true" for row, y in zip(rows, truth, strict=True)]
    assert 0.65 < np.mean(covered) < 0.95
    error = run(
        *("predict", here / "classes", here / "few.parquet"),
        *("--conformal", here / "calibration.parquet", "--alpha", "2"),
        code=2,
    )
    assert "--alpha must be between 0 and 1" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--alpha", "0.2"),
            "--alpha must go with calibration samples, got none. Give",
        ),
        (("--conformal", "few"), "must have at least 30 samples with a label, got 10."),
        (
            ("--conformal", "unlabeled"),
            "unlabeled.parquet must hold the label column 'y', got id, group, a, b. "
            "Give a file with the columns of the training file",
        ),
        (
            ("--conformal", "unknown"),
            "must have classes of the training, [0, 1], got 2",
        ),
        (("--acquire", "absent"), "must exist, got"),
    ],
)
def test_bad_calibration_files_are_one_clear_error(here, tmp_path, options, message):
    data = MultimodalData.from_parquet(here / "calibration.parquet")
    data[:10].to_parquet(tmp_path / "few.parquet")
    data.replace(y=None).to_parquet(tmp_path / "unlabeled.parquet")
    data.replace(y=np.arange(80) % 3).to_parquet(tmp_path / "unknown.parquet")
    option, value = options
    value = value if option == "--alpha" else tmp_path / f"{value}.parquet"
    error = run(
        "predict", here / "classes", here / "few.parquet", option, value, code=2
    )
    assert message in " ".join(error.split())
    assert "min_samples" not in error


def test_saved_sets_are_written_without_an_option(here, tmp_path):
    model = FusionClassifier.from_pretrained(here / "classes")
    model.conformal(MultimodalData.from_parquet(here / "calibration.parquet"))
    model.save_pretrained(tmp_path)
    rows = table(run("predict", tmp_path, here / "few.parquet"))
    assert {"in_set_0", "in_set_1"} <= set(rows[0])
    plain = table(run("predict", here / "classes", here / "few.parquet"))
    assert "in_set_0" not in plain[0]


def test_intervals_are_written_for_a_regressor(here):
    rows = table(
        run(
            *("predict", here / "numbers", here / "few.parquet"),
            *("--conformal", here / "calibration.parquet"),
        )
    )
    for row in rows:
        assert float(row["low"]) < float(row["prediction"]) < float(row["high"])


def test_values_of_missing_modalities_are_written(here):
    rows = table(
        run(
            *("predict", here / "classes", here / "few.parquet"),
            *("--acquire", here / "train.parquet"),
        )
    )
    assert [row["acquire"] for row in rows[:2]] == ["", "b"]
    assert rows[0]["value_b"] == ""
    assert float(rows[1]["value_b"]) > 0


@pytest.mark.parametrize("option", ["--conformal", "--acquire"])
def test_a_matcher_has_neither(here, option):
    arguments = ("predict", here / "pairs", here / "test.parquet")
    error = run(*arguments, option, here / "train.parquet", code=2)
    assert f"{option} must go with a classifier or regressor, got a matcher" in error
