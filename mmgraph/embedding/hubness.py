"""Hubness correction of similarities: CSLS and inverted softmax.

Hubs are entries that are among the nearest neighbors of many queries.

Letters: ``Q`` queries, ``N`` entries, ``B`` queries of a bank, ``W`` width, ``P``
vectors, ``L`` reference samples.
"""

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Hubness: TypeAlias = Literal["none", "csls", "inverted_softmax"]

NUM_NEIGHBORS = 10
INVERSE_TEMPERATURE = 20.0
MAX_REFERENCE = 2000
BLOCK_ROWS = 4096  # rows that are compared at once


def hub_corrected(
    queries: FloatArray, gallery: FloatArray, bank: FloatArray, kind: Hubness
) -> FloatArray:
    r"""Score queries against a gallery, with a correction for hubs.

    - ``"csls"``: twice the cosine, minus the mean cosine of the query to its ten
      nearest entries, minus the mean cosine of the entry to its ten nearest queries of
      the bank.
    - ``"inverted_softmax"``: the cosine, minus the logarithm of the sum of
      ``exp(20 cosine)`` over the bank, divided by 20.

    Args:
        queries: ``[Q, W]`` unit vectors, or all-NaN rows.
        gallery: ``[N, W]`` unit vectors, or all-NaN rows.
        bank: ``[B, W]`` queries on which hubness is measured; NaN rows are ignored.
        kind: Kind of correction; "none" is the cosine.

    Returns:
        ``[Q, N]`` scores, higher is better: -inf for an all-NaN entry, and NaN for an
        all-NaN query with any other entry.

    References:
        Word Translation Without Parallel Data, Conneau, Lample, Ranzato, Denoyer,
        Jegou, 2018 (CSLS). Offline Bilingual Word Vectors, Smith, Turban, Hamblin,
        Hammerla, 2017 (inverted softmax). Cross Modal Retrieval with Querybank
        Normalisation, Bogolin et al., 2022 (a bank of training queries, so that the
        scores of a query do not depend on other queries).
    """
    present = ~np.isnan(gallery).any(1)
    scores = np.full((len(queries), len(gallery)), -np.inf, dtype=np.float32)
    cosine = queries @ gallery[present].T
    bank = bank[~np.isnan(bank).any(1)]
    if kind != "none" and len(bank) and present.any():
        from_bank = bank @ gallery[present].T  # [B, n]
        if kind == "csls":
            cosine = 2 * cosine - _mean_nearest(cosine.T).T - _mean_nearest(from_bank)
        else:
            peak = from_bank.max(0)
            total = np.exp(INVERSE_TEMPERATURE * (from_bank - peak)).sum(0)
            cosine = cosine - peak - np.log(total) / INVERSE_TEMPERATURE
    scores[:, present] = cosine
    return scores


def _mean_nearest(similarity: FloatArray) -> FloatArray:
    """Return the mean of the ten largest values of each column, ``[1, n]``."""
    count = min(NUM_NEIGHBORS, len(similarity))
    largest = np.partition(similarity, len(similarity) - count, axis=0)[-count:]
    mean: FloatArray = largest.mean(0, keepdims=True)
    return mean


class CSLSReference(nn.Module):
    """CSLS correction against a fixed set of training embeddings.

    The similarity of a pair is corrected by the mean similarity of either side to its
    nearest neighbors among the other sides of training samples, so that a score does
    not depend on other pairs that are predicted.

    Args:
        channels: ``D``, width of an embedding.
        num_samples: ``L``, number of reference samples.

    References:
        Word Translation Without Parallel Data, Conneau, Lample, Ranzato, Denoyer,
        Jegou, 2018 (CSLS).
    """

    sides: Tensor

    def __init__(self, channels: int, num_samples: int = 0) -> None:
        super().__init__()
        self.register_buffer("sides", torch.zeros(2, num_samples, channels))

    @property
    def num_samples(self) -> int:
        """Number of reference samples."""
        return self.sides.shape[1]

    def fit(self, left: Tensor, right: Tensor) -> Tensor:
        """Store the embeddings of both sides of training samples.

        If there are more than 2000 samples, evenly spaced ones are stored.

        Args:
            left: ``[n, D]`` embeddings of the left side.
            right: ``[n, D]`` embeddings of the right side.

        Returns:
            ``[L]`` indices of the stored samples.
        """
        step = max(1, math.ceil(len(left) / MAX_REFERENCE))
        rows = torch.arange(0, len(left), step, device=left.device)
        self.sides = torch.stack([left[rows], right[rows]])
        return rows

    def mean_knn_similarity(
        self, z: Tensor, side: int, excluded: Tensor | None = None
    ) -> Tensor:
        """Return the mean similarity to the ten nearest reference samples.

        Args:
            z: ``[P, D]`` embeddings; the result is zero for zero vectors.
            side: Side of the reference samples: 0 left, 1 right.
            excluded: ``[P, L]`` Bool, reference samples that are excluded for each
                vector; default: none.

        Returns:
            ``[P]``; zero without reference samples.
        """
        reference, means = self.sides[side], []
        for rows in torch.arange(len(z), device=z.device).split(BLOCK_ROWS):
            similarity = z[rows] @ reference.T
            if excluded is not None:
                similarity = similarity.masked_fill(excluded[rows], -torch.inf)
            top = similarity.topk(min(NUM_NEIGHBORS, len(reference)), dim=1).values
            valid = top > -torch.inf
            total = torch.where(valid, top, 0).sum(1)
            means.append(total / valid.sum(1).clamp(min=1))
        return torch.cat(means)
