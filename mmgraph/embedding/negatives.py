"""Pairs of samples that a matcher learns from.

Letters: ``N`` samples, ``P`` pairs, ``M`` modalities of both sides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph.embedding.fit import FittedSpace
from mmgraph.embedding.matching import MatchPool
from mmgraph.embedding.training_data import EmbeddingTrainingData

MAX_SAMPLES = 4000  # that pairs are drawn from
SHARPNESS = 15.0  # of the softmax that hard negatives are drawn from


@dataclass(frozen=True)
class Pairs:
    """Left sides of samples with right sides of samples.

    Attributes:
        left: ``[P]`` numbers of the samples whose left side is taken.
        right: ``[P]`` the same of the right side.
        y: ``[P, 1]`` 1 where they belong together, else 0.
        groups: ``[P]`` groups of the left sides.
        on_left: ``[M]`` Bool, which modalities are of the left side.
    """

    left: Tensor
    right: Tensor
    y: Tensor
    groups: Tensor
    on_left: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def share(self) -> Tensor:
        """``[P]`` what a pair counts: pairs that match as much as the others."""
        match = self.y[:, 0]
        return 0.5 / torch.where(match > 0, match.mean(), 1 - match.mean())

    def of(self, values: Tensor) -> Tensor:
        """Turn what is known of samples ``[N, M, ...]`` into that of pairs."""
        on_left = self.on_left.view(-1, *(1,) * (values.ndim - 2))
        return torch.where(on_left, values[self.left], values[self.right])


def draw_training_pairs(
    pool: MatchPool,
    fitted: FittedSpace,
    samples: EmbeddingTrainingData,
    negatives: int,
    generator: torch.Generator,
) -> Pairs:
    """Draw pairs of samples that match, and of samples of one fold that do not.

    Args:
        pool: Knows the sides, and how near they are.
        fitted: What the space says out of sample.
        samples: Groups and folds; one group never gives a pair that does not match.
        negatives: Of each kind, see :func:`draw_pairs`.
        generator: Randomness.
    """
    order = torch.randperm(len(samples.groups), generator=generator)
    rows = order[:MAX_SAMPLES].sort().values
    present = fitted.present[rows]
    sides = pool.left, ~pool.left
    valid = torch.stack([(present & side).any(1) for side in sides], dim=1)
    z = pool.sides(fitted.evidence[rows][:, :, None], present)
    group, fold = samples.groups[rows], samples.folds[rows]
    apart = (group[:, None] != group) & (fold[:, None] == fold)
    a, b, y = draw_pairs(z[0] @ z[1].T, apart, valid, negatives, generator)
    return Pairs(rows[a], rows[b], y, group[a], pool.left)


def draw_pairs(
    similarity: Tensor,
    apart: Tensor,
    valid: Tensor,
    negatives: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw negatives for each sample, half at random and half among the most similar.

    References:
        Align before Fuse, Li et al., 2021 (hard negatives by similarity, from a
        multinomial; what belongs together is masked).

    Args:
        similarity: ``[N, N]`` of left sides to right sides.
        apart: ``[N, N]`` Bool, which samples may be each other's negatives.
        valid: ``[N, 2]`` Bool, which side of a sample is present.
        negatives: Of each kind, for each sample.
        generator: Randomness.

    Returns:
        Left and right sample numbers ``[P]``, and ``[P, 1]`` 1 where they match.
    """
    left, right = (torch.nonzero(valid[:, side])[:, 0] for side in (0, 1))
    both = torch.nonzero(valid.all(1))[:, 0]
    rows, columns = [both], [both]
    apart = apart[left][:, right]
    partners = apart.any(1)
    left, apart = left[partners], apart[partners]
    near = similarity[left][:, right]
    for sharpness in (0.0, SHARPNESS) if len(left) else ():
        logits = (sharpness * near).masked_fill(~apart, -torch.inf)
        drawn = torch.multinomial(
            logits.softmax(1), negatives, replacement=True, generator=generator
        )
        rows.append(left.repeat_interleave(negatives))
        columns.append(right[drawn.flatten()])
    a, b = torch.cat(rows), torch.cat(columns)
    y = torch.zeros(len(a), 1)
    y[: len(both)] = 1
    return a, b, y
