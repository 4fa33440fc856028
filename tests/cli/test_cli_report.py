"""`mmgraph report`: the page on the data of a file."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmgraph import MultimodalData
from mmgraph.cli import app
from mmgraph.workflows.report import BINS, _histogram

NUM = 60


def run(*arguments, code=0) -> str:
    """Run the command line; return its output, or its errors."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def make() -> MultimodalData:
    """Two modalities with gaps, one constant channel, a fill value, and text."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM, 3))
    x[:, 1], x[:5, 2] = 3, -9999
    x[40:] = np.nan
    note = [f"note <{i}>" if i % 3 else None for i in range(NUM)]
    y = np.where(rng.random(NUM) < 0.3, "<ill>", "well")
    groups = np.array(["north", "south"])[np.arange(NUM) % 2]
    return MultimodalData.from_arrays({"labs": x, "note": note}, y=y, groups=groups)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make().to_parquet(folder / "data.parquet")
    return folder


def test_the_page_has_patterns_distributions_labels_and_alarms(here):
    page = here / "page.html"
    output = run("report", here / "data.parquet", "--output", page)
    assert output.startswith("60 samples; 2 classes: well (")
    assert "alarms: 2" in output
    assert "Alarm: labs has -9999 in 5 cells of channel 2" in output
    html = page.read_text("utf-8")
    assert "http" not in html  # nothing is loaded
    assert "<ill>" not in html
    assert "&lt;ill&gt;" in html
    assert html.count('class="alarm"') == 2
    assert html.count("<svg") == 4  # three channels, lengths of notes
    assert html.count('class="cell present"') == html.count('class="cell"') == 4
    assert "north" in html
    counts = re.findall(r"</td><td>(\d+)</td><td>\d+%</td><td class=\"bar\">", html)
    assert sorted(map(int, counts)) == [6, 14, 14, 26]
    assert "range [-9999," in html  # figures of the data have the fill value
    [low] = re.findall(r"<div class=\"ends\"><span>([^<]+)<", html)[2:3]
    assert float(low) > -10  # the histogram does not


def test_the_number_of_channels_is_limited(here):
    page = here / "few.html"
    run("report", here / "data.parquet", "--output", page, "--limit", 1)
    html = page.read_text("utf-8")
    assert html.count("<svg") == 2
    assert "the first 1 of 3 channels are shown" in html


def test_columns_of_a_csv_file_are_named_by_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(
        {"age": range(40, 60), "sex": ["f", "m"] * 10, "stay": np.arange(20) / 3}
    )
    frame.to_csv("cohort.csv", index=False)
    output = run(
        *("report", "cohort.csv", "--label", "stay", "--modality", "history=age,sex")
    )
    assert "target y: mean 3.167" in output
    assert "Alarm: channel age of history" in output
    html = (tmp_path / "report.html").read_text("utf-8")
    assert ">2 categories<" in html
    run("report", "cohort.csv", "--modality", "history=age,sex")
    assert "no labels" in (tmp_path / "report.html").read_text("utf-8")


def test_mistakes_are_one_line(here):
    data = here / "data.parquet"
    assert "must exist" in run("report", here / "none.parquet", code=2)
    assert "Output must end in .html" in run(
        "report", data, "--output", here / "a.txt", code=2
    )
    error = run("report", data, "--output", here / "a.html", "--label", "z", code=2)
    assert "label column 'z'" in error
    assert len(error.splitlines()) == 1


def test_whole_numbers_have_one_bar_each_and_other_numbers_equal_bins():
    assert _histogram(np.array([0.0, 2, 2, np.nan]))["heights"] == [50, 0, 100]
    assert _histogram(np.array([7.0, 7.0]))["heights"] == [100]
    assert _histogram(np.array([0.25, 0.25]))["heights"] == [100]
    assert len(_histogram(np.array([0.5, 9.0]))["heights"]) == BINS
    assert _histogram(np.array([np.nan])) is None
    heights = _histogram(np.r_[np.zeros(999), 100.5])["heights"]
    assert (heights[0], heights[-1]) == (100, 2)  # a rare value is visible
    assert _histogram(np.array([-0.0, 12345.6]))["low"] == "0"
    assert _histogram(np.array([-0.0, 12345.6]))["high"] == "12346"
