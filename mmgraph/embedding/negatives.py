"""Training pairs of a matcher, with random and hard negatives.

Letters: ``N`` samples, ``P`` pairs, ``M`` modalities of both sides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph.embedding.fit import FittedSpace
from mmgraph.embedding.matching import MatchPool
from mmgraph.embedding.training_data import EmbeddingTrainingData

MAX_SAMPLES = 4000  # samples from which pairs are drawn
INVERSE_TEMPERATURE = 15.0  # of the softmax from which hard negatives are drawn


@dataclass(frozen=True)
class Pairs:
    """Pairs of a left side of one sample and a right side of another.

    Attributes:
        left: ``[P]`` indices of the samples of the left sides.
        right: ``[P]`` indices of the samples of the right sides.
        y: ``[P, 1]``, 1 for matching pairs, 0 for the others.
        groups: ``[P]`` groups of the left sides.
        on_left: ``[M]`` Bool, True for modalities of the left side.
    """

    left: Tensor
    right: Tensor
    y: Tensor
    groups: Tensor
    on_left: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weight(self) -> Tensor:
        """Weights of pairs ``[P]``: matching pairs have half of the total weight."""
        match = self.y[:, 0]
        return 0.5 / torch.where(match > 0, match.mean(), 1 - match.mean())

    def of(self, values: Tensor) -> Tensor:
        """Return the values of pairs ``[P, M, ...]``, given those of samples."""
        on_left = self.on_left.view(-1, *(1,) * (values.ndim - 2))
        return torch.where(on_left, values[self.left], values[self.right])


def draw_training_pairs(
    pool: MatchPool,
    fitted: FittedSpace,
    samples: EmbeddingTrainingData,
    negatives: int,
    generator: torch.Generator,
) -> Pairs:
    """Draw matching pairs, and negatives from samples of one fold.

    Args:
        pool: Pool that defines the sides and their similarity.
        fitted: Fitted space, with out-of-sample evidence.
        samples: Training samples; samples of one group are never negatives.
        negatives: Number of negatives of each kind, see :func:`draw_pairs`.
        generator: Random generator.
    """
    order = torch.randperm(len(samples.groups), generator=generator)
    rows = order[:MAX_SAMPLES].sort().values
    present = fitted.present[rows]
    sides = pool.left, ~pool.left
    valid = torch.stack([(present & side).any(1) for side in sides], dim=1)
    z = pool.sides(fitted.evidence[rows][:, :, None], present)
    group, fold = samples.groups[rows], samples.folds[rows]
    allowed = (group[:, None] != group) & (fold[:, None] == fold)
    a, b, y = draw_pairs(z[0] @ z[1].T, allowed, valid, negatives, generator)
    return Pairs(rows[a], rows[b], y, group[a], pool.left)


def draw_pairs(
    similarity: Tensor,
    allowed: Tensor,
    valid: Tensor,
    negatives: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw random and hard negatives for each sample.

    Hard negatives are drawn with probabilities that increase with similarity.

    Args:
        similarity: ``[N, N]`` similarity of left sides to right sides.
        allowed: ``[N, N]`` Bool, True for valid negatives.
        valid: ``[N, 2]`` Bool, which side of a sample is present.
        negatives: Number of negatives of each kind for each sample.
        generator: Random generator.

    Returns:
        Indices of left and right samples, ``[P]`` each, and ``[P, 1]``, 1 for matching
        pairs.

    References:
        Align before Fuse, Li et al., 2021 (hard negatives from a multinomial of
        similarities; positives are masked).
    """
    left, right = (torch.nonzero(valid[:, side])[:, 0] for side in (0, 1))
    both = torch.nonzero(valid.all(1))[:, 0]
    rows, columns = [both], [both]
    allowed = allowed[left][:, right]
    has_negative = allowed.any(1)
    left, allowed = left[has_negative], allowed[has_negative]
    candidates = similarity[left][:, right]
    for scale in (0.0, INVERSE_TEMPERATURE) if len(left) else ():
        logits = (scale * candidates).masked_fill(~allowed, -torch.inf)
        drawn = torch.multinomial(
            logits.softmax(1), negatives, replacement=True, generator=generator
        )
        rows.append(left.repeat_interleave(negatives))
        columns.append(right[drawn.flatten()])
    a, b = torch.cat(rows), torch.cat(columns)
    y = torch.zeros(len(a), 1)
    y[: len(both)] = 1
    return a, b, y
