"""How much each modality is trusted, and whether pairs or classes lead.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``K`` classes.
"""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.losses import info_nce
from mmgraph.missing import modality_dropout
from mmgraph.optim import minimize

MAX_ROWS, DRAWS, MAX_ITERATIONS = 512, 4, 25
PENALTY = 1e-3
WITHIN_CLASS = 0.65  # pairs that find the partner within a class more often lead
ENOUGH_ROWS = 20
ALIGNED_WEIGHTS = (
    0.0,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
)  # shares that are tried


class ModalityWeightFitter:
    """Fits how much modalities are trusted to samples with several of them."""

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
        for _ in range(DRAWS):
            kept = modality_dropout(present[self.rows], 0.5, generator)
            self.views.append((kept, present[self.rows] & ~kept))
        group = samples.groups[self.rows]
        self.positive = torch.eye(len(self.rows), dtype=torch.bool)
        self.apart = self.positive | (group[:, None] != group)
        self.classes, self.present = samples.classes, present
        self.masks = [present] + [
            modality_dropout(present, 0.5, generator) for _ in range(DRAWS)
        ]

    def prefer_class_space(self, pairs: Tensor) -> bool:
        """Tell whether pairs say little about which sample of a class is meant.

        Their say is how often a row is nearer to its partner than to another sample of
        its class (a half by chance), for the two modalities where that is most often.
        """
        assert self.classes is not None
        said, y = F.normalize(pairs[self.rows], dim=-1), self.classes[self.rows]
        alike = self.apart & ~self.positive & (y[:, None] == y) & (y >= 0)
        present = self.present[self.rows]
        best = 0.0
        for m, other in combinations(range(pairs.shape[1]), 2):
            both = present[:, m] & present[:, other]
            similarity = said[:, m] @ said[:, other].T
            rival = alike & both[:, None] & both
            won = (similarity.diagonal()[:, None] > similarity) & rival
            if int(both.sum()) >= ENOUGH_ROWS and bool(rival.any()):
                best = max(best, float(won.sum() / rival.sum()))
        return best <= WITHIN_CLASS

    def fit_aligned_weight(self, pairs: Tensor, vectors: Tensor) -> Tensor:
        """Return the share of aligned vectors with which partners rank best.

        Each aligned modality is compared with all others of a sample, where enough
        samples have vectors on both sides; the largest share where there are none.

        Args:
            pairs: ``[N, M, D]`` out of sample, as much as each modality is trusted.
            vectors: ``[N, M, G]``.
        """
        if not vectors.shape[-1]:
            return torch.zeros(())
        here = [x[self.rows] for x in (pairs, vectors)]
        gain = torch.zeros(len(ALIGNED_WEIGHTS))
        for m in range(pairs.shape[1]):
            sides = [(x[:, m], x.sum(1) - x[:, m]) for x in here]
            both = torch.stack([x.ne(0).any(1) for x in sides[1]]).all(0)
            if int(both.sum()) < ENOUGH_ROWS:
                continue
            learned, known = (
                F.normalize(a[both], dim=1) @ F.normalize(b[both], dim=1).T
                for a, b in sides
            )
            apart = self.apart[both][:, both]
            mixed = [torch.lerp(learned, known, share) for share in ALIGNED_WEIGHTS]
            gain += torch.tensor([partner_gain(each, apart) for each in mixed])
        best = int(gain.argmax()) if bool(gain.any()) else len(ALIGNED_WEIGHTS) - 1
        return torch.tensor(ALIGNED_WEIGHTS[best])

    def pair_weights(self, pairs: Tensor) -> Tensor:
        """Return the weight ``[M]`` of each modality in a sum over modalities."""
        size = pairs.norm(dim=-1)
        seen = (size > 0).sum(0)
        scale = torch.where(seen > 0, seen / size.sum(0), 1)
        trust = torch.zeros(len(scale), requires_grad=True)
        here = pairs[self.rows] * scale[:, None]
        log_scale = torch.ones((), requires_grad=True)

        def loss() -> Tensor:
            ridge = PENALTY * trust.square().sum()
            found = [
                info_nce(
                    log_scale.exp()
                    * _pair_part(here, a, trust)
                    @ _pair_part(here, b, trust).T,
                    self.positive,
                    self.apart & a.any(1)[:, None] & b.any(1),
                )
                for a, b in self.views
            ]
            return torch.stack(found).mean() + ridge

        minimize([trust, log_scale], loss, MAX_ITERATIONS)
        return scale * trust.detach().exp()

    def modality_weights(self, classes: Tensor) -> Tensor:
        """Return the weight ``[M]`` of each modality in a mean over modalities.

        Fitted to the likelihood of the class, under thinned sets of modalities.
        """
        assert self.classes is not None
        known = self.classes >= 0
        y = self.classes[known][:, None]
        trust = torch.zeros(classes.shape[1], requires_grad=True)

        def loss() -> Tensor:
            found = []
            for mask in self.masks:
                some = mask[known].any(1)
                p = mean_of_some(classes[known][some], mask[known][some], trust)
                found.append(-p.gather(1, y[some]).clamp(min=1e-4).log().mean())
            return torch.stack(found).mean() + PENALTY * trust.square().sum()

        minimize([trust], loss, MAX_ITERATIONS)
        return trust.detach().exp()


def partner_gain(similarity: Tensor, apart: Tensor) -> float:
    """Return the mean nDCG of finding the diagonal, in rows and in columns.

    Args:
        similarity: ``[N, N]``.
        apart: ``[N, N]`` Bool, the diagonal and what does not belong to it.
    """
    own = similarity.diagonal()
    ahead = (similarity >= own[:, None]) & apart, (similarity >= own) & apart
    ranks = torch.cat([ahead[0].sum(1), ahead[1].sum(0)])  # its own place is one
    return float((1 / (1 + ranks).log2()).mean())


def _pair_part(pairs: Tensor, mask: Tensor, log_trust: Tensor) -> Tensor:
    weight = log_trust.exp() * mask
    return F.normalize((pairs * weight[..., None]).sum(1), dim=1)


def mean_of_some(classes: Tensor, mask: Tensor, log_trust: Tensor) -> Tensor:
    """Average ``[N, M, K]`` over the modalities of ``mask [N, M]``, by their trust."""
    weight = log_trust.exp() * mask
    total = weight.sum(1, keepdim=True).clamp(min=1e-12)
    return (classes * weight[..., None]).sum(1) / total
