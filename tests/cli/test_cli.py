"""The command line: what it prints, its exit codes, and one line per mistake."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from typer.testing import CliRunner

import mmgraph
from mmgraph import FusionClassifier, FusionMatcher, FusionRetriever, checkpoint
from mmgraph.benchmark.results import Results
from mmgraph.cli.app import app
from mmgraph.cli.options import join_values
from mmgraph.config import BenchConfig, TrainConfig, build_config
from mmgraph.data import MultimodalData
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.schema import Schema
from mmgraph.workflows.datasets import dataset_table
from mmgraph.workflows.outputs import check_file, check_folder
from mmgraph.workflows.predict import PredictRequest, predict_tables, write_tables
from mmgraph.workflows.samples import read_samples
from mmgraph.workflows.saved_model import Columns

COMMANDS = (
    *("bench", "train", "predict", "evaluate", "embed", "index", "search"),
    *("datasets", "schema"),
)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """60 samples that mmgraph wrote: 2 classes, 2 modalities, one lacks a quarter."""
    path = tmp_path_factory.mktemp("cli") / "small.parquet"
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    a, b = rng.normal(size=(2, 60, 3)) + y[:, None]
    b[::4] = np.nan
    MultimodalData.from_arrays({"a": a, "b": b}, y=y).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A plain table of a user: 80 patients, two modalities, label, hospital."""
    rng = np.random.default_rng(0)
    died = np.arange(80) % 2
    wbc, crp, rate = rng.normal(size=(3, 80)) + 2 * died
    wbc[::5] = crp[::5] = np.nan
    path = tmp_path_factory.mktemp("icu") / "icu.parquet"
    columns = {"wbc": wbc, "crp": crp, "rate": rate, "died": died}
    names = [f"patient {i}" for i in range(80)]
    pq.write_table(pa.table({**columns, "who": names, "cost": rate * 2.5}), path)
    return path


MODALITIES = ("--modality", "labs=wbc,crp", "--modality", "ecg=rate")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: mmgraph {command}" in result.output


def test_paragraphs_of_help_are_wrapped_by_the_screen_alone():
    command = typer.main.get_command(app).get_command(None, "train")
    paragraphs = command.help.split("\n\n")
    assert len(paragraphs) == 5
    assert not any("\n" in paragraph for paragraph in paragraphs)


def test_the_version_is_shown():
    assert run("--version").output == f"mmgraph {mmgraph.__version__}\n"


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (
            ["--missing", "0", ".3", "--seeds", "2"],
            ["--missing", "0,.3", "--seeds", "2"],
        ),
        (["--missing", "0,.3"], ["--missing", "0,.3"]),
        (["--missing", "0", "heart"], ["--missing", "0", "heart"]),
        (["--models", "a", "b", "--fresh"], ["--models", "a,b", "--fresh"]),
        (["heart", "--train-missing", "0", "1"], ["heart", "--train-missing", "0,1"]),
        (["--missing"], ["--missing"]),
        (["--missing", "x"], ["--missing", "x"]),
    ],
)
def test_options_take_several_values(given, joined):
    assert join_values(given) == joined


def bench(small, output, *options):
    models = ("--models", "late_logistic", "mean_logistic")
    rest = ("--folds", 2, "--jobs", 1, "--output", output, "--seeds", 1)
    return run("bench", small, "--missing", 0, ".5", *models, *rest, *options)


@pytest.fixture(scope="module")
def benched(small, tmp_path_factory):
    """A folder of results that is complete; to be read, or copied and changed."""
    folder = tmp_path_factory.mktemp("benched")
    assert "commits" not in bench(small, folder).stderr
    return folder


def test_masks_per_rate_are_asked_for_apart_from_fits(small, tmp_path):
    bench(small, tmp_path, "--mask-seeds", 2)
    at_half = [x for x in Results(tmp_path).lines() if x["test_missing"] == 0.5]
    per_unit = Counter(line["unit"] for line in at_half)
    assert set(per_unit.values()) == {2}
    assert len(per_unit) == 4
    assert bench(small, tmp_path, "--mask-seeds", 1).stderr.startswith("4 units were")


def test_bench_writes_lines_page_and_table_and_resumes(small, tmp_path):
    result = bench(small, tmp_path)
    assert result.exit_code == 0, result.output
    assert "[4/4]" in result.stderr
    assert len(result.stderr.splitlines()) == 4
    for name in ("results.jsonl", "report.html", "table.md", "runs.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    assert {x["test_missing"] for x in Results(tmp_path).lines()} == {0.0, 0.5, None}
    assert "mean over rates" in result.stdout
    assert "late_logistic" in result.stdout
    run_line = json.loads((tmp_path / "runs.jsonl").read_text())
    assert run_line["command"].startswith("mmgraph bench ")
    assert "--missing 0 .5" in run_line["command"]
    again = bench(small, tmp_path)
    assert again.stderr == "4 units were already there.\n"


def test_report_only_rebuilds_page_and_table(benched, tmp_path):
    shutil.copytree(benched, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "report.html").unlink()
    result = run("bench", "--report", "--output", tmp_path)
    assert result.exit_code == 0
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "results.jsonl").read_text() == before


def test_results_of_several_commits_are_pointed_out(benched, tmp_path):
    shutil.copytree(benched, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "results.jsonl"
    first, *others = path.read_text().splitlines()
    older = json.dumps(json.loads(first) | {"commit": "an older one"})
    path.write_text("\n".join([older, *others]) + "\n")
    result = run("bench", "--report", "--output", tmp_path)
    assert "These results are from 2 commits" in result.stderr


def test_a_failing_model_exits_1_and_the_others_are_reported(
    small, tmp_path, monkeypatch
):
    from mmgraph.benchmark.models import make_model as original

    def make(name, data, seed):
        if name == "mean_logistic":
            raise RuntimeError("no luck")
        return original(name, data, seed)

    monkeypatch.setattr("mmgraph.benchmark.unit.make_model", make)
    result = bench(small, tmp_path)
    assert result.exit_code == 1
    assert "mean_logistic r0f0: RuntimeError: no luck" in result.stderr
    assert "Failed: mean_logistic on 2 splits: RuntimeError: no luck" in result.stdout


def test_a_run_file_gives_the_options(small, tmp_path):
    path = tmp_path / "run.json"
    options = {"datasets": [str(small)], "models": ["late_logistic"], "folds": 2}
    rest = {"jobs": 1, "missing": [0], "output": str(tmp_path / "out")}
    path.write_text(json.dumps({**options, **rest}))
    result = run("bench", "--config", path)
    assert result.exit_code == 0, result.output
    assert {x["model"] for x in Results(tmp_path / "out").lines()} == {"late_logistic"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "hart"], "'hart'. Did you mean 'heart'?"),
        (["bench", "heart", "--models", "mgraph"], "Did you mean 'mmgraph'?"),
        (
            ["bench", "none.parquet"],
            "Parquet or CSV file must exist, got 'none.parquet'",
        ),
        (["bench"], "must be given a data set"),
        (["bench", "heart", "--missing", "0", "2"], "--missing must be less than"),
        (["bench", "heart", "--missing", "a"], "--missing must be numbers"),
        (["bench", "--report", "--output", "nowhere"], "must hold results"),
        (["bench", "--config", "none.json"], "Run file must exist"),
        (["datasets", "hart"], "Did you mean 'heart'?"),
        (["schema", "hart"], "Did you mean 'heart'?"),
        (["schema", "none.json"], "Schema file must exist"),
        (["predict", "nowhere", "x.parquet"], "Model folder must exist"),
        (["evaluate", "nowhere", "x.parquet"], "Model folder must exist"),
        (
            ["train", "none.parquet", "--label", "y", "--output", "out"],
            "Parquet or CSV file must exist, got 'none.parquet'",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_with_exit_code_2(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.glob("out")) == []


def test_mistakes_in_a_users_table_are_told_in_one_line(table, small, tmp_path):
    out = ("--output", tmp_path / "model")
    cases = [
        (("--label", "dead", *MODALITIES), "must hold the label column 'dead', got"),
        (("--label", "died", "--modality", "labs=wbc,cpr"), "'cpr'"),
        (
            ("--label", "died", "--modality", "labs=wbc,died"),
            "must not contain the label",
        ),
        (("--label", "died", "--modality", "labs"), "must be NAME=COLUMN,COLUMN"),
        (("--label", "died"), "--modality labs=wbc,crp"),
    ]
    for options, message in cases:
        result = run("train", table, *options, *out)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    with pytest.raises(DataError, match="Parquet or CSV file must exist"):
        read_samples(tmp_path / "none.parquet", modalities={}, label=None)
    result = run("train", small, "--label", "nope", *out)
    assert result.exit_code == 2
    assert "nope" in result.stderr


def test_datasets_are_listed_and_a_card_is_shown():
    result = run("datasets")
    assert result.exit_code == 0
    heart = next(x for x in result.stdout.splitlines() if x.startswith("heart"))
    assert "920" in heart
    assert "thallium 53%" in heart
    assert "CC BY 4.0" in heart
    assert "Janosi" in run("datasets", "heart").stdout
    assert json.loads(run("datasets", "synergy").stdout)["name"] == "synergy"


def test_a_set_whose_file_is_elsewhere_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("MMGRAPH_DATA", str(tmp_path))
    rows = {row[0]: row[2] for row in dataset_table().rows}
    assert (rows["wesad"], rows["heart"], rows["synergy"]) == ("no", "yes", "yes")


def test_a_schema_is_printed_as_json_and_drawn(small, tmp_path):
    result = run("schema", small, "--json")
    schema = Schema.from_json(result.stdout)
    assert schema.modality_names == ("a", "b")
    path = tmp_path / "schema.json"
    path.write_text(result.stdout)
    picture = tmp_path / "schema.svg"
    printed = run("schema", path, "--output", picture)
    assert printed.exit_code == 0
    assert "a: vector, single, 3 channels" in printed.stdout
    assert "a -> fuse" in printed.stdout
    assert picture.read_text().count("<!-- fuse") == 1


@pytest.fixture(scope="module")
def model(table, tmp_path_factory):
    """A classifier trained for two epochs on the user's table."""
    folder = tmp_path_factory.mktemp("model") / "icu"
    options = ("--label", "died", "--id", "who", "--output", folder)
    result = run("train", table, *options, *MODALITIES, "--epochs", 2)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_a_trained_model_predicts_ids_classes_and_probabilities(model, table, tmp_path):
    import pandas as pd

    path = tmp_path / "predictions.parquet"
    assert run("predict", model, table, "--output", path).exit_code == 0
    frame = pd.read_parquet(path)
    assert list(frame) == ["id", "prediction", "probability_0", "probability_1"]
    assert frame["id"][3] == "patient 3"
    total = frame["probability_0"] + frame["probability_1"]
    assert total.to_numpy() == pytest.approx(np.ones(80), abs=1e-6)
    likely = (frame["probability_1"] > 0.5).astype(int)
    assert (frame["prediction"] == likely).all()
    shown = run("predict", model, table).stdout
    assert shown.splitlines()[0] == "id,prediction,probability_0,probability_1"
    assert run("predict", model, table, "--output", "x.txt").exit_code == 2
    with pytest.raises(ConfigError, match=r"Output must end in .parquet or .csv"):
        check_file(tmp_path / "x.txt", ".parquet", ".csv")


@pytest.mark.slow
def test_predictions_are_explained_by_modality(model, table, tmp_path):
    import pandas as pd

    path = tmp_path / "explained.csv"
    assert run("predict", model, table, "--explain", "--output", path).exit_code == 0
    frame = pd.read_csv(path)
    assert list(frame)[-2:] == ["adds_labs", "adds_ecg"]
    likeliest = frame[["probability_0", "probability_1"]].max(axis=1)
    base = likeliest - frame["adds_labs"] - frame["adds_ecg"]
    assert base.to_numpy() == pytest.approx(np.full(80, 0.5), abs=1e-6)
    assert (frame["adds_labs"][::5] == 0).all()
    assert (frame["adds_labs"].drop(range(0, 80, 5)) != 0).all()


@pytest.mark.slow
def test_a_modality_that_the_file_lacks_is_missing(model, table, tmp_path):

    path = tmp_path / "less.parquet"
    pq.write_table(pq.read_table(table).drop_columns(["wbc", "crp", "died"]), path)
    assert sum(map(len, predict_tables(PredictRequest("predict", model, path)))) == 80
    pq.write_table(pq.read_table(table).select(["died"]), path)
    with pytest.raises(DataError, match="at least one of the modalities ecg, labs"):
        list(predict_tables(PredictRequest("predict", model, path)))


@pytest.mark.slow
def test_a_trained_model_is_evaluated_at_missing_rates(model, table):
    result = run("evaluate", model, table, "--missing", 0, ".5")
    assert result.exit_code == 0, result.output
    _, header, full, half, *_ = result.stdout.splitlines()
    assert "AUROC" in header
    assert full.startswith("0 ")
    assert half.startswith("0.5 ")
    unknown = run("evaluate", model, table, "--label", "cost")
    assert unknown.exit_code == 2
    assert "Labels must be classes of the training" in unknown.stderr


@pytest.mark.parametrize("ending", ["parquet", "csv", "npy"])
def test_answers_that_break_off_leave_no_file(ending, tmp_path):
    row = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0]), 2)
    part = pa.table({"id": ["a"], "z": row})

    def broken():
        yield part
        raise DataError("the second file is damaged")

    path = tmp_path / f"out.{ending}"
    with pytest.raises(DataError, match="second file"):
        write_tables(broken(), path)
    assert list(tmp_path.iterdir()) == []
    assert write_tables([part], path)[0] == 1
    before = path.read_bytes()
    with pytest.raises(DataError, match="second file"):
        write_tables(broken(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_is_checked_before_the_work(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for output in ("nowhere/out.parquet", "dir.parquet"):
        (tmp_path / "dir.parquet").mkdir(exist_ok=True)
        for words in (["predict", "m", table], ["embed", table, "--model", "m"]):
            result = run(*words, "--output", output)
            assert (result.exit_code, result.stdout) == (2, "")
            assert "Error: Output must be " in result.stderr
            assert f"'{output}'" in result.stderr
    (tmp_path / "file").touch()
    commands = (
        ("train", table, "--label", "died", *MODALITIES),
        ("index", table, "--model", "m"),
    )
    for words in commands:
        for output in ("file", "file/model"):
            result = run(*words, "--output", output)
            assert result.exit_code == 2
            assert "Output must be a folder, got the file" in result.stderr
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"can be written, got 'a.csv'. Make '.' wri"):
        check_file(Path("a.csv"), ".parquet", ".csv")
    with pytest.raises(ConfigError, match="in a folder that can be written, got 'a/b'"):
        check_folder(Path("a/b"))


def with_label(table, path, name, values):
    """Write the table of the user with another column of labels."""

    found = pq.read_table(table)
    column = found.column_names.index(name)
    pq.write_table(found.set_column(column, name, pa.array(values)), path)
    return path


@pytest.mark.slow
def test_samples_without_a_label_are_not_scored(model, table, tmp_path):
    died = pq.read_table(table)["died"].to_pylist()
    known = tmp_path / "known.parquet"
    pq.write_table(pq.read_table(table).slice(10), known)
    expected = run("evaluate", model, known).stdout.splitlines()[1:]
    some = tmp_path / "some.parquet"
    for missing in (None, float("nan")):
        with_label(table, some, "died", [missing] * 10 + list(map(float, died[10:])))
        result = run("evaluate", model, some)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[1:] == expected
    none = with_label(table, tmp_path / "none.parquet", "died", [float("nan")] * 80)
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(table).slice(0, 0), empty)
    for file in (none, empty):
        result = run("evaluate", model, file)
        assert result.exit_code == 2
        assert "at least one sample with a label, got none" in result.stderr


@pytest.mark.slow
def test_fractional_labels_are_a_regression(table, tmp_path):
    folder = tmp_path / "cost"
    options = ("--label", "cost", "--output", folder, "--epochs", 2)
    assert run("train", table, *options, *MODALITIES).exit_code == 0
    assert Columns.load(folder).task == "regression"
    (said,) = predict_tables(PredictRequest("predict", folder, table))
    assert said.column_names == ["id", "prediction"]
    assert "rmse" in run("evaluate", folder, table).stdout
    cost = pq.read_table(table)["cost"].to_pylist()
    some = with_label(table, tmp_path / "some.parquet", "cost", [None, *cost[1:]])
    assert "rmse" in run("evaluate", folder, some).stdout


def test_labels_that_may_hold_together_are_each_predicted(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=(60, 3))
    data = MultimodalData.from_arrays({"a": y + rng.normal(size=(60, 3)) / 5}, y=y)
    data.to_parquet(tmp_path / "several.parquet")
    model = FusionClassifier(epochs=1, experts=("linear",)).fit(data)
    model.save_pretrained(tmp_path / "m")
    asked = (tmp_path / "m", tmp_path / "several.parquet")
    assert run("predict", *asked, "--output", tmp_path / "said.csv").exit_code == 0
    (said,) = predict_tables(PredictRequest("predict", *asked))
    names = [f"{kind}_{k}" for kind in ("prediction", "probability") for k in range(3)]
    assert said.column_names == ["id", *names]
    columns = np.stack([said[name].to_numpy() for name in names], axis=1)
    assert np.array_equal(columns[:, :3], model.predict(data))
    assert np.allclose(columns[:, 3:], model.predict_proba(data))


class Unsaved:
    """A model whose tensors take a moment to write."""

    def _save(self, folder, entries):
        manifest = {"estimator": "FusionClassifier", **entries}
        checkpoint.save(folder, {"w": torch.zeros(3)}, manifest)


def test_columns_survive_the_round_trip_and_damage_is_told(tmp_path):
    columns = Columns("classification", "died", {"labs": ("wbc",)}, None, "who")
    columns.save(Unsaved(), tmp_path)
    assert Columns.load(tmp_path) == Columns.stored(tmp_path) == columns
    given = json.loads((tmp_path / checkpoint.MANIFEST).read_text())["columns"]
    wrong = [{}, [], given | {"modalities": {"labs": ["wbc"], "x": [5]}}]
    for content in (*wrong, given | {"task": "other"}, given | {"label": 5}):
        manifest = {"estimator": "FusionClassifier", "columns": content}
        checkpoint.save(tmp_path, {}, manifest)
        with pytest.raises(CheckpointError, match="must have the columns as written"):
            Columns.load(tmp_path)
    with pytest.raises(
        CheckpointError, match="Check that the folder holds a saved model"
    ):
        Columns.load(tmp_path / "none")


def test_columns_of_older_formats_are_a_file_that_the_next_save_deletes(tmp_path):
    columns = Columns("classification", "died", {"labs": ("wbc",)}, None, "who")
    path, manifest = tmp_path / "columns.json", tmp_path / checkpoint.MANIFEST
    manifest.write_text('{"format": 2, "estimator": "FusionClassifier"}')
    assert Columns.load(tmp_path).label == "y"
    path.write_text(json.dumps(vars(columns)))
    assert Columns.load(tmp_path) == columns
    path.write_text("[" * 10_000)
    with pytest.raises(CheckpointError, match=r"columns\.json must be JSON"):
        Columns.load(tmp_path)
    checkpoint.save(tmp_path, {}, {"estimator": "FusionClassifier"})
    assert Columns.stored(tmp_path) is None  # the file belongs to the model before
    columns.save(Unsaved(), tmp_path)
    assert not path.exists()


def test_an_interrupted_save_leaves_the_columns_of_the_model_that_stays(
    tmp_path, monkeypatch
):
    old = Columns("classification", "died", {"labs": ("wbc",)}, None, None)
    new = Columns("classification", "icu", {"labs": ("crp",)}, None, None)
    old.save(Unsaved(), tmp_path)
    write, written = checkpoint.write_bytes, []

    def interrupt(path, content):
        written.append(path.name)
        if path.name == checkpoint.MANIFEST:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        new.save(Unsaved(), tmp_path)
    assert len(written) == 2  # weights, and columns with the manifest
    assert Columns.load(tmp_path) == old


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (FusionClassifier(epochs=1, experts=("linear",)), "accuracy"),
        (FusionRetriever(), "Recall@1"),
        (FusionMatcher(left=["a"], right=["b"]), "AUROC"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_saved_estimator_reads_what_mmgraph_wrote(estimator, said, small, tmp_path):
    estimator.fit(MultimodalData.from_parquet(small)).save_pretrained(tmp_path / "m")
    result = run("evaluate", tmp_path / "m", small)
    assert result.exit_code == 0
    assert said in result.stdout
    embeds = isinstance(estimator, FusionRetriever)
    ask = ("embed", "--model") if embeds else ("predict",)
    answers = tmp_path / "answers.parquet"
    assert run(*ask, tmp_path / "m", small, "--output", answers).exit_code == 0
    assert pq.read_table(answers).num_rows == 60


@pytest.mark.slow
def test_the_module_is_the_same_command(tmp_path):
    program = [sys.executable, "-m", "mmgraph"]
    done = subprocess.run([*program, "--version"], capture_output=True, text=True)
    assert done.stdout == f"mmgraph {mmgraph.__version__}\n"
    done = subprocess.run(
        [*program, "bench", "hart"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_the_options_of_the_command_are_those_of_the_run_file():
    import inspect

    from mmgraph.cli.bench import bench as command

    fields = set(BenchConfig.model_fields) - {"datasets", "modalities"} | {"modality"}
    assert fields <= set(inspect.signature(command).parameters)
    assert build_config(BenchConfig, {}).dataset_names == ()


def test_sequences_of_one_length_are_read_as_in_the_training(tmp_path):
    rng = np.random.default_rng(0)
    long = [rng.normal(size=3).tolist() for _ in range(70)]
    mixed = [rng.normal(size=1 + i % 4).tolist() for i in range(30)]
    paths = {"folder/0": long, "folder/1": mixed, "mixed": mixed, "one": mixed[:1]}
    (tmp_path / "folder").mkdir()
    for name, waves in paths.items():
        columns = {"wave": waves, "died": np.arange(len(waves)) % 2}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    model, waves = tmp_path / "model", ("--modality", "wave=wave")
    options = ("--label", "died", *waves, "--epochs", 1, "--output", model)
    assert run("train", tmp_path / "mixed.parquet", *options).exit_code == 0

    def ask(name):
        said = run("predict", model, tmp_path / name)
        assert said.exit_code == 0, said.stderr
        rows = [line.split(",")[1:] for line in said.stdout.splitlines()[1:]]
        return np.array(rows, dtype=float)

    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
    close(ask("one.parquet"), ask("mixed.parquet")[:1])
    close(ask("folder")[70:], ask("mixed.parquet"))
    close(ask("folder")[:70], ask("folder/0.parquet"))
    assert run("evaluate", model, tmp_path / "folder").exit_code == 0
    output = ("--output", tmp_path / "z.npy")
    assert run("embed", tmp_path / "folder", "--model", model, *output).exit_code == 0


@pytest.mark.slow
def test_a_schema_says_what_to_train(tmp_path):
    """Relations of one's own, and sequences that look like vectors at the beginning."""
    rng = np.random.default_rng(0)
    (tmp_path / "folder").mkdir()
    for name, lengths in (("0", [3] * 70), ("1", [1, 2, 5] * 10)):
        waves = [rng.normal(size=length).tolist() for length in lengths]
        columns = {"wave": waves, "age": rng.normal(size=len(lengths))}
        columns["died"] = np.arange(len(lengths)) % 2
        pq.write_table(pa.table(columns), tmp_path / "folder" / f"{name}.parquet")
    columns = ("--modality", "wave=wave", "--modality", "age=age")
    asked = ("--label", "died", *columns, "--epochs", 1, "--output", tmp_path / "m")
    refused = run("train", tmp_path / "folder", *asked)
    assert refused.exit_code == 2
    assert "a --schema" in refused.stderr

    path = tmp_path / "schema.json"
    star = run("schema", tmp_path / "folder" / "1.parquet", *columns, "--json").stdout
    path.write_text(
        star.replace(
            '"source": "age", "target": "fuse"', '"source": "age", "target": "wave"'
        )
    )
    for file in ("folder", "folder/0.parquet", "folder/1.parquet"):
        done = run("train", tmp_path / file, *asked, "--schema", path)
        assert done.exit_code == 0, done.stderr
        schema = FusionClassifier.from_pretrained(tmp_path / "m").schema_
        assert schema == Schema.from_json(path.read_text())
        assert ("age", "to", "wave") in schema.edge_types
    assert run("predict", tmp_path / "m", tmp_path / "folder").exit_code == 0
    (tmp_path / "run.json").write_text(json.dumps({"schema": str(path)}))
    done = run("train", tmp_path / "folder", *asked, "--config", tmp_path / "run.json")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("option", ["train --schema", "train --config", "schema"])
def test_json_that_is_not_utf8_is_told_in_one_line(option, small, tmp_path):
    path = tmp_path / "bin.json"
    path.write_bytes(b"\xff\x00{}")
    command, *options = option.split()
    file = (small, "--label", "y", "--output", tmp_path / "m") if options else ()
    result = run(command, *file, *options, path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "bin.json" in result.stderr
    assert "invalid start byte" in result.stderr


def test_options_of_training_are_those_of_its_run_file():
    import inspect

    from mmgraph.cli.train import train

    fields = {field.alias or name for name, field in TrainConfig.model_fields.items()}
    options = {"modalities": "modality", "encoders": "encoder", "rates": "rate"}
    options["id"] = "id_"
    fields = {options.get(name, name) for name in fields}
    assert fields == set(inspect.signature(train).parameters) - {"config"}


SAVED = Path(__file__).parents[1] / "fixtures" / "0.2"


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", SAVED / "classifier", SAVED / "data.parquet"),
        ("evaluate", SAVED / "classifier", SAVED / "data.parquet"),
        ("embed", SAVED / "data.parquet", "--model", SAVED / "classifier"),
        ("serve", SAVED / "classifier", "--port", 0),
        ("train", SAVED / "data.parquet", "--label", "y"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_devices_are_checked(arguments, tmp_path):
    if arguments[0] in ("embed", "train"):
        arguments = (*arguments, "--output", tmp_path / "out.npy")
    result = run(*arguments, "--device", "abacus")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: --device must be a device of PyTorch, such as 'cpu', got 'abacus'."
    )


@pytest.mark.slow
def test_device_of_predictions(tmp_path):
    for device in ((), ("--device", "cpu")):
        result = run("predict", SAVED / "classifier", SAVED / "data.parquet", *device)
        assert result.exit_code == 0, result.stderr
        assert (
            result.stdout.count("\n") == len(pq.read_table(SAVED / "data.parquet")) + 1
        )


def test_similar_columns_are_named(table):
    result = run("train", table, "--label", "outcome", *MODALITIES, "--output", "out")
    assert "Did you mean" not in result.stderr
    result = run("train", table, "--label", "DIED", *MODALITIES, "--output", "out")
    assert "got wbc, crp, rate, died, who, cost. Did you mean 'died'? " in result.stderr
    with pytest.raises(DataError, match=r"in: wbc, .*\. Did you mean 'crp'\?"):
        MultimodalData.from_parquet(table, modalities={"labs": ["CRP"]}, y="died")


@pytest.mark.slow
def test_shells_complete_commands():
    import os

    words = {"COMP_WORDS": "mmgraph pre", "COMP_CWORD": "1"}
    program = "from mmgraph.cli import app; app(prog_name='mmgraph')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | words | {"_MMGRAPH_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["predict"]
