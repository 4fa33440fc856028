"""Data sets as files that the other commands can read."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import ConfigError, DataError, MultimodalData, load_dataset
from mmgraph.cli.app import app
from mmgraph.workflows.datasets import card_text, write_dataset


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


def test_a_written_data_set_is_the_data_set(tmp_path):
    assert write_dataset("heart", tmp_path / "heart.parquet") == 920
    data = MultimodalData.from_parquet(tmp_path / "heart.parquet")
    heart = load_dataset("heart")
    assert data.modalities == heart.modalities
    np.testing.assert_array_equal(data.y, heart.y)
    np.testing.assert_array_equal(data.groups, heart.groups)
    for name, table in heart.features().items():
        np.testing.assert_array_equal(data.features()[name], table)


def test_a_data_set_is_written_by_its_name_and_shown_without_get(tmp_path):
    file = tmp_path / "heart.parquet"
    result = run("datasets", "get", "heart", "--output", file)
    assert result.stdout == f"920 samples: {file}\n"
    assert file.is_file()
    assert run("datasets", "heart").stdout.strip() == card_text("heart").strip()


def test_the_default_file_has_the_name_of_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("datasets", "get", "synergy")
    assert (tmp_path / "synergy.parquet").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("get",), "datasets get must be given a name"),
        (("heart", "wesad"), "must be given get NAME to write a file, got heart wesad"),
        (("heart", "--output", "x.parquet"), "must be given get NAME"),
        (("get", "hart"), "Did you mean 'heart'?"),
    ],
)
def test_mistakes_are_named_in_one_line(words, message):
    result = run("datasets", *words, code=2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_formats_and_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in .*parquet, got .*heart\.csv"):
        write_dataset("heart", tmp_path / "heart.csv")
    with pytest.raises(DataError, match="name must be one of"):
        write_dataset("hart", tmp_path / "hart.parquet")


@pytest.mark.slow
def test_commands_of_the_help_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("datasets", "get", "heart", "--output", "heart.parquet")
    train = ("train", "heart.parquet", "--label", "y", "--output", "heart_model")
    assert "Task: classification" in run(*train, "--epochs", 1).stdout
    run("predict", "heart_model", "heart.parquet", "--output", "p.csv")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 921
    run("evaluate", "heart_model", "heart.parquet", "--missing", 0, 0.5)
    run("embed", "heart.parquet", "--model", "heart_model", "--output", "z.parquet")
