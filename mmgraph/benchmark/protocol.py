"""The protocol of the benchmark: splits, mask plans and units of work.

Everything here is determined by the data, the options and fixed seeds, so that all
models have the same splits and masks in every process.
Letters: `N` samples, `M` modalities, `K` classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from mmgraph.benchmark.corruptions import corruptions_of
from mmgraph.benchmark.pairs import PairTask
from mmgraph.data import MultimodalData
from mmgraph.missing import MaskPlan, mcar, natural, only

HELD_OUT = 0.3  # share of groups in the test part of retrieval and matching
MAX_LATTICE = 6  # number of modalities up to which all subsets are scored


@dataclass(frozen=True)
class Scheme:
    """Scheme that a data set is split by.

    Attributes:
        kind: "stratified" or "grouped" cross-validation, "official", or "held-out":
            random splits that hold out 30% of the groups.
        folds: Number of folds, or of random splits; 1 for an official split.
        repeats: Number of repeats; training seeds for an official split.
        per_class: Training samples kept of each class; None keeps all.
    """

    kind: Literal["stratified", "grouped", "official", "held-out"]
    folds: int
    repeats: int
    per_class: int | None = None

    def __str__(self) -> str:
        """The part of the scheme that identifies its splits."""
        how = {
            "official": "official split",
            "held-out": f"random splits, {HELD_OUT:.0%} of groups held out",
        }
        few = f", {self.per_class} training samples a class" if self.per_class else ""
        return how.get(self.kind, f"{self.folds} {self.kind} folds") + few

    def split_name(self, number: int) -> str:
        """Return the name of a split by its position."""
        if self.kind == "official":
            return f"seed{number}"
        if self.kind == "held-out":
            return f"s{number}"
        return f"r{number // self.folds}f{number % self.folds}"


@dataclass(frozen=True)
class Split:
    """One division of the samples into training and test part.

    Attributes:
        name: For example "r0f3" (repeat 0, fold 3) or "seed2".
        number: Position among the splits; mask seeds are derived from it.
        train: Row numbers, int [N_train].
        test: Row numbers, int [N_test].
    """

    name: str
    number: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class TestCondition:
    """One masked version of the test data that a fitted model is scored on.

    Attributes:
        test_missing: Nominal rate; None for a subset of modalities.
        plan: Modalities that each test sample keeps.
        kept: The subset of modalities, else None.
        corrupted: Name of a corruption and the modality it applies to, else None.
    """

    test_missing: float | None
    plan: MaskPlan
    kept: tuple[str, ...] | None = None
    corrupted: tuple[str, str] | None = None

    @property
    def pattern(self) -> str:
        """Name of the pattern, with that of the corruption."""
        if self.corrupted is None:
            return self.plan.pattern
        return f"{self.plan.pattern}, {self.corrupted[0]} of {self.corrupted[1]}"

    @property
    def identity(self) -> tuple[str, int]:
        """Name of the pattern and seed of the plan."""
        return self.pattern, self.plan.seed

    def apply(self, test: MultimodalData) -> MultimodalData:
        """Return the samples without removed modalities, corrupted if so given."""
        masked = self.plan.apply(test)
        if self.corrupted is None:
            return masked
        name, modality = self.corrupted
        chosen = dict(corruptions_of(name, masked))[modality]
        return chosen.apply(masked, seed=self.plan.seed)


@dataclass(frozen=True)
class BenchData:
    """A data set prepared for the benchmark.

    Attributes:
        name: Name or path it was opened by.
        data: Samples that have a label.
        codes: Class of each sample, int [N], from 0.
        classes: Labels in the order of the codes, [K].
        scheme: Scheme it is split by.
        digest: SHA-256 of the content, hexadecimal.
        card: Description of the data set, as plain values.
        pairs: Task of retrieval or matching; None for classification.
    """

    name: str
    data: MultimodalData
    codes: np.ndarray
    classes: np.ndarray
    scheme: Scheme
    digest: str
    card: dict[str, Any]
    pairs: PairTask | None = None


@dataclass(frozen=True)
class Unit:
    """One fit: a model on the training part of one split at one train missing rate."""

    dataset: str
    model: str
    train_missing: float
    scheme: Scheme
    split: int
    rates: tuple[float, ...]
    mask_seeds: int
    corruptions: tuple[str, ...] = ()

    @property
    def split_name(self) -> str:
        """Name of the split."""
        return self.scheme.split_name(self.split)

    def __str__(self) -> str:
        rate = f" train {self.train_missing:g}" if self.train_missing else ""
        return f"{self.dataset} {self.model}{rate} {self.split_name}"


def make_splits(bench: BenchData) -> tuple[Split, ...]:
    """Return the splits of a data set, the same in every process.

    Repeat `r` of a cross-validation shuffles with seed `r`. An official split has the
    same samples each time; only the seed of the model differs.
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
    """Return the training rows that the scheme keeps of each class, in order."""
    if bench.scheme.per_class is None:
        return train
    shuffled = np.random.default_rng(seed).permutation(train)
    codes = bench.codes[shuffled]
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    first = np.arange(len(order)) - starts < bench.scheme.per_class
    return np.sort(shuffled[order[first]])


def _folds(bench: BenchData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import (
        GroupShuffleSplit,
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    rows = np.zeros(len(bench.data))
    if bench.scheme.kind == "held-out":
        for seed in range(bench.scheme.folds):
            shuffle = GroupShuffleSplit(1, test_size=HELD_OUT, random_state=seed)
            yield from shuffle.split(rows, groups=bench.data.groups)
        return
    kind = StratifiedGroupKFold if bench.scheme.kind == "grouped" else StratifiedKFold
    for repeat in range(bench.scheme.repeats):
        folds = kind(bench.scheme.folds, shuffle=True, random_state=repeat)
        groups = bench.data.groups if bench.scheme.kind == "grouped" else None
        yield from folds.split(rows, bench.codes, groups)


def train_plan(train: MultimodalData, rate: float, split: Split) -> MaskPlan:
    """Return the modalities that training samples keep at a train missing rate."""
    return (mcar(rate) if rate else natural()).plan(train, seed=split.number)


def scored_patterns(
    test: MultimodalData,
    rates: tuple[float, ...],
    seeds: int,
    split: Split,
    pairs: PairTask | None = None,
    corruptions: tuple[str, ...] = (),
) -> tuple[TestCondition, ...]:
    """Return all conditions of the test data, in a fixed order.

    Rate 0 is the data without extra removal; every other rate has `seeds` masks. They
    are followed by subsets of modalities, see `modality_subsets`, and by corruptions of
    each modality in turn, without extra removal. Queries of a single
    modality would become empty, so that they have only the condition without removal.
    """
    first = 1000 * split.number
    patterns = (
        [TestCondition(0.0, natural().plan(test, seed=first))] if 0.0 in rates else []
    )
    patterns += [
        TestCondition(rate, mcar(rate).plan(test, seed=first + seed))
        for rate in rates
        if rate > 0.0 and (pairs is None or pairs.several)
        for seed in range(seeds)
    ]
    if pairs is None:
        patterns += [
            TestCondition(None, only(names).plan(test, seed=first), names)
            for names in modality_subsets(test.modalities)
        ]
        patterns += [
            TestCondition(
                None, natural().plan(test, seed=first), corrupted=(name, modality)
            )
            for name in corruptions
            for modality, _ in corruptions_of(name, test)
        ]
    return tuple(patterns)


def modality_subsets(modalities: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the proper subsets of modalities that models are scored on.

    All nonempty proper subsets of up to 6 modalities; beyond that only single
    modalities and subsets without one modality.
    """
    total = len(modalities)
    sizes = range(1, total) if total <= MAX_LATTICE else (1, total - 1)
    return tuple(kept for size in sizes for kept in combinations(modalities, size))
