"""The space in which rows of different modalities meet.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``D`` coordinates of pairs,
``G`` channels of aligned modalities, ``K`` classes, ``C = D + G + K`` channels of
evidence, ``W`` width of an embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.embedding.aligned import AlignedMap
from mmgraph.embedding.kernel_ridge import RBFMap
from mmgraph.ops import present_rows

CERTAIN = 1e-12


class EmbeddingSpace(nn.Module):
    r"""Unit vectors from any subset of modalities, before the graph.

    Two parts, each of unit length, side by side with shares ``balance`` and
    ``1 - balance`` of every inner product:

    - *pairs*: a weighted sum over the modalities present of how much each is like
      every training pair (see :mod:`mmgraph.embedding.kernel_ridge`); beside it, with
      the share ``aligned_weight``, the mean of the vectors of aligned modalities, whose cosines
      say something before anything is learned;
    - *classes*: a weighted mean over the modalities present of class probabilities p,
      and, in a coordinate of each modality of its own, the ``sqrt(1 - |p|^2)`` that
      gives unit length. The inner product of rows of different modalities is then
      ``sum_c p_c q_c``, the probability that both are of one class: a row about
      which nothing is known is near nothing.

    References:
        A New Approach to Cross-Modal Multimedia Retrieval, Rasiwasia et al., 2010
        (semantic matching: class probabilities as the common space).

    Args:
        pair_maps: ``M`` maps of features to ``D`` coordinates; none without pairs.
        class_maps: ``M`` maps to ``K`` scores; none without classes.
        experts: ``M`` lists of experts of log-probabilities, averaged with the maps.
        aligned: Vectors of ``M`` modalities, of ``G`` channels, 0 where none share a
            space.
        channels: ``D``, 0 without pairs.
        num_classes: ``K``, 0 without classes.
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
        aligned: AlignedMap,
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
        """M."""
        return len(self.pair_weights)

    @property
    def pair_channels(self) -> int:
        """D + G: what tells samples apart, first in evidence and in embeddings."""
        return self.channels + self.aligned.channels

    @property
    def evidence_channels(self) -> int:
        """C."""
        return self.pair_channels + self.num_classes

    @property
    def out_channels(self) -> int:
        """W."""
        return self.evidence_channels + bool(self.num_classes) * self.num_modalities

    def evidence(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map each modality alone.

        Args:
            features: ``[N, F_m]`` for each modality; a missing one is an all-NaN row.

        Returns:
            ``[N, M, C]``, zero where the modality is missing, and ``[N, M]`` Bool.
        """
        present = present_rows(features)
        said = []
        for m, x in enumerate(features):
            rows = torch.nonzero(present[:, m])[:, 0]
            parts = []
            if self.channels:
                parts.append(self.pair_maps[m](x[rows]))
            parts.append(self.aligned(m, x[rows]))
            if self.num_classes:
                parts.append(self.probabilities(m, x[rows]))
            found = torch.cat(parts, dim=1)
            zeros = found.new_zeros(len(x), found.shape[1])
            said.append(zeros.index_copy(0, rows, found))
        return torch.stack(said, dim=1), present

    def probabilities(self, m: int, x: Tensor) -> Tensor:
        """Average what the kernel and the experts of modality m say, ``[N, K]``."""
        said = [as_probabilities(self.class_maps[m](x) + self.prior)]
        experts = self.experts[m]
        assert isinstance(experts, nn.ModuleList)
        said += [expert(x).softmax(-1) for expert in experts]
        return torch.stack(said).mean(0)

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Bring evidence ``[N, M, C]`` to the scale that a graph takes."""
        pairs, vectors, classes = self._parts(evidence)
        return torch.cat([F.normalize(pairs, dim=-1), vectors, classes], dim=-1)

    def _parts(self, evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.channels, self.aligned.channels, self.num_classes]
        pairs, vectors, classes = evidence.split(sizes, dim=-1)
        return pairs, vectors, classes

    def forward(self, evidence: Tensor, present: Tensor) -> Tensor:
        """Embed ``[N, M, C]`` where ``present [N, M]``: unit vectors ``[N, W]``.

        Evidence of what is not present is not read; with nothing present it is zero.
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
            total = weight.sum(1, keepdim=True).clamp(min=CERTAIN)
            p = (classes * weight[..., None]).sum(1) / total
            rest = (1 - p.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
            part = torch.cat([p, rest * F.normalize(weight, dim=1)], dim=1)
            part = torch.where(present.any(1, keepdim=True), part, 0)
            parts.append((1 - self.balance).sqrt() * part)
        return F.normalize(torch.cat(parts, dim=1), dim=1)


def concat_weighted(pairs: Tensor, vectors: Tensor, aligned_weight: Tensor) -> Tensor:
    """Put ``[..., D]`` and ``[..., G]`` side by side: ``[..., D + G]`` of unit length.

    Args:
        pairs: Likeness to training pairs.
        vectors: Of aligned modalities, which have the share ``aligned_weight`` of an inner
            product. Where one of both is zero the other is all.
        aligned_weight: Between 0 and 1.
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
    """Cut scores that sum to about one off at zero, and let them sum to one."""
    p = scores.clamp(min=1e-4)
    return p / p.sum(-1, keepdim=True)


def empty_space(
    widths: Sequence[int],
    landmarks: Sequence[Sequence[int]],
    experts: nn.ModuleList,
    aligned: AlignedMap,
    channels: int,
    num_classes: int,
) -> EmbeddingSpace:
    """Build a space of these sizes, to be filled with saved tensors.

    Args:
        widths: ``M`` numbers of features.
        landmarks: ``M`` numbers of landmarks of pair maps, and of class maps.
        experts: ``M`` lists of experts.
        aligned: Of ``M`` modalities.
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
