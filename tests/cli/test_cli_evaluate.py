"""`mmgraph evaluate` of a retriever and a matcher, as it is typed."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import (
    ConfigError,
    DataError,
    FusionClassifier,
    FusionMatcher,
    FusionRetriever,
    MultimodalData,
)
from mmgraph.cli import app
from mmgraph.workflows.evaluate import EvaluateRequest, evaluate_saved
from mmgraph.workflows.saved_model import Columns

pytestmark = pytest.mark.slow

NUM = 90
SMALL = {"members": 1, "hidden_channels": 4, "num_heads": 1}


def run(*arguments, code=0) -> str:
    """Run the command line; return what it said."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output if code == 0 else result.stderr


def make() -> MultimodalData:
    """Return three noisy looks at one shape; pairs of samples are of one group."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(NUM, 6))
    looks = {name: shape + 0.6 * rng.normal(size=(NUM, 6)) for name in "abc"}
    y, groups = np.arange(NUM) % 3, np.arange(NUM) // 2
    return MultimodalData.from_arrays(
        looks, y=y, groups=np.array([f"group {g}" for g in groups])
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with two models and the samples that they have not seen."""
    folder, data = tmp_path_factory.mktemp("models"), make()
    test = data[60:]
    test.to_parquet(folder / "test.parquet")
    test.replace(groups=None).to_parquet(folder / "alone.parquet")
    test.select(["a"]).to_parquet(folder / "a.parquet")
    models = {
        "retrieval": FusionRetriever(**SMALL, supervision="pairs"),
        "matching": FusionMatcher("a", ["b", "c"], **SMALL, supervision="pairs"),
    }
    for task, model in models.items():
        Columns(task, None, {}, None, None).save(model.fit(data[:60]), folder / task)
    return folder


def ask(here, task, file="test", **options):
    return evaluate_saved(
        EvaluateRequest(here / task, here / f"{file}.parquet", **options)
    )


def test_retriever_is_scored_in_every_direction(here):
    measured = ask(here, "retrieval", label="y")
    said = [asked for _, asked, _ in measured.lines]
    assert said == ["a to b", "a to c", "b to a", "b to c", "c to a", "c to b"]
    for rate, _, scores in measured.lines:
        assert rate == "0"
        assert scores["recall_at_10"] > 0.7  # of 30, by chance a third
        assert scores["num_queries"] == 30
        assert scores["category_map"] > 1 / 3  # by chance
    assert "the same group" in measured.notes[0]


def test_scores_are_of_samples_where_there_is_no_group(here):
    measured = ask(here, "retrieval", "alone")
    assert "same sample" in measured.notes[0]
    of_groups = ask(here, "retrieval").lines[0][2]
    alone = measured.lines[0][2]
    assert "category_map" not in alone
    assert alone["mrr"] < of_groups["mrr"]  # two of a group are right
    model = FusionRetriever.from_pretrained(here / "retrieval")
    data = make()[60:]
    z, found = (model.embed(data, modalities=[m]) for m in "ab")
    order = (z @ found.T).argsort(1)[:, ::-1]
    first = np.mean(order[:, 0] == np.arange(30))
    assert alone["recall_at_1"] == pytest.approx(first)
    by_id = ask(here, "retrieval", group="id").lines[0][2]
    assert by_id == alone


def test_query_of_several_modalities_is_scored_at_missing_rates(here):
    sides = {"query": ("a", "b"), "gallery": ("c",)}
    measured = ask(here, "retrieval", rates=(0.0, 0.6), **sides)
    (_, asked, full), (rate, _, half) = measured.lines
    assert (asked, rate) == ("a+b to c", "0.6")
    assert full["mrr"] > half["mrr"]
    assert half["num_queries"] < full["num_queries"] == 30
    assert half["num_entries"] == full["num_entries"] == 30
    assert "removed from the queries only" in measured.notes[1]
    again = ask(here, "retrieval", rates=(0.0, 0.6), **sides)
    assert again.lines == measured.lines
    other = ask(here, "retrieval", rates=(0.0, 0.6), seed=1, **sides)
    assert other.lines[0] == measured.lines[0]
    assert other.lines[1] != measured.lines[1]


def test_one_side_given_is_searched_by_or_for_each_other(here):
    by = ask(here, "retrieval", query=("c",)).lines
    assert [asked for _, asked, _ in by] == ["c to a", "c to b"]
    found = ask(here, "retrieval", gallery=("c",)).lines
    assert [asked for _, asked, _ in found] == ["a to c", "b to c"]


def test_matcher_is_scored_against_wrong_partners(here):
    measured = ask(here, "matching", label="y", rates=(0.0, 0.5))
    full, half = measured.lines[:4], measured.lines[4:]
    kinds = ["random", "similar", "random and similar", "same label"]
    assert [kind for _, kind, _ in full] == [kind for _, kind, _ in half] == kinds
    scores = {kind: found for _, kind, found in full}
    assert scores["random"]["auroc"] > 0.9
    assert scores["random"]["auroc"] > scores["similar"]["auroc"]
    assert scores["random and similar"]["num_pairs"] == 120
    assert half[0][2]["auroc"] < scores["random"]["auroc"]
    assert half[0][2]["num_pairs"] < 60
    assert "another group with different content" in measured.notes[0]
    assert "both sides" in measured.notes[1]
    assert ask(here, "matching").lines == full[:3]
    assert ask(here, "matching", seed=1).lines != full[:3]


def test_tables_are_shown(here):
    said = run("evaluate", here / "retrieval", here / "test.parquet", "--label", "y")
    _, header, first, *_ = said.splitlines()
    assert header.split("  ")[0] == "missing"
    assert "Recall@10" in header
    assert "median rank" in header
    assert header.endswith("category mAP")
    assert first.split()[:6] == ["0", "a", "to", "b", "30", "30"]
    assert "A hit is any entry of the same group." in said
    said = run("evaluate", here / "matching", here / "alone.parquet")
    assert "average precision" in said
    assert "another sample with different content" in said
    assert "same label" not in said


def test_mistakes_are_told_in_one_line(here):
    def told(task, *options, file="test"):
        path = here / f"{file}.parquet"
        return run("evaluate", here / task, path, *options, code=2)

    said = told("retrieval", "--query", "a", "--gallery", "a,b")
    assert (
        "--query must have no modality in common with the gallery, got a and a, b"
        in said
    )
    assert "--query must name modalities of model" in told("retrieval", "--query", "x")
    said = told("retrieval", "--missing", "0", ".5")
    assert "--missing must go with queries of several modalities" in said
    said = told("retrieval", file="a")
    assert "must have at least two of the modalities a, b, c, got a" in said
    said = told("retrieval", "--label", "id")
    assert "--label must name a column of at least two classes" in said
    assert "must hold the group column 'x'" in told("retrieval", "--group", "x")
    said = told("matching", "--gallery", "b")
    assert "--gallery must go with a retriever, got a matching model" in said
    assert "--seed must be a whole number of at least 0, got -1" in told(
        "matching", "--seed", "-1"
    )
    said = run(
        *("predict", here / "matching", here / "test.parquet", "--explain"), code=2
    )
    assert "--explain must go with a classifier or regressor, got a matcher" in said
    said = told("matching", file="a")
    assert "Data of the right side must have one of b, c, got a" in said


def test_mistakes_are_errors_of_the_library(here):
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0"):
        ask(here, "matching", seed=-1)
    with pytest.raises(ConfigError, match="--group must go with a retriever or match"):
        EvaluateRequest(here, here, group="group").check("classification")
    with pytest.raises(DataError, match="at least two of the modalities"):
        ask(here, "retrieval", "a")


def test_folder_of_files_is_scored(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = tmp_path / "pictures"
    folder.mkdir()
    colors = ("red", "green", "blue", "white")
    for i in range(24):
        size = 20 + i, 30
        image.new("RGB", size, colors[i % 4]).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a {colors[i % 4]} thing", encoding="utf-8")
    data = MultimodalData.from_folder(folder, raw=True)
    model = FusionRetriever(**SMALL).fit(data)
    Columns("retrieval", None, {}, None, None).save(model, tmp_path / "model")
    (_, _, forth), (_, _, back) = evaluate_saved(
        EvaluateRequest(tmp_path / "model", folder)
    ).lines
    for scores in (forth, back):  # those that look the same count once
        assert scores["num_queries"] == scores["num_entries"] == 4
        assert scores["recall_at_1"] == 1
    said = run("evaluate", tmp_path / "model", folder, "--label", "y", code=2)
    assert "got --label for a folder without one" in said


def test_several_labels_a_sample_are_not_scored(tmp_path):
    data = make()
    data = data.replace(y=np.c_[data.y > 0, data.y > 1].astype(float))
    data.to_parquet(tmp_path / "test.parquet")
    several = FusionClassifier(**SMALL, experts=["linear"], epochs=1).fit(data)
    several.save_pretrained(tmp_path / "model")
    message = "evaluate must get one label per sample, got 2"
    assert message in run(
        "evaluate", tmp_path / "model", tmp_path / "test.parquet", code=2
    )


def test_intervals_and_metrics_of_a_classifier(here):
    data = make()
    clf = FusionClassifier(epochs=1, experts=("linear",), **SMALL).fit(data[:60])
    Columns("classification", "y", {}, "group", None).save(clf, here / "classes")
    options = ("--metrics", "accuracy", "log_loss", "--intervals")
    output = run("evaluate", here / "classes", here / "test.parquet", *options)
    assert output.splitlines()[1].split("  ")[0] == "missing"
    assert output.count("95% CI") == 2
    assert "AUROC" not in output
    bad = run(
        "evaluate", here / "classes", here / "test.parquet", *options[:1], "x", code=2
    )
    assert bad.startswith("Error: --metrics must be functions, or of accuracy, ")
