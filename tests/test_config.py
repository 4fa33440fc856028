"""Run files and options: what is accepted, and what each mistake is told."""

import os

import pytest

from mmgraph.cli.options import (
    parse_encoders,
    parse_modalities,
    parse_names,
    parse_rates,
)
from mmgraph.config import SUITES, BenchConfig, TrainConfig, build_config, read_run_file
from mmgraph.errors import ConfigError


def test_rates_are_sorted_and_each_is_kept_once():
    config = build_config(BenchConfig, {"missing": (0.5, 0.0, 0.5)})
    assert config.missing == (0.0, 0.5)


def test_defaults_are_those_of_the_protocol():
    config = build_config(BenchConfig, {})
    assert config.missing == (0.0, 0.3, 0.5, 0.7)
    assert (config.train_missing, config.folds, config.seeds) == ((0.0,), 5, 3)
    assert config.jobs >= 1


def test_every_mistake_gets_one_line_with_its_path():
    values = {"missing": (0.0, 1.4), "folds": 1, "jbos": 2, "suite": "x"}
    with pytest.raises(ConfigError) as caught:
        build_config(BenchConfig, values)
    lines = str(caught.value).splitlines()
    assert lines == [
        "suite must be 'medical', 'sensor', 'all' or 'retrieval', got 'x'.",
        "missing.1 must be less than or equal to 0.95, got 1.4.",
        "folds must be greater than or equal to 2, got 1.",
        "Key 'jbos' must be one of corrupt, datasets, folds, fresh, group, jobs, "
        "label, mask_seeds, metric, missing, modalities, models, output, repeats, "
        "seeds, suite, train_missing.",
    ]


def test_required_options_are_named():
    with pytest.raises(ConfigError, match="label is required, got nothing"):
        build_config(TrainConfig, {"file": "a.parquet", "output": "out"})


def test_the_label_must_not_be_a_feature():
    values = {
        "file": "a.parquet",
        "output": "out",
        "label": "died",
        "modalities": {"labs": ("wbc", "died")},
    }
    with pytest.raises(ConfigError, match="'labs' must not contain the label 'died'"):
        build_config(TrainConfig, values)


@pytest.mark.parametrize(
    ("name", "text"),
    [("run.json", '{"folds": 3, "seeds": 2}'), ("run.toml", "folds = 3\nseeds = 2\n")],
)
def test_the_command_line_wins_over_the_run_file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    config = build_config(BenchConfig, {"seeds": 4, "folds": None}, run_file=path)
    assert (config.folds, config.seeds) == (3, 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.yaml", "folds: 3", r"must end in \.json or \.toml"),
        ("run.json", "{", "must be valid"),
        ("run.toml", "folds = ", "must be valid"),
        ("run.json", "[1]", "must contain a table of options, got list"),
    ],
)
def test_a_bad_run_file_is_told_in_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_run_file(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="Run file must exist, got"):
        read_run_file(tmp_path / "none.json")


def test_rates_may_have_commas_or_spaces():
    assert parse_rates("0,.3 .5", "--missing") == (0.0, 0.3, 0.5)
    assert parse_rates(None, "--missing") is None


def test_rates_must_be_numbers():
    with pytest.raises(ConfigError, match=r"--missing must be numbers .* got '0,a'"):
        parse_rates("0,a", "--missing")


def test_names_may_have_commas_or_spaces():
    assert parse_names("a,b c") == ("a", "b", "c")


def test_modalities_are_name_and_columns():
    found = parse_modalities(["labs=wbc, crp", "ecg=rate"])
    assert found == {"labs": ("wbc", "crp"), "ecg": ("rate",)}


@pytest.mark.parametrize("option", ["labs", "labs=", "=wbc", "labs=,"])
def test_a_modality_needs_name_and_columns(option):
    with pytest.raises(ConfigError, match="--modality must be NAME=COLUMN,COLUMN"):
        parse_modalities([option])


def test_a_modality_is_named_once():
    with pytest.raises(ConfigError, match="once, got 'labs' twice"):
        parse_modalities(["labs=a", "labs=b"])


def test_encoders_are_named_by_modality():
    found = parse_encoders(["note=a/b=c", "photo=d"])
    assert found == {"note": "a/b=c", "photo": "d"}
    assert parse_encoders(None) is None
    for option in ("note", "note=", "=a"):
        with pytest.raises(ConfigError, match="--encoder must be NAME=PATH"):
            parse_encoders([option])
    with pytest.raises(ConfigError, match="modality once, got 'note' twice"):
        parse_encoders(["note=a", "note=b"])


def test_a_suite_adds_its_sets_once():
    config = build_config(BenchConfig, {"datasets": ("heart",), "suite": "medical"})
    assert config.dataset_names == SUITES["medical"]


@pytest.mark.parametrize("name", ["run.json", "run.toml"])
@pytest.mark.parametrize("kind", ["deep", "pipe", "folder", "large", "encoding"])
def test_run_files_of_unknown_origin_are_refused(tmp_path, name, kind):
    path = tmp_path / name
    deep = 10_000 * "[" + 10_000 * "]"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "encoding":
        path.write_bytes(b"\xff\xfe")
    else:
        path.write_text(f"a={deep}" if kind == "deep" else 300_000 * " ")
    with pytest.raises(ConfigError, match=rf"^Run file '.*{name}' (must|cannot) ") as e:
        read_run_file(path)
    assert len(str(e.value).splitlines()) == 1
