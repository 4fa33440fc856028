"""Objectives that bring together what belongs together, over pairs that are valid.

Letters: ``A`` and ``B`` the two sides that are compared; ``...`` are the members of an
ensemble. Scores are logits: similarity times a temperature, plus a bias. A pair that is
not ``valid`` (one of its sides is missing) is not read.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmgraph.losses.pointwise import weighted_mean


def info_nce(
    scores: Float[Tensor, "... A B"],
    positive: Bool[Tensor, "A B"],
    valid: Bool[Tensor, "A B"],
) -> Float[Tensor, "..."]:
    """Tell each side's partner among all candidates, in both directions.

    ``-log (exp s_ij / sum_k exp s_ik)``, averaged over the valid positives j of each i,
    over all i that have one, and over both directions. The denominator sums over all
    valid candidates. Without a valid positive it is zero, with zero gradients.

    References:
        Representation Learning with Contrastive Predictive Coding, van den Oord, Li,
        Vinyals, 2018. Supervised Contrastive Learning, Khosla et al., 2020 (several
        positives, averaged outside of the logarithm).

    Args:
        scores: Logits.
        positive: What belongs together.
        valid: Pairs both of whose sides are present.
    """
    there = _mean_of_some(*_partner_loss(scores, positive, valid))
    back = _partner_loss(scores.transpose(-1, -2), positive.T, valid.T)
    return (there + _mean_of_some(*back)) / 2


def _partner_loss(
    scores: Float[Tensor, "... A B"],
    positive: Bool[Tensor, "A B"],
    valid: Bool[Tensor, "A B"],
) -> tuple[Float[Tensor, "... A"], Bool[Tensor, " A"]]:
    """Return the loss of each row alone, in one direction, and whether it counts.

    A row without a valid positive does not count; its loss is zero.
    """
    has_one = (positive & valid).any(-1)
    if not scores.shape[-1]:
        return scores.sum(-1), has_one
    clean = torch.where(valid, scores, torch.finfo(scores.dtype).min)
    share = torch.where(valid, clean.log_softmax(-1), 0)
    weight = (positive & valid).to(scores.dtype).expand_as(share)
    return -weighted_mean(share, weight), has_one


def _mean_of_some(
    loss: Float[Tensor, "... A"], some: Bool[Tensor, " A"]
) -> Float[Tensor, "..."]:
    return weighted_mean(loss, some.to(loss.dtype).expand_as(loss))


def sigmoid_contrastive(
    scores: Float[Tensor, "... A B"],
    positive: Bool[Tensor, "A B"],
    valid: Bool[Tensor, "A B"],
) -> Float[Tensor, "..."]:
    """Decide for each pair alone whether it belongs together (SigLIP).

    ``-sum log sigmoid(+-s_ij)`` over valid pairs, by the mean number of rows and of
    columns that have one. A row whose partner is missing still gives negatives, so that
    incomplete samples are used too.

    References:
        Sigmoid Loss for Language Image Pre-Training, Zhai, Mustafa, Kolesnikov, Beyer,
        2023.

    Args:
        scores: Logits.
        positive: What belongs together.
        valid: Pairs both of whose sides are present.
    """
    sign = torch.where(positive, 1, -1).to(scores.dtype)
    loss = -F.logsigmoid(sign * torch.where(valid, scores, 0))
    total = torch.where(valid, loss, 0).sum((-1, -2))
    count = (valid.any(-1).sum() + valid.any(-2).sum()) / 2
    return total / count.clamp(min=0.5)
