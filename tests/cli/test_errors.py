"""Errors in the syntax of the command line: options instead of arguments."""

import ast
import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import mmgraph
from mmgraph import (
    FusionClassifier,
    FusionRegressor,
    FusionRetriever,
    Modality,
    MultimodalData,
    Schema,
)
from mmgraph.cli.app import app
from mmgraph.cli.errors import AS_TRAINED, EQUIVALENTS, to_cli_message
from mmgraph.config import TrainConfig, build_config
from mmgraph.errors import Argument, Code, ConfigError, DataError

PYTHON = re.compile(r"\b\w+=[\[{'(]|=None|from_|Fusion\w+\.\w|\w\(\)")
LABS = "--modality labs=wbc,crp"
TRAIN = f"train t.parquet {LABS} --output out"


def run(line):
    return CliRunner().invoke(app, line.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's table, two shards of it, a file of mmgraph, and models of each task."""
    home = tmp_path_factory.mktemp("wording")
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    wbc, crp = rng.normal(size=(2, 40)) + y
    plain = {"wbc": wbc, "crp": crp, "died": y, "cost": wbc * 1.5, "same": y * 0}
    texts = {"sex": list("mf" * 20), "note": ["x", None] * 20}
    lists = {"walk": [[1.0, 2.0]] * 40, "holes": [1.0, None] * 20}
    table = pa.table({**plain, **texts, **lists, "when": pa.array([0] * 40, "date32")})
    pq.write_table(table, home / "t.parquet")
    (home / "shards").mkdir()
    pq.write_table(table, home / "shards" / "0.parquet")
    pq.write_table(table.drop_columns("crp"), home / "shards" / "1.parquet")
    (home / "files").mkdir()
    (home / "files" / "a.txt").write_text("a")
    (home / "not.parquet").write_text("no table")
    for name, channels in (("ecg", 2), ("labs", 3)):
        text = Schema.star([Modality(name, channels)]).to_json()
        (home / {"labs": "wide.json"}.get(name, "ecg.json")).write_text(text)
    (home / "bad.json").write_text("[]")

    labs, notes = np.stack([wbc, crp], 1), ["a b", "c d"] * 20
    data = MultimodalData.from_arrays({"labs": labs, "note": notes}, y=y)
    data.to_parquet(home / "own.parquet")
    quick = {"epochs": 1, "members": 1, "experts": ("linear",)}
    FusionClassifier(**quick).fit(data).save_pretrained(home / "clf")
    FusionRegressor(**quick).fit(data, wbc).save_pretrained(home / "reg")
    FusionRetriever(epochs=1).fit(data).save_pretrained(home / "ret")
    other = MultimodalData.from_arrays({"ecg": labs}, y=y)
    other.to_parquet(home / "other.parquet")
    text = MultimodalData.from_arrays({"labs": notes}, y=y)
    text.to_parquet(home / "text.parquet")
    number = MultimodalData.from_arrays({"note": labs}, y=notes)
    number.to_parquet(home / "number.parquet")
    data.replace(y=notes).to_parquet(home / "words.parquet")
    return home


MISTAKES = {
    # what has no command, option or value
    "frobnicate": "No such command 'frobnicate'. See mmgraph --help.",
    "--frobnicate": "No such option: --frobnicate. See mmgraph --help.",
    "train --output out": "Error: file is required, got nothing.",
    f"{TRAIN} --label": "Option '--label' requires an argument.",
    f"{TRAIN} --label died --seed x": "Invalid value for '--seed': ",
    # columns
    f"{TRAIN} --label dead": "t.parquet must hold the label column 'dead', got wbc, "
    "crp, died, cost, same, sex, note, walk, holes, when. Did you mean 'died'? Name "
    "one of these by --label.",
    f"{TRAIN} --label died --group ward": "the group column 'ward', got wbc",
    f"{TRAIN} --label died --id id": "the id column 'id', got wbc",
    f"{TRAIN} --label died --group group": "the group column 'group', got wbc",
    f"{TRAIN} --label died --id same": "--id must be unique, got 0 again",
    f"{TRAIN} --label died --group holes": "--group must be known for every sample",
    f"{TRAIN}/x --label died --modality ecg=rate": "the modality column 'rate', got "
    "wbc",
    "train t.parquet --label died --output out": "t.parquet: a table that mmgraph did "
    "not write must come with the columns of each modality, got none. Give --modality "
    "labs=wbc,crp.",
    "train not.parquet --label y --output out": "must be a readable Parquet file",
    "train files --label y --output out": "files must hold Parquet files to have "
    "columns, got --label for a folder without one. Leave --label out.",
    # values of options
    f"{TRAIN}": "--label is required, got nothing; only --task retrieval and matching",
    f"{TRAIN} --label died --epochs 0": "--epochs must be greater than or equal to 1",
    f"{TRAIN} --label died --task no": "--task must be 'auto', 'classification'",
    f"{TRAIN} --label sex --task regression": "--label must hold numbers for "
    "regression, got strings. Use --task classification for classes.",
    f"{TRAIN} --label cost --task classification": "Use --task regression for numbers.",
    f"{TRAIN} --task matching": "left and right are required for matching, got none "
    "and none; name modalities of both sides with --left and --right.",
    f"{TRAIN} --task matching --left labs --right ecg": "--right must name known "
    "modalities (labs), got 'ecg'.",
    f"{TRAIN} --label died --schema no.json": "Schema file must exist, got 'no.json'",
    f"{TRAIN} --label died --schema bad.json": "Schema must be a JSON object, got list",
    f"{TRAIN} --label died --schema ecg.json": "Modality 'labs' must be in the schema, "
    "which has ecg. Check the columns in --modality and the nodes in --schema.",
    f"{TRAIN} --label died --schema wide.json": "Modality 'labs' must have 3 channels, "
    "got 2. Use the channels of the schema, or a --schema with ragged tokens.",
    f"{TRAIN} --label died --encoder labs=x": "--encoder must name modalities of text",
    f"{TRAIN} --label died --modality n=note --encoder n=no": "got neither. Give the "
    "path of its folder.",
    "bench heart --missing 2": "--missing must be less than or equal to 0.95, got 2.0.",
    "evaluate clf own.parquet --missing 2": "--missing must be rates from 0 to 1, got",
    "datasets nope": "got 'nope'. See mmgraph datasets.",
    # a model and a file that do not fit each other
    "predict clf t.parquet": "of each modality, got none. Give --modality labs=wbc",
    "predict clf other.parquet": "Modality 'ecg' must be in the schema, which has "
    f"labs, note. {AS_TRAINED}",
    "predict clf text.parquet": "Modality 'labs' must hold numbers as in the training, "
    "got strings. Check which column it is.",
    "predict clf number.parquet": "Modality 'note' must hold strings as in the "
    "training, got numbers. Check which column it is.",
    "predict clf own.parquet --encoder note=x": "--encoder must name modalities that",
    "predict clf none.parquet": "Parquet or CSV file must exist, got 'none.parquet'.",
    "embed t.parquet --model clf --output z.npy": "Give --modality labs=wbc,crp.",
    "embed other.parquet --model clf --output z.npy": "Leave it out with --only.",
    "embed own.parquet --model clf --output z.npy --only ecg": "--only must name known "
    "modalities (labs, note), got 'ecg'.",
    "embed own.parquet --model none --output z.npy": "Model folder must exist",
    "evaluate clf t.parquet": "must hold the label column 'y', got wbc",
    "evaluate reg words.parquet": "Labels must be numbers for a "
    "regression model, got strings. Give other labels by --label.",
    # searching and exporting
    "index own.parquet --model ret --output f --only ecg": "--only must name known",
    "index own.parquet --model ret --output f --kind no": "--kind must be one of",
    "index own.parquet --model ret --output f --picture p": "must have the image "
    "column 'p', got id, y, labs, note. Name one of these by --picture.",
    "index own.parquet --model ret --output f --picture y": "must hold paths, got int",
    "index files --model ret --output f --picture p": "Leave --picture out.",
    "index files --model ret --output f --id p": "Leave --id out.",
    "search x --index f --page no/p.html": "Output must be in a folder that exists",
    "schema own.parquet --output no/p.svg": "Output must be in a folder that exists",
    "export clf --output no/m.onnx": "Output must be in a folder that exists",
    "export none --output m.onnx": "Model folder must exist, got 'none'.",
    "export ret --output m.onnx": "mmgraph predict, embed or search.",
    "bench heart --output not.parquet": "Output must be a folder, got the file",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_that_names_options(line, home, monkeypatch):
    if "--encoder" in line:
        pytest.importorskip("transformers")
    monkeypatch.chdir(home)
    result = run(line)
    assert result.exit_code == 2, result.output
    assert MISTAKES[line] in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not PYTHON.search(result.stderr)
    assert not (home / "out").exists()
    assert not (home / "f").exists()


def test_columns_that_are_not_needed_may_be_missing(home, monkeypatch, tmp_path):
    monkeypatch.chdir(home)
    line = f"train t.parquet {LABS} --output {tmp_path / 'm'} --label died --epochs 1"
    assert run(line).exit_code == 0
    output = run(f"predict {tmp_path / 'm'} t.parquet").stdout
    assert [row.split(",")[0] for row in output.splitlines()[:3]] == ["id", "0", "1"]


def test_an_index_that_failed_can_be_made_again(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "ret", "ret")
    line = f"index {home / 'own.parquet'} --model ret --output f"
    assert run(f"{line} --picture no").exit_code == 2
    assert run(line).exit_code == 0


def test_each_error_of_a_run_file_is_a_line_with_its_option():
    with pytest.raises(ConfigError) as caught:
        build_config(
            TrainConfig,
            {
                "file": "t.csv",
                "output": "m",
                "label": "y",
                "epochs": 0,
                "seed": -1,
                "foo": 1,
            },
        )
    lines = to_cli_message(caught.value, {"--epochs", "--seed"}).splitlines()
    assert [line.split(" must")[0] for line in lines] == [
        "--seed",
        "--epochs",
        "Key 'foo'",
    ]
    assert str(caught.value).startswith(
        "seed must be greater than or equal to 0, got -1."
    )


TWO = Argument("modalities", {"a": ["b", "c"], "d": "e"})


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        (("Give ", TWO, "."), "Give --modality a=b,c --modality d=e."),
        (
            ("Give ", Argument("y", "died"), ", or ", Argument("y", None), "."),
            "Give --label died, or no --label.",
        ),
        (("Name it in ", Argument("y"), "."), "Name it in --label."),
        (("Pass ", Argument("times", {"a": [0.0]}), "."), AS_TRAINED),
        (("Leave it out with ", Code("select"), "."), AS_TRAINED),
        ("Convert it first.", "Convert it first."),
        ("Set y=1.", "Set y=1."),
        ("", ""),
    ],
)
def test_arguments_of_a_remedy_become_options(remedy, expected):
    error = DataError("It is wrong.", remedy)
    message = to_cli_message(error, {"--modality", "--label"})
    assert message == f"It is wrong. {expected}".rstrip()


@pytest.mark.parametrize(
    ("fault", "parameter", "expected"),
    [
        ("ids must be known.", "ids", "--id must be known."),
        ("ids must be known.", "", "ids must be known."),
        ("groups must be known.", "groups", "groups must be known."),
        ("present['id'] must be bool.", "id", "present['id'] must be bool."),
    ],
)
def test_the_parameter_of_a_fault_becomes_an_option(fault, parameter, expected):
    error = DataError(fault, parameter=parameter)
    assert to_cli_message(error, {"--id"}) == expected


def test_every_class_and_function_of_a_remedy_has_an_equivalent():
    calls = [
        node
        for path in Path(mmgraph.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Code"
    ]
    assert {call.args[0].value for call in calls} == set(EQUIVALENTS)


def test_an_error_keeps_its_parts_when_it_is_located_and_copied():
    error = DataError("y is wrong.", "Correct it.", parameter="y")
    located = DataError.inside("a.parquet", error)
    again = copy.copy(DataError.inside("folder", located))
    assert str(located) == "a.parquet: y is wrong. Correct it."
    assert str(again) == "folder: a.parquet: y is wrong. Correct it."
    assert (again.fault, again.remedy) == ("y is wrong.", "Correct it.")
    assert to_cli_message(again, ()) == str(again)
    assert to_cli_message(again, {"--label"}) == (
        "folder: a.parquet: --label is wrong. Correct it."
    )
