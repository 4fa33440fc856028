"""Pairs that a transport plan states, in place of samples with both modalities.

Letters: ``N`` samples, ``n`` rows of the first modality, ``m`` of the second one.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.data.column import AnyArray, BoolArray, IntArray
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike

ROUNDING = (
    1e-6  # share of the largest mass; solvers return negative masses of this size
)


@dataclass(frozen=True)
class SoftPairs:
    """Samples that are joined by a plan, and the weights of their anchors.

    Attributes:
        data: Samples of the first modality, each with the content of the second one
            that receives most of its mass.
        mixing: Weights of the anchors by modality: ``[N, N]``, rows sum to 1. A row of
            the second modality is fitted to the mean of the samples that the plan sends
            to it, weighted by their masses.
    """

    data: MultimodalData
    mixing: dict[str, Tensor]


def join_pairs(data: MultimodalData, pairs: ArrayLike) -> SoftPairs:
    """Join the samples of two modalities by a plan.

    Samples without mass stay as they are, except those whose content of the second
    modality was joined to another sample.

    Args:
        data: Samples of two modalities.
        pairs: Masses ``[n, m]`` of the rows of the first modality, in the order of the
            samples that have it, and of the second one; or ``[N, N]``, of all samples.
            A sparse matrix or an array.

    Raises:
        DataError: If there are not two modalities, or the plan has another shape, a
            negative or infinite mass, mass of a missing modality, or none at all.
    """
    if len(data.modalities) != 2:
        raise DataError(
            f"pairs must go with data of two modalities, got {len(data.modalities)} "
            f"({', '.join(data.modalities)}). Select two."
        )
    first, second = data.modalities
    plan = _read_plan(pairs, data.present)
    mass = plan.sum(axis=1) > 0
    partner = np.where(mass, plan.argmax(axis=1), np.arange(len(data)))
    taken = np.zeros(len(data), bool)
    taken[partner[mass]] = True
    kept = np.flatnonzero(mass | ~taken)
    received = plan.sum(axis=0)
    shares = plan / np.where(received > 0, received, 1)
    mixing = np.where(mass[:, None], shares.T[partner], np.eye(len(data)))
    own, joined = data[kept], data[partner[kept]]
    columns = {first: own.columns[first], second: joined.columns[second]}
    groups = data.groups
    if groups is None:  # samples with the same content are left out together
        numbers = np.where(mass, partner, len(data) + np.arange(len(data)))
        own = own.replace(groups=numbers[kept])
    chosen = torch.from_numpy(mixing[np.ix_(kept, kept)])
    return SoftPairs(replace(own, columns=columns), {second: chosen})


def _read_plan(pairs: ArrayLike, present: BoolArray) -> AnyArray:
    """Return the plan ``[N, N]`` of all samples."""
    from scipy.sparse import issparse

    dense = pairs.toarray() if issparse(pairs) else pairs  # type: ignore[union-attr]
    plan = np.asarray(dense)
    rows: tuple[IntArray, IntArray]
    rows = np.flatnonzero(present[:, 0]), np.flatnonzero(present[:, 1])
    shape, every = (len(rows[0]), len(rows[1])), (len(present),) * 2
    if plan.ndim != 2 or plan.shape not in (shape, every):
        raise DataError(
            f"pairs must have shape {list(shape)}, the rows of both modalities, or "
            f"{list(every)}, all samples, got {list(plan.shape)}. Give a plan of these "
            "samples.",
            parameter="pairs",
        )
    numbers = plan.dtype.kind in "fiub" and bool(np.isfinite(plan).all())
    if not numbers or plan.min() < -ROUNDING * plan.max():
        raise DataError(
            "pairs must hold masses of at least 0, got other values. Give the plan of "
            "a transport.",
            parameter="pairs",
        )
    if plan.shape != every:
        full = np.zeros(every)
        full[np.ix_(*rows)] = plan
        plan = full
    plan = np.maximum(plan.astype(np.float64), 0)
    if not plan.any() or plan[~present[:, 0]].any() or plan[:, ~present[:, 1]].any():
        raise DataError(
            "pairs must have mass where both modalities are observed and nowhere else, "
            f"got {'other' if plan.any() else 'no'} mass. Give a plan of these samples.",
            parameter="pairs",
        )
    return plan
