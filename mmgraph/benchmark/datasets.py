"""Data sets of the benchmark, and the scheme each one is split by."""

from pathlib import Path
from typing import Any

import numpy as np

from mmgraph.benchmark.pairs import PAIR_TASKS, PairTask
from mmgraph.benchmark.protocol import BenchData, Scheme
from mmgraph.config import BenchConfig, as_sources, is_file
from mmgraph.data import MultimodalData
from mmgraph.data.targets import missing_labels
from mmgraph.errors import Argument, DataError

LARGE = 2000  # samples from which an official split replaces cross-validation
OFFICIAL = frozenset({"utd_mhad"})  # small, but published results use its split
GROUPED = frozenset({"wesad", "tuxpaint"})  # samples of a group are near copies

FEW_SHOT = {"mfeat20": ("mfeat", 20)}  # data set and training samples per class


def open_bench_data(name: str, config: BenchConfig) -> BenchData:
    """Load a data set by name, or a Parquet or CSV file by path.

    Samples without a label are left out.

    Raises:
        DataError: If the data set is unknown or not on this machine, has no label or
            no classes, or is too small for the folds.
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
    return BenchData(name, data, codes, classes, scheme, data.fingerprint, card)


def _open_file(path: str, config: BenchConfig) -> tuple[MultimodalData, dict[str, Any]]:
    if not Path(path).is_file():
        raise DataError(f"Parquet or CSV file must exist, got '{path}'.")
    modalities = as_sources(config.modalities)
    columns = {"modalities": modalities, "y": config.label, "groups": config.group}
    given: dict[str, Any] = {k: v for k, v in columns.items() if v is not None}
    data = MultimodalData.from_parquet(path, **given)
    grouped = data.groups is not None
    facts = {"title": Path(path).name, "grouped": grouped, "official": False}
    return data, facts | {"group": config.group}


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
        "group": card.group,
        "grouped": name in GROUPED,
        "official": name in OFFICIAL,
        "per_class": per_class,
    }
    return load_dataset(source), facts


def _open_pairs(name: str, task: PairTask, config: BenchConfig) -> BenchData:
    """Load a data set for retrieval or matching; samples need no label."""
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
    return BenchData(name, data, codes, classes, scheme, data.fingerprint, card, task)


def _labelled(name: str, data: MultimodalData) -> MultimodalData:
    if data.y is None:
        raise DataError(
            f"Data set '{name}' must have labels, got none.",
            ("Name their column by ", Argument("y", "label"), "."),
        )
    if data.y.ndim != 1 or _is_fractional(data.y):
        raise DataError(
            f"Data set '{name}' must have one class per sample to be benchmarked, got "
            f"labels of shape {data.y.shape} and type {data.y.dtype}. Choose a column "
            "of classes."
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
    """Return the scheme that a data set is split by.

    The official split if there is one and the data set is large or published results
    use it; cross-validation otherwise. Folds keep groups together where samples of a
    group are near copies of each other, and always for files given by path; elsewhere
    groups are ignored.
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
            f"Data set '{name}' must have at least 2 classes, got {len(classes)}. "
            "Choose another label."
        )
    if scheme.kind == "official":
        return
    counts = np.bincount(codes)
    if scheme.kind == "stratified" and counts.min() < scheme.folds:
        raise DataError(
            f"Data set '{name}' must have at least {scheme.folds} samples of each "
            f"class for {scheme.folds} folds, got {counts.min()} of class "
            f"{classes[counts.argmin()]!s}. Use fewer --folds."
        )
    if scheme.kind == "grouped":
        num_groups = len(np.unique(np.asarray(data.groups)))
        if num_groups < scheme.folds:
            raise DataError(
                f"Data set '{name}' must have at least {scheme.folds} groups for "
                f"{scheme.folds} folds, got {num_groups}. Use fewer --folds."
            )
