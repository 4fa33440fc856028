"""Scores that discount hubs: entries that are near every query.

Letters: ``Q`` queries, ``N`` entries, ``B`` queries of a bank, ``W`` width.
"""

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Hubness: TypeAlias = Literal["none", "csls", "inverted_softmax"]

NEIGHBOURS = 10
TEMPERATURE = 20.0


def hub_corrected(
    queries: FloatArray, gallery: FloatArray, bank: FloatArray, kind: Hubness
) -> FloatArray:
    r"""Score queries against a gallery, discounting entries that attract all queries.

    - ``"csls"``: twice the cosine, less the mean cosine of query and of entry to their
      ten nearest on the other side (of the bank, for entries).
    - ``"inverted_softmax"``: the cosine, less the log of how much the whole bank is
      drawn to the entry, at a temperature of 1/20.

    References:
        Word Translation Without Parallel Data, Conneau, Lample, Ranzato, Denoyer,
        Jegou, 2018 (CSLS). Offline Bilingual Word Vectors, Smith, Turban, Hamblin,
        Hammerla, 2017 (inverted softmax). Cross Modal Retrieval with Querybank
        Normalisation, Bogolin et al., 2022 (a bank of training queries, so that a
        query does not depend on others).

    Args:
        queries: ``[Q, W]`` unit vectors, or all-NaN rows.
        gallery: ``[N, W]`` the same.
        bank: ``[B, W]`` queries that show what is a hub; NaN rows are left out.
        kind: What to do; "none" is the cosine.

    Returns:
        ``[Q, N]``, higher is better: -inf for an all-NaN entry, whatever the query,
        and NaN for an all-NaN query with any other entry.
    """
    there = ~np.isnan(gallery).any(1)
    scores = np.full((len(queries), len(gallery)), -np.inf, dtype=np.float32)
    cosine = queries @ gallery[there].T
    bank = bank[~np.isnan(bank).any(1)]
    if kind != "none" and len(bank) and there.any():
        drawn = bank @ gallery[there].T  # [B, n]
        if kind == "csls":
            cosine = 2 * cosine - _nearest(cosine.T).T - _nearest(drawn)
        else:
            peak = drawn.max(0)
            total = np.exp(TEMPERATURE * (drawn - peak)).sum(0)
            cosine = cosine - peak - np.log(total) / TEMPERATURE
    scores[:, there] = cosine
    return scores


def _nearest(similarity: FloatArray) -> FloatArray:
    """Return the mean of the largest ten of each column, ``[1, n]``."""
    count = min(NEIGHBOURS, len(similarity))
    largest = np.partition(similarity, len(similarity) - count, axis=0)[-count:]
    mean: FloatArray = largest.mean(0, keepdims=True)
    return mean


MAX_REFERENCE = 2000
PIECE = 4096  # rows that are compared at once


class CSLSReference(nn.Module):
    """Training samples, embedded from either side, to compare a side with.

    Some rows are near to everything, others to nothing: how near two sides are says
    more when it is known how near each is to the sides that it does not belong to.

    References:
        Word Translation Without Parallel Data, Conneau, Lample, Ranzato, Denoyer,
        Jegou, 2018 (CSLS; here a pair depends on no other that is asked).

    Args:
        channels: ``D``.
        num_samples: ``L``.
    """

    sides: Tensor

    def __init__(self, channels: int, num_samples: int = 0) -> None:
        super().__init__()
        self.register_buffer("sides", torch.zeros(2, num_samples, channels))

    @property
    def num_samples(self) -> int:
        """L."""
        return self.sides.shape[1]

    def fit(self, left: Tensor, right: Tensor) -> Tensor:
        """Take the reference from both sides ``[n, D]`` of samples; return which, ``[L]``.

        Evenly spaced ones of more than two thousand.
        """
        step = max(1, math.ceil(len(left) / MAX_REFERENCE))
        rows = torch.arange(0, len(left), step, device=left.device)
        self.sides = torch.stack([left[rows], right[rows]])
        return rows

    def mean_knn_similarity(
        self, z: Tensor, side: int, own: Tensor | None = None
    ) -> Tensor:
        """Average the likeness of ``[P, D]`` to the ten nearest of a side, ``[P]``.

        Args:
            z: Sides of pairs; of those that are zero it is zero, as without a reference.
            side: Of the reference: 0 left, 1 right.
            own: ``[P, L]`` Bool, who is left out; default: nobody.
        """
        reference, found = self.sides[side], []
        for rows in torch.arange(len(z), device=z.device).split(PIECE):
            near = z[rows] @ reference.T
            if own is not None:
                near = near.masked_fill(own[rows], -torch.inf)
            top = near.topk(min(NEIGHBOURS, len(reference)), dim=1).values
            known = top > -torch.inf
            total = torch.where(known, top, 0).sum(1)
            found.append(total / known.sum(1).clamp(min=1))
        return torch.cat(found)
