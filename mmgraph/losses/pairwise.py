"""Contrastive losses over valid pairs.

Letters: ``A`` and ``B`` are the numbers of entries of the two sides; ``...`` are the
members of an ensemble. Scores are logits: similarity times an inverse temperature, plus
a bias. A pair that is not valid, because one of its sides is missing, is not read.
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
    """Return the symmetric InfoNCE loss with possibly several positives.

    ``-log (exp s_ij / sum_k exp s_ik)``, averaged over the valid positives j of each i,
    over all i with a valid positive, and over both directions. The denominator sums
    over all valid candidates k.

    References:
        Representation Learning with Contrastive Predictive Coding, van den Oord, Li,
        Vinyals, 2018, arXiv 1807.03748. Supervised Contrastive Learning, Khosla et al.,
        2020, arXiv 2004.11362 (several positives, averaged outside of the logarithm).

    Args:
        scores: Logits.
        positive: True for pairs that belong together.
        valid: True for pairs with both sides present.

    Returns:
        The loss of each ensemble member; zero, with zero gradients, without a valid
        positive.
    """
    forward = _one_direction(scores, positive, valid)
    backward = _one_direction(scores.transpose(-1, -2), positive.T, valid.T)
    return (forward + backward) / 2


def _one_direction(
    scores: Float[Tensor, "... A B"],
    positive: Bool[Tensor, "A B"],
    valid: Bool[Tensor, "A B"],
) -> Float[Tensor, "..."]:
    """Return the loss from A to B: the mean over rows with a valid positive."""
    counted = (positive & valid).any(-1).to(scores.dtype)
    if scores.shape[-1]:
        clean = torch.where(valid, scores, torch.finfo(scores.dtype).min)
        log_proba = torch.where(valid, clean.log_softmax(-1), 0)
        weight = (positive & valid).to(scores.dtype).expand_as(log_proba)
        loss = -weighted_mean(log_proba, weight)
    else:
        loss = scores.sum(-1)
    return weighted_mean(loss, counted.expand_as(loss))


def sigmoid_contrastive(
    scores: Float[Tensor, "... A B"],
    positive: Bool[Tensor, "A B"],
    valid: Bool[Tensor, "A B"],
) -> Float[Tensor, "..."]:
    """Return the pairwise sigmoid loss of SigLIP.

    ``-sum log sigmoid(+-s_ij)`` over valid pairs, divided by the mean of the numbers of
    rows and of columns with a valid pair. An entry without its partner still provides
    negatives, so that incomplete samples contribute.

    References:
        Sigmoid Loss for Language Image Pre-Training, Zhai, Mustafa, Kolesnikov, Beyer,
        2023, arXiv 2303.15343.

    Args:
        scores: Logits.
        positive: True for pairs that belong together.
        valid: True for pairs with both sides present.

    Returns:
        The loss of each ensemble member; zero, with zero gradients, without a valid
        positive.
    """
    sign = torch.where(positive, 1, -1).to(scores.dtype)
    loss = -F.logsigmoid(sign * torch.where(valid, scores, 0))
    total = torch.where(valid, loss, 0).sum((-1, -2))
    count = (valid.any(-1).sum() + valid.any(-2).sum()) / 2
    return total / count.clamp(min=0.5)
