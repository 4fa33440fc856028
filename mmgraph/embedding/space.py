"""Embedding space shared by rows of different modalities.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``D`` coordinates of pairs,
``G`` channels of aligned modalities, ``K`` classes, ``C = D + G + K`` channels of
evidence, ``W`` width of an embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.embedding.aligned import AlignedMap
from mmgraph.embedding.windows import WindowMap
from mmgraph.nn.radial import RBFMap
from mmgraph.ops import present_rows

MIN_TOTAL = 1e-12


class EmbeddingSpace(nn.Module):
    r"""Closed-form unit vectors from any subset of modalities.

    The vector is the concatenation of two parts of unit length, with weights
    ``balance`` and ``1 - balance`` in every inner product:

    - *pairs*: a weighted sum over the present modalities of their similarities to
      training pairs (see :mod:`mmgraph.embedding.kernel_ridge`), concatenated, with
      weight ``aligned_weight``, with the sum of the vectors of aligned modalities,
      whose cosines are meaningful without training, or of recordings in time windows;
    - *classes*: a weighted mean over the present modalities of class probabilities p,
      and ``sqrt(1 - |p|^2)`` in a separate coordinate of each modality, for unit
      length. The inner product of rows of different modalities is ``sum_c p_c q_c``,
      the probability that both belong to one class, so that rows with uninformative
      probabilities are similar to no row.

    Args:
        pair_maps: ``M`` maps of features to ``D`` coordinates; empty without pairs.
        class_maps: ``M`` maps to ``K`` scores; empty without classes.
        experts: ``M`` lists of base learners, whose probabilities are averaged with
            those of the class maps.
        aligned: Map of ``M`` modalities to ``G`` channels, of vectors or of recordings;
            ``G`` is 0 without aligned modalities and recordings.
        channels: ``D``; 0 without pairs.
        num_classes: ``K``; 0 without classes.

    References:
        A New Approach to Cross-Modal Multimedia Retrieval, Rasiwasia et al., 2010
        (semantic matching: class probabilities as the common space).
    """

    pair_weights: Tensor
    modality_weights: Tensor
    prior: Tensor
    balance: Tensor
    aligned_weight: Tensor

    def __init__(
        self,
        pair_maps: nn.ModuleList,
        class_maps: nn.ModuleList,
        experts: nn.ModuleList,
        aligned: AlignedMap | WindowMap,
        *,
        channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.pair_maps, self.class_maps, self.experts = pair_maps, class_maps, experts
        self.aligned, self.channels, self.num_classes = aligned, channels, num_classes
        num_modalities = len(aligned.aligned)
        self.register_buffer("pair_weights", torch.ones(num_modalities))
        self.register_buffer("modality_weights", torch.ones(num_modalities))
        self.register_buffer("prior", torch.zeros(num_classes))
        self.register_buffer("balance", torch.ones(()))
        self.register_buffer("aligned_weight", torch.zeros(()))

    @property
    def num_modalities(self) -> int:
        """Number of modalities, M."""
        return len(self.pair_weights)

    @property
    def pair_channels(self) -> int:
        """Number of channels of the pair part, D + G, the first ones."""
        return self.channels + self.aligned.channels

    @property
    def evidence_channels(self) -> int:
        """Number of channels of evidence, C."""
        return self.pair_channels + self.num_classes

    @property
    def out_channels(self) -> int:
        """Width of an embedding, W."""
        return self.evidence_channels + bool(self.num_classes) * self.num_modalities

    def tables(self, batch: Batch, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the features, then the windows of each modality, if there are any.

        Args:
            batch: Packed rows of the samples.
            features: ``[N, F_m]`` for each modality; a missing one is an all-NaN row.
        """
        if isinstance(self.aligned, WindowMap):
            return [*features, *self.aligned.tables(batch)]
        return list(features)

    def evidence(self, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the evidence of each modality.

        Args:
            tables: See :meth:`tables`.

        Returns:
            ``[N, M, C]``, zero where the modality is missing, and ``[N, M]`` Bool.
        """
        features = tables[: self.num_modalities]
        vectors = tables[-self.num_modalities :]  # windows, or features as well
        present = present_rows(features)
        evidence = []
        for m, x in enumerate(features):
            rows = torch.nonzero(present[:, m])[:, 0]
            parts = []
            if self.channels:
                parts.append(self.pair_maps[m](x[rows]))
            parts.append(self.aligned(m, vectors[m][rows]))
            if self.num_classes:
                parts.append(self.probabilities(m, x[rows]))
            part = torch.cat(parts, dim=1)
            zeros = part.new_zeros(len(x), part.shape[1])
            evidence.append(zeros.index_copy(0, rows, part))
        return torch.stack(evidence, dim=1), present

    def probabilities(self, m: int, x: Tensor) -> Tensor:
        """Return class probabilities of modality m, ``[N, K]``.

        They are the mean over kernel ridge regression and base learners.
        """
        parts = [as_probabilities(self.class_maps[m](x) + self.prior)]
        experts = self.experts[m]
        assert isinstance(experts, nn.ModuleList)
        parts += [expert(x).softmax(-1) for expert in experts]
        return torch.stack(parts).mean(0)

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Normalize evidence ``[N, M, C]`` as input of the graph networks."""
        pairs, vectors, classes = self._parts(evidence)
        return torch.cat([F.normalize(pairs, dim=-1), vectors, classes], dim=-1)

    def _parts(self, evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.channels, self.aligned.channels, self.num_classes]
        pairs, vectors, classes = evidence.split(sizes, dim=-1)
        return pairs, vectors, classes

    def forward(self, evidence: Tensor, present: Tensor) -> Tensor:
        """Return unit vectors ``[N, W]``.

        Args:
            evidence: ``[N, M, C]``; evidence of missing modalities is not read.
            present: ``[N, M]`` Bool. With nothing present, the vector is zero.
        """
        evidence = torch.where(present[..., None], evidence, 0)
        pairs, vectors, classes = self._parts(evidence)
        parts = []
        if self.pair_channels:
            weighted = (pairs * self.pair_weights[:, None]).sum(1)
            part = concat_weighted(weighted, vectors.sum(1), self.aligned_weight)
            parts.append(self.balance.sqrt() * part)
        if self.num_classes:
            weight = self.modality_weights * present
            total = weight.sum(1, keepdim=True).clamp(min=MIN_TOTAL)
            p = (classes * weight[..., None]).sum(1) / total
            rest = (1 - p.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
            part = torch.cat([p, rest * F.normalize(weight, dim=1)], dim=1)
            part = torch.where(present.any(1, keepdim=True), part, 0)
            parts.append((1 - self.balance).sqrt() * part)
        return F.normalize(torch.cat(parts, dim=1), dim=1)


def concat_weighted(pairs: Tensor, vectors: Tensor, aligned_weight: Tensor) -> Tensor:
    """Concatenate two vectors with weights in the inner product, to unit length.

    If one of both is zero, the result is the other one.

    Args:
        pairs: ``[..., D]`` coordinates of pairs.
        vectors: ``[..., G]`` vectors of aligned modalities.
        aligned_weight: Weight of ``vectors`` in an inner product, between 0 and 1.

    Returns:
        ``[..., D + G]`` unit vectors.
    """
    pairs = F.normalize(pairs, dim=-1)
    if not vectors.shape[-1]:
        return pairs
    parts = (
        (1 - aligned_weight).sqrt() * pairs,
        aligned_weight.sqrt() * F.normalize(vectors, dim=-1),
    )
    return F.normalize(torch.cat(parts, dim=-1), dim=-1)


def as_probabilities(scores: Tensor) -> Tensor:
    """Clip scores that sum to about one at zero, and normalize their sum to one."""
    p = scores.clamp(min=1e-4)
    return p / p.sum(-1, keepdim=True)


def empty_space(
    widths: Sequence[int],
    landmarks: Sequence[Sequence[int]],
    experts: nn.ModuleList,
    aligned: AlignedMap | WindowMap,
    channels: int,
    num_classes: int,
) -> EmbeddingSpace:
    """Build a space of given sizes, into which saved tensors are loaded.

    Args:
        widths: Number of features of each modality.
        landmarks: Number of landmarks of each modality, for pair maps and for class
            maps.
        experts: ``M`` lists of base learners.
        aligned: Map of aligned modalities, or of recordings.
        channels: ``D``.
        num_classes: ``K``.
    """
    of_pairs, of_classes = landmarks

    def maps(counts: Sequence[int], out: int) -> nn.ModuleList:
        pairs = zip(widths, counts, strict=True) if counts else ()
        return nn.ModuleList(RBFMap(width, out, count) for width, count in pairs)

    return EmbeddingSpace(
        maps(of_pairs, channels),
        maps(of_classes, num_classes),
        experts,
        aligned,
        channels=channels,
        num_classes=num_classes,
    )
