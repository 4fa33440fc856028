"""`mmgraph index` and `mmgraph search`, as they are typed, and the page."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import CheckpointError, FusionClassifier, MultimodalData, checkpoint
from mmgraph.cli import app
from mmgraph.workflows import gallery
from mmgraph.workflows.saved_model import Columns
from mmgraph.workflows.search_page import Hit, SearchResult, write_search_page

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
COLORS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


class Colours:
    """Retriever of three colors, in texts and in images."""

    input_spec_ = SimpleNamespace(featurizer=SimpleNamespace(kinds={"text": "text"}))

    def embed(self, data, modalities=None):
        total = np.zeros((len(data), 3))
        for name in modalities or data.modalities:
            column = data.columns[name]
            if name == "image":
                seen = data.features()[name][column.present, :3]
            elif column.is_text:
                seen = [[color in text for color in COLORS] for text in column.values]
            else:
                continue
            total[column.present] += np.asarray(seen, dtype=float)
        total[~total.any(axis=1)] = np.nan
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    def save_pretrained(self, folder):
        (folder / "weights").write_text("saved anew")


@pytest.fixture
def stamps(tmp_path, monkeypatch):
    """A folder of coloured pictures of which some have a text, and a model folder."""
    folder = tmp_path / "stamps"
    folder.mkdir()
    for name, color in COLORS.items():
        Image.new("RGB", (30, 30), color).save(folder / f"{name}.png")
    (folder / "red.txt").write_text("something <b>red</b>", encoding="utf-8")
    (folder / "poem.txt").write_text("nothing at all", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("of a model")
    columns = Columns("retrieval", None, {}, None, None)
    monkeypatch.setattr(Columns, "load", lambda _: columns)
    monkeypatch.setattr(gallery, "load_retriever", lambda *_: Colours())
    monkeypatch.chdir(tmp_path)
    return folder


def run(*arguments, code=0) -> str:
    """Run the command line; return what it said."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output


def make_index(*options) -> str:
    return run("index", "stamps", "--model", "model", "--output", "found", *options)


def test_words_find_pictures(stamps):
    assert make_index() == "3 of 4 samples: found\n"
    said = run("search", "a red bird", "--index", "found", "--top", "2")
    lines = said.splitlines()
    assert lines[0] == "a red bird"
    assert lines[2].split()[:3] == ["1", "red", "1.000"]
    assert "image, text" in lines[2]
    assert "something <b>red</b>" in lines[2]
    assert "2 of 3 entries." in said
    assert (Path("found") / "model" / "weights").is_file()


def test_index_is_searched_without_the_model_it_was_made_with(stamps):
    make_index("--only", "image")
    shutil.rmtree("model")
    assert " blue " in run("search", "blue", "--index", "found", "--top", "1")


def test_index_remembers_where_a_moved_encoder_is(stamps):
    make_index()
    weights = Path("found") / "model" / "weights"
    assert weights.read_text() == "of a model"
    make_index("--encoder", "text=moved")
    assert weights.read_text() == "saved anew"
    assert (Path("model") / "weights").read_text() == "of a model"


def test_a_picture_and_words_together(stamps):
    make_index("--only", "image")
    Image.new("RGB", (9, 9), (255, 0, 0)).save("query.png")
    said = run("search", "--image", "query.png", "--index", "found", "--top", "1")
    assert said.splitlines()[0] == "query.png"
    assert " red " in said
    said = run("search", "green", "--image", "query.png", "--index", "found")
    assert said.splitlines()[0] == "green + query.png"
    scores = {line.split()[1]: line.split()[2] for line in said.splitlines()[2:5]}
    assert scores["green"] != scores["blue"]
    assert scores["red"] != scores["blue"]


def test_only_entries_with_the_modalities_are_found(stamps):
    make_index()
    said = run("search", "blue", "--index", "found", "--require", "image,text")
    assert [line.split()[1] for line in said.splitlines()[2:3]] == ["red"]
    assert "1 of 3 entries." in said
    assert "Only entries with image and text." in said


def test_files_of_a_table_are_found_by_words(stamps):
    frame = MultimodalData.from_arrays(
        {"text": ["red", "blue", None], "labs": [[1.0], [2.0], [3.0]]},
        ids=["a", "b", "c"],
    )
    frame.to_parquet("table.parquet")
    run("index", "table.parquet", "--model", "model", "--output", "found")
    said = run("search", "blue", "--index", "found", "--top", "1")
    assert said.splitlines()[2].split()[:3] == ["1", "b", "1.000"]
    said = run("search", "--image", "stamps/red.png", "--index", "found", code=2)
    assert "got --image for a gallery in a Parquet file" in said


def test_pictures_of_a_table_are_shown(stamps):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": ["a", "b"], "caption": ["red", "blue"]}
    columns["file"] = ["stamps/red.png", None]
    pq.write_table(pa.table(columns), "table.parquet")
    options = ("--model", "model", "--output", "found", "--modality", "text=caption")
    run("index", "table.parquet", *options, "--picture", "file")
    run("search", "red", "--index", "found", "--page", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "no image" in page
    said = run("index", "table.parquet", *options, "--picture", "photo", code=2)
    assert "must have the image column 'photo', got" in said


def test_page_shows_pictures_scores_and_what_is_missing(stamps):
    make_index()
    Path("stamps/blue.png").unlink()
    Path("stamps/green.png").write_bytes(b"broken")
    options = ("--image", "stamps/red.png", "--page", "page.html")
    said = run("search", "red & green", "--index", "found", *options)
    assert "Page: page.html" in said
    page = Path("page.html").read_text(encoding="utf-8")
    assert "“red &amp; green”" in page
    assert page.count("data:image/png;base64,") == 2  # of the query and of red
    assert "something &lt;b&gt;red&lt;/b&gt;" in page
    assert '<span class="lacks">text missing</span>' in page
    assert "<span>image</span>" in page
    assert "image file not found" in page
    assert "image cannot be read" in page
    assert "http" not in page
    assert "<script" not in page


def test_nothing_found_is_said(tmp_path):
    path = tmp_path / "page.html"
    answer = SearchResult({"text": "red"}, ("image",), (), 0)
    write_search_page(answer, path)
    assert "No entry matches." in path.read_text(encoding="utf-8")
    assert answer.table().rows == ()


def test_long_texts_are_cut_in_the_table():
    found = Hit("a", 0.5, ("text",), (True,), "word\n" * 40, "")
    [row] = SearchResult({"text": "x"}, (), (found,), 1).table().rows
    assert row[-1].endswith("…")
    assert len(row[-1]) == 60


def test_mistakes_are_told_in_one_line(stamps):
    make_index()
    said = run("search", "--index", "found", code=2)
    assert "search must be given a text, --image or --sound" in said
    for words in ("", "  "):
        again = run("search", words, "--index", "found", code=2)
        assert again == said
    said = run("search", "red", "--index", "found", "--top", "0", code=2)
    assert "--top must be at least 1, got 0" in said
    assert "cannot be read" in run("search", "red", "--index", "nowhere", code=2)
    said = run("search", "red", "--index", "found", "--require", "odour", code=2)
    assert "require must name modalities of the index" in said
    said = run("search", "--image", "none.png", "--index", "found", code=2)
    assert "File of --image must exist" in said
    said = run("index", "none", "--model", "model", "--output", "found", code=2)
    assert "Parquet or CSV file must exist" in said
    assert "kind must be one of exact" in run(
        *("index", "stamps", "--model", "model", "--output", "b", "--kind", "c"), code=2
    )
    (Path("found") / "entries.parquet").unlink()
    said = run("search", "red", "--index", "found", code=2)
    assert "must contain an index written by mmgraph index" in said


def test_words_need_a_text_to_be_looked_up_in(stamps):
    (stamps / "red.txt").unlink()
    (stamps / "poem.txt").unlink()
    make_index()
    said = run("search", "red", "--index", "found", code=2)
    assert "A text query must go with a gallery of one text modality" in said


def test_a_model_is_never_overwritten_by_an_index(stamps):
    checkpoint.save("model", {}, {"estimator": "X"})
    said = run("index", "stamps", "--model", "model", "--output", "model", code=2)
    assert "separate folder for the index, got 'model'" in said


def test_the_model_that_is_indexed_survives_wherever_it_is(stamps):
    Path("found").mkdir()
    Path("model").rename("found/model")
    words = ("index", "stamps", "--model", "found/model", "--output")
    for _ in range(2):
        assert run(*words, "found") == "3 of 4 samples: found\n"
        assert Path("found/model/weights").read_text() == "of a model"
    for inside in ("found/model", "found/model/index", "found/model/../model/a/b"):
        said = run(*words, inside, code=2)
        assert f"got '{inside}' in the folder of the model 'found/model'" in said
    held = sorted(path.name for path in Path("found/model").iterdir())
    assert held == ["weights"]


def test_another_model_is_not_replaced_by_the_copy(stamps):
    shutil.copytree("model", "runs/model")
    words = ("index", "stamps", "--model", "model", "--output")
    assert "would overwrite 'runs/model'" in run(*words, "runs", code=2)
    make_index()
    shutil.copytree("model", "found/model/inner")
    said = run(
        "index", "stamps", "--model", "found/model/inner", "--output", "found", code=2
    )
    assert "would overwrite 'found/model'" in said
    make_index()  # an index is replaced as a whole
    names = sorted(path.name for path in Path("found").iterdir())
    assert "model" in names
    assert ".model.part" not in names
    assert not Path("found/model/inner").exists()


def test_a_model_that_is_no_retriever_is_refused(tmp_path):
    data = MultimodalData.from_arrays({"a": np.eye(8)}, y=[0, 1] * 4)
    small = {"members": 1, "epochs": 1, "hidden_channels": 4, "num_heads": 1}
    FusionClassifier(**small, experts=("linear",)).fit(data).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="retriever, got a FusionClassifier"):
        gallery.load_retriever(tmp_path)
    with pytest.raises(CheckpointError, match="Model folder must exist"):
        gallery.load_retriever(tmp_path / "nowhere")


@pytest.mark.parametrize("command", ["index", "search"])
def test_help_shows_an_example(command):
    assert f"Example: mmgraph {command}" in " ".join(run(command, "--help").split())


@pytest.mark.slow
def test_page_in_a_browser_shows_the_picture(stamps, tmp_path):
    """The middle of the first card is as red as the picture that was found."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium to look at the page with")
    make_index()
    run("search", "red", "--index", "found", "--page", "page.html")
    shot, home = tmp_path / "shot.png", tmp_path / "home"
    options = "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars"
    options += " --disable-background-networking --disable-component-update"
    options += f" --disable-sync --user-data-dir={home} --window-size=1000,800"
    page = (tmp_path / "page.html").as_uri()
    command = [browser, *options.split(), f"--screenshot={shot}", page]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3).astype(int)
    counts = {
        name: int((np.abs(pixels - color).max(axis=1) < 8).sum())
        for name, color in COLORS.items()
    }
    assert min(counts.values()) > 500  # the three pictures, 30 x 30 each
