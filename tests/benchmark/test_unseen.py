"""Sets that played no part: cut by meaning, no label among the columns, end to end."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine
from unseen import read_arguments, write_sets
from unseen_sets import SETS, blocks, channels_of, encode, join, read_csv, steps_of

from mmgraph import MultimodalData
from mmgraph.benchmark.results import Results
from mmgraph.benchmark.summary import summarise
from mmgraph.datasets.load import dataset_names

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "unseen.py"
OUTCOMES = {"time", "lenfol", "los", "t.tdm", "e.tdm", "affairs", "y", "class"}


def call(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_several_modalities_and_no_column_twice(name):
    found = SETS[name]
    fields = [field for group in found.modalities.values() for field in group]
    assert 3 <= len(found.modalities) <= 4
    assert all(found.modalities.values())
    assert len(set(fields)) == len(fields)
    assert found.label not in fields
    assert not OUTCOMES & set(fields)


def test_no_set_is_one_of_the_benchmark_and_small_ones_come_first():
    sizes = [found.num_samples for found in SETS.values()]
    assert sizes == sorted(sizes)
    assert not set(SETS) & set(dataset_names())


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_here_has_the_samples_that_the_table_says(name):
    if SETS[name].folder() is None:
        pytest.skip(f"{SETS[name].package} is not installed")
    data = SETS[name].load()
    assert len(data) == SETS[name].num_samples
    assert data.modalities == tuple(SETS[name].modalities)
    assert data.present.all()


def test_wine_becomes_four_modalities_that_keep_its_numbers():
    data, raw = SETS["wine"].load(), load_wine()
    widths = {name: column.channels for name, column in data.columns.items()}
    assert widths == {"body": 3, "minerals": 3, "phenols": 4, "colour": 3}
    names = [name for group in SETS["wine"].modalities.values() for name in group]
    assert sorted(names) == sorted(raw.feature_names)
    order = [raw.feature_names.index(name) for name in names]
    values = np.hstack([column.values for column in data.columns.values()])
    assert np.array_equal(values, raw.data[:, order].astype(np.float32))
    assert np.array_equal(data.y, raw.target_names[raw.target])


def test_no_column_of_wine_is_the_label():
    data = SETS["wine"].load()
    codes = np.unique(data.y, return_inverse=True)[1]
    for column in data.columns.values():
        for channel in column.values.T:
            assert len(np.unique(channel)) > len(np.unique(codes))


def test_texts_become_indicators_and_unknown_ones_nan():
    (two,) = encode(np.array(["no", "yes", "no"]))
    assert two.tolist() == [0, 1, 0]
    three = np.array(encode(np.array(["b", None, "a", "c"], dtype=object)))
    assert np.isnan(three[:, 1]).all()
    assert three[:, [0, 2, 3]].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    numbers = np.array([1.0, 2.0])
    assert encode(numbers)[0] is numbers


def test_cells_that_are_empty_are_unknown(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a;b\n1;x\n;NA\n", encoding="utf-8")
    columns = read_csv(path, delimiter=";")
    assert columns["b"].tolist() == ["x", None]
    assert np.isnan(columns["a"][1])


def test_series_become_steps_or_channels(tmp_path):
    folder = tmp_path / "datasets" / "data" / "Small"
    folder.mkdir(parents=True)
    for part, text in (("TRAIN", "1,2:3,4:a\n"), ("TEST", "5,6:7,8:b\n\n")):
        (folder / f"Small_{part}.ts").write_text(f"@x\n@data\n{text}", "utf-8")
    steps = steps_of("Small")(tmp_path)
    assert steps["class"].tolist() == ["a", "b"]
    assert join([steps["0"], steps["1"]]).tolist() == [[1, 2], [5, 6]]
    channels = channels_of("Small")(tmp_path)
    sequences = join([channels["0"], channels["1"]])
    assert [s.tolist() for s in sequences] == [[[1, 3], [2, 4]], [[5, 7], [6, 8]]]


def test_blocks_keep_the_order_and_all_columns():
    found = blocks(3, list("abcdefg"), "x")
    assert found == {"x_1": ("a", "b", "c"), "x_2": ("d", "e"), "x_3": ("f", "g")}


def test_a_set_that_is_not_here_is_skipped_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unseen_sets.UnseenSet.folder", lambda _: None)
    assert write_sets(["whas500"], tmp_path) == []
    told = capsys.readouterr().out
    assert "Skipped whas500: scikit-survival is not installed" in told
    assert "pip install --no-deps --target runs/packages scikit-survival" in told


def test_an_unknown_set_is_refused(capsys):
    with pytest.raises(SystemExit):
        read_arguments(["wines"])
    assert "SET must be one of khan" in capsys.readouterr().err


@pytest.mark.slow
def test_help_has_an_example():
    done = call("--help")
    assert done.returncode == 0, done.stderr
    assert "python benchmarks/unseen.py --packages runs/packages" in done.stdout


@pytest.mark.long
def test_two_folds_of_wine_run_and_go_on_where_they_were(tmp_path):
    quick = ("wine", "--data", tmp_path / "data", "--output", tmp_path / "out")
    quick += ("--folds", 2, "--missing", 0, 0.5, "--train-missing", 0)
    models = ("--models", "mean_logistic", "late_logistic")
    done = call(*quick, *models)
    assert done.returncode == 0, done.stderr
    assert "[4/4] wine.parquet late_logistic r0f1" in done.stdout
    results = Results(tmp_path / "out")
    (block,) = summarise(results)
    assert {row.model for row in block.rows} == {"mean_logistic", "late_logistic"}
    assert (block.dataset, block.num_splits) == ("wine.parquet", 2)
    assert {"commit", "versions", "plan_hash"} <= set(results.lines()[0])
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "Made by `python benchmarks/unseen.py wine" in table
    data = MultimodalData.from_parquet(tmp_path / "data" / "wine.parquet")
    assert len(data) == SETS["wine"].num_samples
    again = call(*quick, *models)
    assert "[1/" not in again.stdout
    assert len(Results(tmp_path / "out").lines()) == len(results.lines())
