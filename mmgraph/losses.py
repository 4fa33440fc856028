"""Objectives over what is valid. A loss without a valid term is zero.

Letters: ``B`` samples, ``K`` outputs; ``...`` are the members of an ensemble.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def weighted_mean(
    x: Float[Tensor, "... B"], weight: Float[Tensor, "... B"]
) -> Float[Tensor, "..."]:
    """Average along the last axis; zero, with zero gradients, where weights are."""
    total = (x * weight).sum(-1)
    return total / weight.sum(-1).clamp(min=torch.finfo(x.dtype).tiny)


def cross_entropy(
    logits: Float[Tensor, "... B K"],
    y: Int[Tensor, " B"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Mean negative log-likelihood of classes; a class of -1 is not labelled.

    Args:
        logits: Unnormalised scores.
        y: Classes, -1 where unknown.
        weight: Of each sample, default one.
    """
    valid = (y >= 0).to(logits.dtype)
    picked = y.clamp(min=0).expand(logits.shape[:-1])[..., None]
    loss = -logits.log_softmax(-1).gather(-1, picked)[..., 0]
    return weighted_mean(loss, valid if weight is None else weight * valid)


def binary_cross_entropy(
    logits: Float[Tensor, "... B K"],
    y: Float[Tensor, "B K"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Mean over labelled cells of the logistic loss; a NaN label is not labelled."""
    valid = _valid(y, weight)
    target = torch.where(y.isnan(), 0, y).expand(logits.shape)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return weighted_mean(loss.flatten(-2), valid.expand_as(loss).flatten(-2))


def squared_error(
    prediction: Float[Tensor, "... B K"],
    y: Float[Tensor, "B K"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Mean over labelled cells of the squared error; a NaN target is not labelled."""
    valid = _valid(y, weight)
    loss = (prediction - torch.where(y.isnan(), 0, y)).square()
    return weighted_mean(loss.flatten(-2), valid.expand_as(loss).flatten(-2))


def _valid(
    y: Float[Tensor, "B K"], weight: Float[Tensor, "... B"] | None
) -> Float[Tensor, "... B K"]:
    valid = (~y.isnan()).to(y.dtype)
    return valid if weight is None else valid * weight[..., None]


def gaussian_nll(
    mean: Float[Tensor, "... N D"],
    log_variance: Float[Tensor, "... N D"],
    target: Float[Tensor, "... N D"],
) -> Float[Tensor, "..."]:
    """Half the mean of ``exp(-s) (mean - target)^2 + s``; zero without rows.

    The target is detached: it is what the mean has to meet, not the reverse.
    """
    if not mean.shape[-2]:
        return (mean.sum((-1, -2)) + log_variance.sum((-1, -2))) * 0
    error = (mean - target.detach()).square()
    return 0.5 * ((-log_variance).exp() * error + log_variance).mean((-1, -2))


def masked_squared_error(
    prediction: Float[Tensor, "... N C"],
    target: Float[Tensor, "N C"],
    valid: Bool[Tensor, "N C"],
) -> Float[Tensor, "..."]:
    """Mean squared error over valid cells; the target is detached."""
    error = (prediction - torch.where(valid, target, 0).detach()).square()
    weight = valid.to(error.dtype).expand_as(error)
    return weighted_mean(error.flatten(-2), weight.flatten(-2))
