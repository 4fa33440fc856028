"""Which samples are held out when, dealt out evenly over labels and groups.

Letters: ``N`` samples, ``J`` folds, ``E`` members.
"""

from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import AnyArray, IntArray
from mmgraph.errors import DataError, MMGraphError


def assign_folds(
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None,
    num_folds: int,
    *,
    seed: int,
) -> IntArray:
    """Deal samples out to folds.

    Args:
        y: ``[N]`` or ``[N, K]`` targets; the samples are sorted by them, ties at
            random, and dealt out in turn, so that every fold has its share of every
            class or range.
        groups: ``[N]``; samples of one group share a fold. Larger groups are dealt out
            first, each to the smallest fold.
        num_folds: ``J``; with fewer samples or groups some folds stay empty (see
            :func:`num_feasible_folds`).
        seed: Of the order of ties.

    Returns:
        ``[N]`` fold numbers.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _deal_groups(np.asarray(groups), num_folds, rng)
    keys = np.atleast_2d(y.T)
    order = np.lexsort((rng.random(len(y)), *keys[::-1]))
    folds = np.empty(len(y), dtype=np.int64)
    folds[order] = np.arange(len(y)) % num_folds
    return folds


def num_feasible_folds(
    groups: npt.NDArray[Any] | None, num_samples: int, most: int = 5
) -> int:
    """Return how many folds can have samples: one a group, or a sample, at most."""
    return min(most, len(np.unique(encode_groups(groups, num_samples))))


def encode_groups(groups: npt.NDArray[Any] | None, num_samples: int) -> IntArray:
    """Return ``[N]`` numbers of groups; without groups every sample is its own."""
    if groups is None:
        return np.arange(num_samples)
    return np.unique(groups.astype(str), return_inverse=True)[1].astype(np.int64)


def _deal_groups(
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
    """Return ``[E, N]`` weights: 0 for the fold that a member holds out, else 1.

    Members take turns through the folds of one partition, then of the next.
    """
    bags = np.ones((members, len(y)), dtype=np.float32)
    for e in range(members):
        turn, fold = divmod(e, num_folds)
        folds = assign_folds(y, groups, num_folds, seed=seed + 1 + turn)
        bags[e, folds == fold] = 0
    return bags


_MAX_FOLDS = 10  # finer ones are worth their time for a whole 1 / share only


def split_indices(
    num_samples: int,
    test_size: float,
    *,
    seed: int,
    codes: IntArray | None,
    groups: AnyArray | None,
) -> tuple[IntArray, IntArray]:
    """Split samples at random into train and test.

    Args:
        num_samples: N, at least 2.
        test_size: share of the samples (of the groups, where there are groups).
        seed: of the random choice.
        codes: ``[N]`` classes whose shares both parts keep, or None.
        groups: ``[N]``; samples of one group stay together.

    Returns:
        Ascending indices of the train and the test samples.

    Raises:
        MMGraphError: when the size is not between 0 and 1 or a part stays empty.
    """
    from sklearn.model_selection import (
        GroupShuffleSplit,
        ShuffleSplit,
        StratifiedShuffleSplit,
    )

    if not 0 < test_size < 1:
        raise MMGraphError(
            f"test_size must be between 0 and 1, got {test_size}. Give a share."
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
        share = _share_of_folds(min(test_size, 1 - test_size), most)
        if share.denominator <= most:
            part = _some_folds(share, seed, codes, groups)
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


def _share_of_folds(share: float, most: int) -> Fraction:
    """Return how many of how many folds are nearest to a share of at most one half.

    Args:
        share: of the samples.
        most: folds of which each can get two groups and a sample of every class.
    """
    one = Fraction(1, round(1 / share))
    several = Fraction(share).limit_denominator(min(max(most, 2), _MAX_FOLDS))
    return min(one, several, key=lambda found: abs(found - share))


def _some_folds(
    share: Fraction, seed: int, codes: IntArray, groups: AnyArray
) -> IntArray:
    """Return the ascending indices of the first of the folds that a share names."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed)
    parts = islice(folds.split(codes, codes, groups), share.numerator)
    return np.sort(np.concatenate([held for _, held in parts]))
