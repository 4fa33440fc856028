"""Where the benchmark gets its data from, and how each set is split."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph.benchmark.pairs import PAIR_TASKS, PairTask
from mmgraph.benchmark.protocol import BenchData, Scheme
from mmgraph.config import BenchConfig, as_sources, is_file
from mmgraph.data import MultimodalData
from mmgraph.data.targets import missing_labels
from mmgraph.errors import DataError

LARGE = 2000  # from this size on, an official split replaces cross-validation
OFFICIAL = frozenset({"utd_mhad"})  # small, but published results use its split
GROUPED = frozenset({"wesad", "tuxpaint"})  # neighbours in a group would leak

FEW_SHOT = {"mfeat20": ("mfeat", 20)}  # a set with few training samples of each class


def open_bench_data(name: str, config: BenchConfig) -> BenchData:
    """Load a data set by name, or a Parquet file of one's own.

    Samples without a label are left out.

    Raises:
        DataError: If it is unknown, not here, has no label, is no
            classification, or is too small for the folds.
    """
    if name in PAIR_TASKS:
        return _open_pairs(name, PAIR_TASKS[name], config)
    if is_file(name):
        data, card = _open_file(name, config)
    else:
        data, card = _open_named(name)
    data = _labelled(name, data)
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    scheme = choose_scheme(data, card, config)
    _check_size(name, data, codes, classes, scheme)
    return BenchData(name, data, codes, classes, scheme, digest(data), card)


def _open_file(path: str, config: BenchConfig) -> tuple[MultimodalData, dict[str, Any]]:
    if not Path(path).is_file():
        raise DataError(f"Parquet or CSV file must exist, got '{path}'.")
    modalities = as_sources(config.modalities)
    asked = {"modalities": modalities, "y": config.label, "groups": config.group}
    given: dict[str, Any] = {k: v for k, v in asked.items() if v is not None}
    data = MultimodalData.from_parquet(path, **given)
    grouped = data.groups is not None
    return data, {"title": Path(path).name, "grouped": grouped, "official": False}


def _open_named(name: str) -> tuple[MultimodalData, dict[str, Any]]:
    from mmgraph.datasets.load import dataset_card, load_dataset

    source, per_class = FEW_SHOT.get(name, (name, None))
    card = dataset_card(source)
    title = f"{card.title}, {per_class} training samples per class"
    facts = {
        "title": title if per_class else card.title,
        "license": card.license,
        "origin": card.origin,
        "metric": card.metric,
        "grouped": name in GROUPED,
        "official": name in OFFICIAL,
        "per_class": per_class,
    }
    return load_dataset(source), facts


def _open_pairs(name: str, task: PairTask, config: BenchConfig) -> BenchData:
    """Open a data set for retrieval or matching; samples need no label."""
    from mmgraph.datasets.load import dataset_card, find_mirror
    from mmgraph.datasets.mirrors import from_mirror

    data, card = _open_named(task.dataset)
    if task.conversion is not None:
        data = from_mirror(task.conversion, find_mirror(dataset_card(task.dataset)))
    scheme = Scheme("held-out", config.folds, 1)
    if data.split_name is not None:
        scheme = Scheme("official", 1, config.seeds)
    card |= {"metric": task.metric, "note": task.note}
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    return BenchData(name, data, codes, classes, scheme, digest(data), card, task)


def _labelled(name: str, data: MultimodalData) -> MultimodalData:
    if data.y is None:
        raise DataError(
            f"Data set '{name}' must have labels, got none.",
            "Name their column by y='label'.",
        )
    if data.y.ndim != 1 or _is_fractional(data.y):
        raise DataError(
            f"Data set '{name}' must have one class per sample to be benchmarked, "
            f"got labels of shape {data.y.shape} and type {data.y.dtype}."
        )
    missing = missing_labels(data.y)
    return data[np.flatnonzero(~missing)] if missing.any() else data


def _is_fractional(y: np.ndarray) -> bool:
    if y.dtype.kind != "f":
        return False
    known = y[np.isfinite(y)]
    return bool((known != np.round(known)).any())


def choose_scheme(
    data: MultimodalData, card: dict[str, Any], config: BenchConfig
) -> Scheme:
    """Return how `data` is split.

    The official split where there is one and the set is large or published with
    it; cross-validation otherwise, grouped where samples of a group are near
    copies of each other. Groups of a file of the user's own are always kept whole.
    """
    official, few = data.split_name, card.get("per_class")
    if official is not None and (len(data) >= LARGE or card["official"]):
        return Scheme("official", 1, config.seeds, few)
    if card["grouped"] and data.groups is not None:
        return Scheme("grouped", config.folds, config.repeats, few)
    return Scheme("stratified", config.folds, config.repeats, few)


def _check_size(
    name: str,
    data: MultimodalData,
    codes: np.ndarray,
    classes: np.ndarray,
    scheme: Scheme,
) -> None:
    if len(classes) < 2:
        raise DataError(
            f"Data set '{name}' must have at least 2 classes, got {len(classes)}."
        )
    if scheme.kind == "official":
        return
    counts = np.bincount(codes)
    if scheme.kind == "stratified" and counts.min() < scheme.folds:
        raise DataError(
            f"Data set '{name}' must have at least {scheme.folds} samples of each "
            f"class for {scheme.folds} folds, got {counts.min()} of class "
            f"{classes[counts.argmin()]!s}; use fewer --folds."
        )
    if scheme.kind == "grouped":
        num_groups = len(np.unique(np.asarray(data.groups)))
        if num_groups < scheme.folds:
            raise DataError(
                f"Data set '{name}' must have at least {scheme.folds} groups for "
                f"{scheme.folds} folds, got {num_groups}; use fewer --folds."
            )


def digest(data: MultimodalData) -> str:
    """Return the SHA-256 of all content: values, times, labels and groups."""
    sha = hashlib.sha256()
    for name, column in data.columns.items():
        sha.update(f"{name}{column.values.shape}".encode())
        for array in (column.values, column.offsets, column.time):
            sha.update(_bytes(array))
    for array in (data.y, data.groups, data.split_name):
        sha.update(_bytes(array))
    return sha.hexdigest()


def _bytes(array: np.ndarray | None) -> bytes:
    if array is None:
        return b"-"
    if array.dtype.kind in "OUS":
        return "\x1f".join(map(str, array.ravel().tolist())).encode()
    return np.ascontiguousarray(array).tobytes()
