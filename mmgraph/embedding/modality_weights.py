"""Weights of modalities in an embedding space, and the choice of its dominant part.

Letters: ``N`` samples, ``M`` modalities, ``D`` coordinates of pairs, ``G`` channels of
aligned modalities, ``K`` classes.
"""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.losses import info_nce
from mmgraph.missing import modality_dropout
from mmgraph.optim import minimize

MAX_ROWS, NUM_VIEWS, MAX_ITERATIONS = 512, 4, 25
PENALTY = 1e-3
WITHIN_CLASS = 0.65  # partner accuracy within a class above which pairs dominate
MIN_ROWS = 20
ALIGNED_WEIGHTS = tuple(i / 10 for i in range(10))  # candidates


class ModalityWeightFitter:
    """Weights of modalities, fitted to samples that have several of them.

    Args:
        samples: Training samples.
        present: ``[N, M]`` Bool.
        generator: Generator of the samples and of the views that are compared.
    """

    def __init__(
        self,
        samples: EmbeddingTrainingData,
        present: Tensor,
        generator: torch.Generator,
    ) -> None:
        paired = torch.nonzero(present.sum(1) > 1)[:, 0]
        order = torch.randperm(len(paired), generator=generator)
        self.rows = paired[order[:MAX_ROWS]]
        self.views = []
        for _ in range(NUM_VIEWS):
            kept = modality_dropout(present[self.rows], 0.5, generator)
            self.views.append((kept, present[self.rows] & ~kept))
        group = samples.groups[self.rows]
        self.positive = torch.eye(len(self.rows), dtype=torch.bool)
        self.comparable = self.positive | (group[:, None] != group)
        self.classes, self.present = samples.classes, present
        self.masks = [present] + [
            modality_dropout(present, 0.5, generator) for _ in range(NUM_VIEWS)
        ]

    def prefer_class_space(self, pairs: Tensor) -> bool:
        """Return True if pair similarity barely separates samples of one class.

        The criterion is the accuracy with which a row is more similar to its partner
        than to another sample of its class (one half by chance), for the best pair of
        modalities.

        Args:
            pairs: ``[N, M, D]`` out-of-sample coordinates.
        """
        assert self.classes is not None
        z, y = F.normalize(pairs[self.rows], dim=-1), self.classes[self.rows]
        same_class = (y[:, None] == y) & (y >= 0)
        negative = self.comparable & ~self.positive & same_class
        present = self.present[self.rows]
        best = 0.0
        for m, other in combinations(range(pairs.shape[1]), 2):
            both = present[:, m] & present[:, other]
            similarity = z[:, m] @ z[:, other].T
            compared = negative & both[:, None] & both
            correct = (similarity.diagonal()[:, None] > similarity) & compared
            if int(both.sum()) >= MIN_ROWS and bool(compared.any()):
                best = max(best, float(correct.sum() / compared.sum()))
        return best <= WITHIN_CLASS

    def fit_aligned_weight(self, pairs: Tensor, vectors: Tensor) -> Tensor:
        """Return the weight of aligned vectors with which partners rank best.

        Each aligned modality is compared with all others of a sample, if enough samples
        have vectors on both sides; otherwise the largest candidate is returned.

        Args:
            pairs: ``[N, M, D]`` out-of-sample coordinates, times modality weights.
            vectors: ``[N, M, G]`` vectors of aligned modalities.

        Returns:
            Scalar between 0 and 1; 0 without aligned modalities.
        """
        if not vectors.shape[-1]:
            return torch.zeros(())
        parts = [x[self.rows] for x in (pairs, vectors)]
        gain = torch.zeros(len(ALIGNED_WEIGHTS))
        for m in range(pairs.shape[1]):
            sides = [(x[:, m], x.sum(1) - x[:, m]) for x in parts]
            both = torch.stack([x.ne(0).any(1) for x in sides[1]]).all(0)
            if int(both.sum()) < MIN_ROWS:
                continue
            of_pairs, of_vectors = (
                F.normalize(a[both], dim=1) @ F.normalize(b[both], dim=1).T
                for a, b in sides
            )
            comparable = self.comparable[both][:, both]
            mixed = [torch.lerp(of_pairs, of_vectors, w) for w in ALIGNED_WEIGHTS]
            gain += torch.tensor([partner_gain(each, comparable) for each in mixed])
        best = int(gain.argmax()) if bool(gain.any()) else len(ALIGNED_WEIGHTS) - 1
        return torch.tensor(ALIGNED_WEIGHTS[best])

    def pair_weights(self, pairs: Tensor) -> Tensor:
        """Return the weight ``[M]`` of each modality in a sum over modalities.

        Fitted to the contrastive loss of views with disjoint modalities.

        Args:
            pairs: ``[N, M, D]`` out-of-sample coordinates.
        """
        size = pairs.norm(dim=-1)
        seen = (size > 0).sum(0)
        scale = torch.where(seen > 0, seen / size.sum(0), 1)
        log_weight = torch.zeros(len(scale), requires_grad=True)
        scaled = pairs[self.rows] * scale[:, None]
        log_scale = torch.ones((), requires_grad=True)

        def loss() -> Tensor:
            ridge = PENALTY * log_weight.square().sum()
            losses = [
                info_nce(
                    log_scale.exp()
                    * _weighted_sum(scaled, a, log_weight)
                    @ _weighted_sum(scaled, b, log_weight).T,
                    self.positive,
                    self.comparable & a.any(1)[:, None] & b.any(1),
                )
                for a, b in self.views
            ]
            return torch.stack(losses).mean() + ridge

        minimize([log_weight, log_scale], loss, MAX_ITERATIONS)
        return scale * log_weight.detach().exp()

    def modality_weights(self, classes: Tensor) -> Tensor:
        """Return the weight ``[M]`` of each modality in a mean over modalities.

        Fitted to the likelihood of the class, under random subsets of modalities.

        Args:
            classes: ``[N, M, K]`` out-of-sample class probabilities.
        """
        assert self.classes is not None
        known = self.classes >= 0
        y = self.classes[known][:, None]
        log_weight = torch.zeros(classes.shape[1], requires_grad=True)

        def loss() -> Tensor:
            losses = []
            for mask in self.masks:
                some = mask[known].any(1)
                p = weighted_mean(classes[known][some], mask[known][some], log_weight)
                losses.append(-p.gather(1, y[some]).clamp(min=1e-4).log().mean())
            return torch.stack(losses).mean() + PENALTY * log_weight.square().sum()

        minimize([log_weight], loss, MAX_ITERATIONS)
        return log_weight.detach().exp()


def partner_gain(similarity: Tensor, comparable: Tensor) -> float:
    """Return the mean nDCG of ranking partners, the diagonal, by rows and by columns.

    Args:
        similarity: ``[N, N]``.
        comparable: ``[N, N]`` Bool, the diagonal and valid negatives.
    """
    own = similarity.diagonal()
    ahead = (similarity >= own[:, None]) & comparable, (similarity >= own) & comparable
    ranks = torch.cat([ahead[0].sum(1), ahead[1].sum(0)])  # a partner counts as one
    return float((1 / (1 + ranks).log2()).mean())


def _weighted_sum(pairs: Tensor, mask: Tensor, log_weight: Tensor) -> Tensor:
    """Sum ``[N, M, D]`` over the modalities of a mask, normalized to unit length."""
    weight = log_weight.exp() * mask
    return F.normalize((pairs * weight[..., None]).sum(1), dim=1)


def weighted_mean(classes: Tensor, mask: Tensor, log_weight: Tensor) -> Tensor:
    """Average ``[N, M, K]`` over the modalities of ``mask [N, M]``."""
    weight = log_weight.exp() * mask
    total = weight.sum(1, keepdim=True).clamp(min=1e-12)
    return (classes * weight[..., None]).sum(1) / total
