"""`mmgraph align`: correlations, similarity, offset and page of two modalities."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import MultimodalData
from mmgraph.cli import app


def run(*arguments, code=0) -> str:
    """Run the command line; return its output, or its errors."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def recordings(seed, shift=0.0, count=40):
    """Return short recordings of one motion by two sensors of 20 Hz, and vectors."""
    rng = np.random.default_rng(seed)
    kernel = np.hanning(9)
    level = rng.standard_normal((count, 1, 2))
    motion = [
        np.stack([np.convolve(rng.standard_normal(90), kernel, "valid")] * 2, axis=1)
        for _ in range(count)
    ]
    motion = [x + each for x, each in zip(motion, level, strict=True)]
    noise = [0.1 * rng.standard_normal(x.shape) for x in motion]
    turned = [
        x @ [[1.0, 1.0], [0.0, 1.0]] + n for x, n in zip(motion, noise, strict=True)
    ]
    seconds = [np.arange(len(x)) / 20 for x in motion]
    return MultimodalData.from_arrays(
        {
            "watch": motion,
            "camera": turned,
            "level": level[:, 0] + 0.1 * rng.standard_normal((count, 2)),
            "other": level[:, 0] + 0.1 * rng.standard_normal((count, 2)),
        },
        times={"watch": [x + shift for x in seconds], "camera": seconds},
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with recordings whose watch is 0.3 s ahead, and a reference."""
    folder = tmp_path_factory.mktemp("recordings")
    recordings(0, 0.3).to_parquet(folder / "data.parquet")
    recordings(1).to_parquet(folder / "reference.parquet")
    recordings(0, 0.3)[:6].to_parquet(folder / "few.parquet")
    return folder


def test_recordings_have_correlations_similarity_and_an_offset(here):
    page = here / "page.html"
    output = run(
        *("align", "watch", "camera", here / "data.parquet", "--page", page),
        *("--reference", here / "reference.parquet", "--max-seconds", 1),
        *("--permutations", 20, "--components", 2),
    )
    lines = output.splitlines()
    assert lines[0] == "watch and camera in data.parquet"
    first = re.split(r"\s{2,}", lines[2].strip())
    assert float(first[1]) > 0.9
    assert float(first[3]) < 0.06
    assert "40 of 40 samples have both watch and camera." in output
    recall = re.search(r"Similarity: (\d+)% of 12 held-out samples", output)
    assert int(recall[1]) > 50
    offset = re.search(r"Offset: (\S+) s, 90% CI \[(\S+), (\S+)\]", output)
    assert float(offset[1]) == pytest.approx(0.3, abs=0.01)
    html = page.read_text("utf-8")
    assert html.count('class="best"') == 12
    assert "http" not in html  # nothing is loaded
    assert f"Page: {page}" in output


def test_vectors_have_no_offset_and_few_samples_no_correlations(here):
    output = run("align", "level", "other", here / "data.parquet", "--permutations", 9)
    assert "No offset: level and other without times of rows." in output
    assert "Offset:" not in output
    page = here / "few.html"
    output = run(
        *("align", "watch", "camera", here / "few.parquet", "--max-seconds", 1),
        *("--page", page),
    )
    assert "Canonical correlations need 20 samples with both, got 6." in output
    assert "Offset: 0.3" in output
    assert "Offset of the clocks" in page.read_text("utf-8")


def test_columns_of_other_files_are_mapped(here):
    rows = np.random.default_rng(0).standard_normal((30, 2))
    lines = [f"{x:.4f},{x + 0.1 * y:.4f}" for x, y in rows]
    (here / "table.csv").write_text("\n".join(["left,right", *lines]) + "\n")
    output = run(
        *("align", "a", "b", here / "table.csv", "--permutations", 9),
        *("--modality", "a=left", "--modality", "b=right"),
    )
    assert "30 of 30 samples have both a and b." in output


def test_faults_of_options_and_data_are_one_line(here):
    file = here / "data.parquet"
    assert "'radar'" in run("align", "watch", "radar", file, code=2)
    message = run("align", "watch", "watch", file, code=2)
    assert "must get two modalities, got watch twice" in message
    message = run("align", "watch", "camera", file, "--page", file, code=2)
    assert "Output must end in .html or .htm" in message
    message = run("align", "watch", "camera", file, "--max-seconds", 60, code=2)
    assert "must be at least" in message
    present = {"watch": [True, False] * 20, "camera": [False, True] * 20}
    MultimodalData.from_parquet(file).mask(present).to_parquet(here / "apart.parquet")
    message = run("align", "watch", "camera", here / "apart.parquet", code=2)
    assert "must have samples with 'watch' and 'camera', got none" in message
