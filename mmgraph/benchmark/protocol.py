"""The protocol of the benchmark: splits, mask plans and units of work.

Everything here follows from the data, the options and fixed seeds, so that
every model gets the same splits and the same masks, in whatever process.
Letters: `N` samples, `M` modalities, `K` classes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmgraph.config import BenchConfig
from mmgraph.data import MultimodalData
from mmgraph.data.labels import missing_labels
from mmgraph.errors import DataError
from mmgraph.missing import MaskPlan, leave_out, mcar, natural

LARGE = 2000  # from this size on, an official split replaces cross-validation
OFFICIAL = frozenset({"utd_mhad"})  # small, but published results use its split
GROUPED = frozenset({"wesad", "tuxpaint"})  # neighbours in a group would leak

FEW = {"mfeat20": ("mfeat", 20)}  # a set with few training samples of each class


@dataclass(frozen=True)
class Scheme:
    """How a data set is split.

    Attributes:
        kind: "stratified" or "grouped" cross-validation, or "official".
        folds: Folds; 1 for an official split.
        repeats: Repeats; training seeds for an official split.
        per_class: Training samples kept of each class; None keeps all.
    """

    kind: Literal["stratified", "grouped", "official"]
    folds: int
    repeats: int
    per_class: int | None = None

    def __str__(self) -> str:
        few = f", {self.per_class} training samples a class" if self.per_class else ""
        if self.kind == "official":
            return f"official split, {self.repeats} seeds{few}"
        repeats = f", repeated {self.repeats} times" if self.repeats > 1 else ""
        return f"{self.folds} {self.kind} folds{repeats}{few}"

    def split_name(self, number: int) -> str:
        """Return the name of a split by its position."""
        if self.kind == "official":
            return f"seed{number}"
        return f"r{number // self.folds}f{number % self.folds}"


@dataclass(frozen=True)
class Split:
    """One division of the samples.

    Attributes:
        name: For example "r0f3" (repeat 0, fold 3) or "seed2".
        number: Position among the splits; seeds of masks derive from it.
        train: Row numbers, int [N_train].
        test: Row numbers, int [N_test].
    """

    name: str
    number: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Pattern:
    """One state of the test data that a fitted model is scored on.

    Attributes:
        test_missing: Nominal rate; None for leave-one-out.
        plan: Which modalities each test sample keeps.
        left_out: The modality that is left out, else None.
    """

    test_missing: float | None
    plan: MaskPlan
    left_out: str | None = None

    @property
    def identity(self) -> tuple[str, int]:
        """Name of the pattern and seed of its plan."""
        return self.plan.pattern, self.plan.seed


@dataclass(frozen=True)
class BenchData:
    """A data set made ready for the benchmark.

    Attributes:
        name: As asked for.
        data: Samples that have a label.
        codes: Class of each sample, int [N], from 0.
        classes: Labels in the order of the codes, [K].
        scheme: How it is split.
        digest: SHA-256 of the content, hex.
        card: What is known about it, as plain values.
    """

    name: str
    data: MultimodalData
    codes: np.ndarray
    classes: np.ndarray
    scheme: Scheme
    digest: str
    card: dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One fit: a model on the training part of one split at one train rate."""

    dataset: str
    model: str
    train_missing: float
    scheme: Scheme
    split: int
    rates: tuple[float, ...]
    mask_seeds: int

    @property
    def split_name(self) -> str:
        """Name of its split."""
        return self.scheme.split_name(self.split)

    def __str__(self) -> str:
        rate = f" train {self.train_missing:g}" if self.train_missing else ""
        return f"{self.dataset} {self.model}{rate} {self.split_name}"


def open_bench_data(name: str, config: BenchConfig) -> BenchData:
    """Load a data set by name, or a Parquet file with a column "y".

    Samples without a label are left out.

    Raises:
        DataError: If it is unknown, not here, has no label, is no
            classification, or is too small for the folds.
    """
    if name.endswith(".parquet"):
        data, card = _open_file(name)
    else:
        data, card = _open_named(name)
    data = _labelled(name, data)
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    scheme = choose_scheme(data, card, config)
    _check_size(name, data, codes, classes, scheme)
    return BenchData(name, data, codes, classes, scheme, digest(data), card)


def _open_file(path: str) -> tuple[MultimodalData, dict[str, Any]]:
    if not Path(path).is_file():
        raise DataError(f"Parquet file must exist, got '{path}'.")
    data = MultimodalData.from_parquet(path)
    grouped = data.groups is not None
    return data, {"title": Path(path).name, "grouped": grouped, "official": False}


def _open_named(name: str) -> tuple[MultimodalData, dict[str, Any]]:
    from mmgraph.datasets.load import dataset_card, load_dataset

    source, per_class = FEW.get(name, (name, None))
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


def _labelled(name: str, data: MultimodalData) -> MultimodalData:
    if data.y is None:
        raise DataError(
            f"Data set '{name}' must have labels, got none; add a column 'y'."
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


def make_splits(bench: BenchData) -> tuple[Split, ...]:
    """Return the splits of a data set, the same in every process.

    Repeat `r` of a cross-validation shuffles with seed `r`. An official split
    is the same samples each time; only the seed of the model differs.
    """
    scheme = bench.scheme
    if scheme.kind == "official":
        names = np.asarray(bench.data.split_name)
        train, test = (np.flatnonzero(names == part) for part in ("train", "test"))
        return tuple(
            Split(scheme.split_name(seed), seed, _few(train, bench, seed), test)
            for seed in range(scheme.repeats)
        )
    return tuple(
        Split(scheme.split_name(number), number, _few(train, bench, number), test)
        for number, (train, test) in enumerate(_folds(bench))
    )


def _few(train: np.ndarray, bench: BenchData, seed: int) -> np.ndarray:
    """Return as many training rows of each class as the scheme keeps, in order."""
    if bench.scheme.per_class is None:
        return train
    shuffled = np.random.default_rng(seed).permutation(train)
    codes = bench.codes[shuffled]
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    first = np.arange(len(order)) - starts < bench.scheme.per_class
    return np.sort(shuffled[order[first]])


def _folds(bench: BenchData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedGroupKFold if bench.scheme.kind == "grouped" else StratifiedKFold
    rows = np.zeros(len(bench.data))
    for repeat in range(bench.scheme.repeats):
        folds = kind(bench.scheme.folds, shuffle=True, random_state=repeat)
        groups = bench.data.groups if bench.scheme.kind == "grouped" else None
        yield from folds.split(rows, bench.codes, groups)


def train_plan(train: MultimodalData, rate: float, split: Split) -> MaskPlan:
    """Return which modalities the training samples keep at a train rate."""
    return (mcar(rate) if rate else natural()).plan(train, seed=split.number)


def scored_patterns(
    test: MultimodalData, rates: tuple[float, ...], seeds: int, split: Split
) -> tuple[Pattern, ...]:
    """Return all states of the test data, in a fixed order.

    Rate 0 is the data as it is. Every other rate comes with `seeds` masks.
    Then each modality in turn is left out, where there is more than one.
    """
    first = 1000 * split.number
    patterns = [Pattern(0.0, natural().plan(test, seed=first))] if 0.0 in rates else []
    patterns += [
        Pattern(rate, mcar(rate).plan(test, seed=first + seed))
        for rate in rates
        if rate > 0.0
        for seed in range(seeds)
    ]
    if len(test.modalities) > 1:
        patterns += [
            Pattern(None, leave_out([name]).plan(test, seed=first), name)
            for name in test.modalities
        ]
    return tuple(patterns)


def mask_shortcut(bench: BenchData) -> float:
    """Return the AUROC of a logistic regression that sees only what is present.

    Cross-validated in 5 stratified folds (fewer where a class is small). .5 means
    that missingness tells nothing; it is .5 where every sample has the same
    modalities.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from mmgraph.metrics import auroc

    present = bench.data.present.astype(float)
    folds = int(min(5, np.bincount(bench.codes).min()))
    if folds < 2 or (present == present[0]).all():
        return 0.5
    proba = cross_val_predict(
        LogisticRegression(max_iter=1000),
        present,
        bench.codes,
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return float(auroc(bench.codes, proba))
