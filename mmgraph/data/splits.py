"""Splits into folds and into training and test parts, balanced by labels and groups.

Letters: ``N`` samples, ``J`` folds, ``E`` members.
"""

from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import AnyArray, IntArray
from mmgraph.data.notices import warn
from mmgraph.errors import DataError, MMGraphError


def assign_folds(
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None,
    num_folds: int,
    *,
    seed: int,
) -> IntArray:
    """Assign samples to folds that are balanced by target or by group size.

    Args:
        y: ``[N]`` or ``[N, K]`` targets. Samples are sorted by target, ties at random,
            and assigned in turn, so that every fold covers all classes or the whole
            range.
        groups: ``[N]`` groups; samples of one group share a fold. Groups are assigned
            in order of decreasing size, each to the smallest fold. None: no groups.
        num_folds: ``J``; with fewer samples or groups some folds remain empty (see
            :func:`num_feasible_folds`).
        seed: Seed for the order of ties.

    Returns:
        ``[N]`` fold numbers.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _assign_groups(np.asarray(groups), num_folds, rng)
    keys = np.atleast_2d(y.T)
    order = np.lexsort((rng.random(len(y)), *keys[::-1]))
    folds = np.empty(len(y), dtype=np.int64)
    folds[order] = np.arange(len(y)) % num_folds
    return folds


def num_feasible_folds(
    groups: npt.NDArray[Any] | None, num_samples: int, most: int = 5
) -> int:
    """Return the number of folds, at most one per group (or sample)."""
    return min(most, len(np.unique(encode_groups(groups, num_samples))))


def encode_groups(groups: npt.NDArray[Any] | None, num_samples: int) -> IntArray:
    """Return ``[N]`` group numbers; without groups every sample is a group."""
    if groups is None:
        return np.arange(num_samples)
    return np.unique(groups.astype(str), return_inverse=True)[1].astype(np.int64)


def _assign_groups(
    groups: npt.NDArray[Any], num_folds: int, rng: np.random.Generator
) -> IntArray:
    codes = encode_groups(groups, len(groups))
    counts = np.bincount(codes)
    order = np.lexsort((rng.random(len(counts)), -counts))
    filled = np.zeros(num_folds, dtype=np.int64)
    fold_of = np.zeros(len(counts), dtype=np.int64)
    for group in order:
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += counts[group]
    return fold_of[codes]


def member_weights(
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None,
    members: int,
    num_folds: int,
    *,
    seed: int,
) -> npt.NDArray[np.float32]:
    """Return sample weights of the ensemble members.

    Each member holds out one fold; when all folds of a partition are used, the next
    members use another partition.

    Args:
        y: ``[N]`` or ``[N, K]`` targets.
        groups: ``[N]`` groups, or None.
        members: Ensemble size ``E``.
        num_folds: Number of folds ``J``.
        seed: Seed of the partitions.

    Returns:
        ``[E, N]`` weights: 0 for the fold that the member holds out, otherwise 1.
    """
    weights = np.ones((members, len(y)), dtype=np.float32)
    for e in range(members):
        turn, fold = divmod(e, num_folds)
        folds = assign_folds(y, groups, num_folds, seed=seed + 1 + turn)
        weights[e, folds == fold] = 0
    return weights


def official_indices(split_name: AnyArray | None) -> tuple[IntArray, IntArray]:
    """Return the training and the test samples of an official split.

    Args:
        split_name: ``[N]`` part of each sample, or None.

    Raises:
        DataError: If a part has no sample.
    """
    if split_name is None:
        raise DataError(
            "official_split must have data with a split_name, got none. Use split for "
            "a random split."
        )
    parts = [np.flatnonzero(split_name == part) for part in ("train", "test")]
    if not all(map(len, parts)):
        names = ", ".join(map(str, np.unique(split_name.astype(str))))
        raise DataError(
            f"split_name must have the parts train and test, got {names}. Select the "
            "parts by data[data.split_name == name]."
        )
    return parts[0], parts[1]


def warn_official_split(split_name: AnyArray | None) -> None:
    """Warn that a random split mixes the parts of an official one."""
    if split_name is None or {"train", "test"} - set(split_name.tolist()):
        return
    warn(
        "split mixes the parts of the official split of these data at random. Use "
        "official_split() for results to compare with others, or "
        "replace(split_name=None) first."
    )


def group_names(groups: AnyArray | None) -> list[str | int]:
    """Return the names of the groups in order.

    Raises:
        DataError: If there are fewer than two.
    """
    names = [] if groups is None else np.unique(groups).tolist()
    if len(names) < 2:
        raise DataError(
            "leave_one_group_out must have data of at least 2 groups, got "
            f"{len(names)}. Pass groups when the data are built."
        )
    return names


_MAX_FOLDS = 10  # more are worth their time only if 1 / share is a whole number


def split_indices(
    num_samples: int,
    test_size: float,
    *,
    seed: int,
    codes: IntArray | None,
    groups: AnyArray | None,
) -> tuple[IntArray, IntArray]:
    """Split samples at random into training and test samples.

    Args:
        num_samples: N, at least 2.
        test_size: Share of the test samples (of the test groups, if there are groups).
        seed: Seed of the random choice.
        codes: ``[N]`` classes whose proportions both parts preserve, or None.
        groups: ``[N]`` groups that stay together, or None.

    Returns:
        Ascending indices of the training and the test samples.

    Raises:
        DataError: If there are fewer than two samples or groups.
        MMGraphError: If ``test_size`` is not between 0 and 1.
    """
    from sklearn.model_selection import (
        GroupShuffleSplit,
        ShuffleSplit,
        StratifiedShuffleSplit,
    )

    if not 0 < test_size < 1:
        raise MMGraphError(
            f"test_size must be between 0 and 1, got {test_size}. Pass a share."
        )
    units = num_samples if groups is None else len(np.unique(groups))
    if units < 2:
        what = "samples" if groups is None else "groups"
        raise DataError(f"split must have at least 2 {what}, got {units}. Add {what}.")
    rows = np.zeros(num_samples)
    num_test = int(np.ceil(test_size * num_samples))
    test = np.clip(test_size, 1 / units, 1 - 1 / units)
    if groups is not None and codes is not None:
        most = min(int(np.bincount(codes).min()), units // 2)
        share = _as_fraction(min(test_size, 1 - test_size), most)
        if share.denominator <= most:
            part = _first_folds(share, seed, codes, groups)
            rest = np.setdiff1d(np.arange(num_samples), part)
            return (rest, part) if test_size <= 0.5 else (part, rest)
    chosen: Any
    if groups is not None:
        chosen = GroupShuffleSplit(1, test_size=test, random_state=seed)
    elif codes is not None and codes.max() < min(num_test, num_samples - num_test):
        chosen = StratifiedShuffleSplit(1, test_size=test, random_state=seed)
    else:
        chosen = ShuffleSplit(1, test_size=test, random_state=seed)
    train, held = next(iter(chosen.split(rows, codes, groups)))
    return np.sort(train), np.sort(held)


def _as_fraction(share: float, most: int) -> Fraction:
    """Return the fraction (test folds of all folds) nearest to a share.

    Args:
        share: Share of the samples, at most one half.
        most: Largest number of folds that can all have two groups and every class.
    """
    one = Fraction(1, round(1 / share))
    several = Fraction(share).limit_denominator(min(max(most, 2), _MAX_FOLDS))
    return min(one, several, key=lambda fraction: abs(fraction - share))


def _first_folds(
    share: Fraction, seed: int, codes: IntArray, groups: AnyArray
) -> IntArray:
    """Return the ascending indices of the first ``numerator`` of the folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed)
    parts = islice(folds.split(codes, codes, groups), share.numerator)
    return np.sort(np.concatenate([held for _, held in parts]))
