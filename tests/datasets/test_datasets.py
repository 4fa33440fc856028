"""Dataset cards and shipped data sets."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmgraph.datasets.cards import DatasetCard
from mmgraph.datasets.load import (
    check_data,
    dataset_card,
    dataset_folder,
    dataset_names,
    load_dataset,
    read_shipped,
)
from mmgraph.errors import DataError

SHIPPED = ("basic_motions", "heart", "mfeat")
MIRRORED = (
    "grid_av",
    "kiba",
    "nlvr",
    "phone_watch_har",
    "physionet2012",
    "shapes_vqa",
    "snare_seq",
    "snpcc",
    "spoken_digits",
    "tuxpaint",
    "utd_mhad",
    "wesad",
    "wikipedia",
)
CONTROLS = ("redundant", "shortcut", "spurious", "synergy")
DATASETS = Path(__file__).parents[2] / "datasets"


def test_names_are_sorted_and_complete() -> None:
    assert dataset_names() == tuple(sorted(SHIPPED + MIRRORED + CONTROLS))


@pytest.mark.parametrize("name", SHIPPED + MIRRORED + CONTROLS)
def test_card_is_complete(name: str) -> None:
    card = dataset_card(name)
    assert card.name == name
    assert card.task == "classification"
    assert card.metric in {"accuracy", "auroc", "macro_f1"}
    assert len(card.classes) == len(set(card.classes)) > 1
    assert all((card.title, card.license, card.origin, card.citation))
    assert len(card.modalities) > 1
    assert all(0 <= m.missing < 1 and m.meaning for m in card.modalities)
    assert card.split is None or sum(card.split.values()) == card.num_samples
    assert card.shipped == (name not in MIRRORED)
    assert (card.sha256 is not None) == (name in SHIPPED)
    assert (card.mirror is not None) == (name in MIRRORED)


@pytest.mark.parametrize("name", SHIPPED + MIRRORED)
def test_card_describes_origin_license_and_traps(name: str) -> None:
    text = (DATASETS / name / "card.md").read_text("utf-8")
    for part in ("What it is", "Who made it", "License", "How it was", "Known traps"):
        assert f"\n## {part}" in text


def test_heart_card_names_the_principal_investigators() -> None:
    for person in ("Janosi", "Steinbrunn", "Pfisterer", "Detrano"):
        assert person in dataset_card("heart").citation


@pytest.mark.parametrize("name", MIRRORED)
def test_sets_that_may_not_be_shared_are_not_in_the_checkout(name: str) -> None:
    files = {path.name for path in (DATASETS / name).iterdir() if path.is_file()}
    assert files == {"card.md", "prepare.py"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# no block", "must begin with a fenced ```json block"),
        ("```json\n{]\n```", "must hold the fields of DatasetCard"),
        ('```json\n{"name": "x"}\n```', "must hold the fields of DatasetCard"),
        ('```json\n{"modalities": [], "classes": []}\n```', "fields of DatasetCard"),
        ("```json\n[]\n```", "must hold the fields of DatasetCard"),
    ],
)
def test_a_damaged_card_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DatasetCard.from_markdown(text)


def test_an_unknown_name_suggests_a_similar_one() -> None:
    with pytest.raises(DataError, match=r"got 'hart'\. Did you mean 'heart'"):
        load_dataset("hart")
    with pytest.raises(DataError, match="name must be one of basic_motions, grid_av"):
        dataset_card("qqqq")


def test_card_blocks_are_plain_json() -> None:
    text = (DATASETS / "heart" / "card.md").read_text("utf-8")
    block = text.split("```json\n", 1)[1].split("```", 1)[0]
    assert json.loads(block)["num_samples"] == 920


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_data_agree_with_their_card(name: str) -> None:
    card, data = dataset_card(name), load_dataset(name)
    content = (dataset_folder(name) / "data.parquet").read_bytes()
    assert hashlib.sha256(content).hexdigest() == card.sha256
    assert data.shape == (card.num_samples, len(card.modalities))
    assert data.modalities == tuple(m.name for m in card.modalities)
    for modality, declared in zip(data.schema.modalities, card.modalities, strict=True):
        assert modality.channels == declared.channels
        assert modality.kind == declared.kind
        assert modality.tokens == declared.tokens
        assert modality.time == declared.time
    assert len(np.unique(data.y)) == len(card.classes)


def test_heart_has_its_natural_missingness_and_hospitals() -> None:
    data = load_dataset("heart")
    missing = 1 - data.present.mean(axis=0)
    assert missing == pytest.approx([0, 0, 0.087, 0.0587, 0.6641, 0.5283], abs=5e-5)
    assert set(data.groups) == {"Cleveland", "Hungary", "Switzerland", "VA Long Beach"}
    assert np.bincount(data.y).tolist() == [411, 509]
    assert data.columns["history"].names[:2] == ("age", "sex")
    cholesterol = data.columns["lab"].values[:, 0]
    assert np.isnan(cholesterol).any()
    assert np.nanmin(cholesterol) > 0


def test_basic_motions_has_times_and_the_split_of_the_archive() -> None:
    data = load_dataset("basic_motions")
    acc = data.columns["acc"]
    assert acc.lengths.tolist() == [100] * 80
    np.testing.assert_allclose(acc.time[:100], np.arange(100) / 10)
    assert (data.split_name == "train").tolist() == [True] * 40 + [False] * 40
    assert set(data.y) == set(dataset_card("basic_motions").classes)
    assert acc.values[0] == pytest.approx([0.079106, 0.394032, 0.551444])


def test_a_modified_file_is_an_error(tmp_path: Path) -> None:
    shutil.copy(dataset_folder("heart") / "data.parquet", tmp_path)
    read_shipped(dataset_card("heart"), tmp_path)
    file = tmp_path / "data.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"'heart': .* must have SHA-256"):
        read_shipped(dataset_card("heart"), tmp_path)


def test_absent_parquet_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python datasets/heart/prepare\.py"):
        read_shipped(dataset_card("heart"), tmp_path)


def test_data_that_differ_from_the_card_are_errors() -> None:
    card, data = dataset_card("heart"), load_dataset("heart")
    with pytest.raises(DataError, match=r"num_samples must be 920 .* got 919"):
        check_data(card, data[1:])
    with pytest.raises(DataError, match="modalities must be"):
        check_data(card, data.select(["lab"]))
    with pytest.raises(DataError, match="groups must be True"):
        check_data(card, data.replace(groups=None))
    with pytest.raises(DataError, match="split must be None"):
        check_data(card, data.replace(split_name=np.full(len(data), "train")))
