"""Which samples are held out when, dealt out evenly over labels and groups.

Letters: ``N`` samples, ``J`` folds, ``E`` members.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


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
            :func:`count_folds`).
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


def count_folds(
    groups: npt.NDArray[Any] | None, num_samples: int, most: int = 5
) -> int:
    """Return how many folds can have samples: one a group, or a sample, at most."""
    return min(most, len(np.unique(number_groups(groups, num_samples))))


def number_groups(groups: npt.NDArray[Any] | None, num_samples: int) -> IntArray:
    """Return ``[N]`` numbers of groups; without groups every sample is its own."""
    if groups is None:
        return np.arange(num_samples)
    return np.unique(groups.astype(str), return_inverse=True)[1].astype(np.int64)


def _deal_groups(
    groups: npt.NDArray[Any], num_folds: int, rng: np.random.Generator
) -> IntArray:
    codes = number_groups(groups, len(groups))
    counts = np.bincount(codes)
    order = np.lexsort((rng.random(len(counts)), -counts))
    filled = np.zeros(num_folds, dtype=np.int64)
    fold_of = np.zeros(len(counts), dtype=np.int64)
    for group in order:
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += counts[group]
    return fold_of[codes]


def member_bags(
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
