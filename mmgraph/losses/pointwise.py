"""Objectives for labels and targets, over what is known.

Letters: ``B`` samples, ``K`` outputs; ``...`` are the members of an ensemble.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class LossSums(NamedTuple):
    """A loss as a function of sums over rows, which add up over parts of a batch.

    Attributes:
        sums: ``[..., S]``.
        of_sums: Maps them to the loss ``[...]``.
    """

    sums: Tensor
    of_sums: Callable[[Tensor], Tensor]

    @property
    def loss(self) -> Tensor:
        """The loss ``[...]`` of these rows alone."""
        return self.of_sums(self.sums)


def ratio(total: Tensor, weight: Tensor) -> Tensor:
    """Divide; zero, with zero gradients, where nothing was weighed."""
    return total / weight.clamp(min=torch.finfo(total.dtype).tiny)


def label_weight(y: Tensor, weight: Float[Tensor, "... B"]) -> Float[Tensor, "..."]:
    """Return what a mean over labels divides by: the weight of those that are known.

    Args:
        y: ``[B]`` classes, -1 where unknown, or ``[B, K]`` numbers, NaN where unknown.
        weight: Of each sample.
    """
    if y.is_floating_point():
        return (weight * (~y.isnan()).sum(-1)).sum(-1)
    return (weight * (y >= 0)).sum(-1)


def weighted_mean(
    x: Float[Tensor, "... B"], weight: Float[Tensor, "... B"]
) -> Float[Tensor, "..."]:
    """Average along the last axis; zero, with zero gradients, where weights are."""
    return ratio((x * weight).sum(-1), weight.sum(-1))


def cross_entropy(
    logits: Float[Tensor, "... B K"],
    y: Int[Tensor, " B"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Mean negative log-likelihood of classes; a class of -1 is not labeled.

    Args:
        logits: Unnormalized scores.
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
    """Mean over labeled cells of the logistic loss; a NaN label is not labeled."""
    valid = _valid(y, weight)
    target = torch.where(y.isnan(), 0, y).expand(logits.shape)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return weighted_mean(loss.flatten(-2), valid.expand_as(loss).flatten(-2))


def squared_error(
    prediction: Float[Tensor, "... B K"],
    y: Float[Tensor, "B K"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Mean over labeled cells of the squared error; a NaN target is not labeled."""
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
) -> LossSums:
    """Half the mean of ``exp(-s) (mean - target)^2 + s``; zero without rows.

    The target is detached: it is what the mean has to meet, not the reverse.
    """
    error = (mean - target.detach()).square()
    cells = (-log_variance).exp() * error + log_variance
    total = at_least_float(cells).sum((-1, -2))
    count = torch.full_like(total, mean.shape[-2] * mean.shape[-1])
    return LossSums(torch.stack([total, count], -1), _half_ratio)


def masked_squared_error(
    prediction: Float[Tensor, "... N C"],
    target: Float[Tensor, "N C"],
    valid: Bool[Tensor, "N C"],
) -> LossSums:
    """Mean squared error over valid cells; the target is detached."""
    error = at_least_float(prediction - torch.where(valid, target, 0).detach())
    weight = valid.to(error.dtype).expand_as(error)
    total = (error.square() * weight).flatten(-2).sum(-1)
    return LossSums(torch.stack([total, weight.flatten(-2).sum(-1)], -1), _ratio)


def _ratio(sums: Tensor) -> Tensor:
    return ratio(sums[..., 0], sums[..., 1])


def _half_ratio(sums: Tensor) -> Tensor:
    return 0.5 * _ratio(sums)


def at_least_float(x: Tensor) -> Tensor:
    """Return float32 where the type is narrower: sums count rows exactly."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
