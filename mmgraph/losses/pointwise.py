"""Losses of predictions against labels and targets, over known values.

Letters: ``B`` samples, ``K`` outputs; ``...`` are the members of an ensemble.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class LossSums(NamedTuple):
    """A loss as a function of sums over rows.

    The sums of several parts of a batch add up to the sums of the whole batch, so that
    the loss of a batch can be computed in parts.

    Attributes:
        sums: ``[..., S]`` sums over rows.
        of_sums: Function from sums to the loss ``[...]``.
    """

    sums: Tensor
    of_sums: Callable[[Tensor], Tensor]

    @property
    def loss(self) -> Tensor:
        """Loss ``[...]`` of these rows."""
        return self.of_sums(self.sums)


def ratio(total: Tensor, weight: Tensor) -> Tensor:
    """Return ``total / weight``; zero, with zero gradients, for a weight of zero."""
    return total / weight.clamp(min=torch.finfo(total.dtype).tiny)


def label_weight(y: Tensor, weight: Float[Tensor, "... B"]) -> Float[Tensor, "..."]:
    """Return the total weight of known labels, the denominator of a mean loss.

    Args:
        y: ``[B]`` classes, -1 where unknown, or ``[B, K]`` numbers, NaN where unknown.
        weight: Weight of each sample.
    """
    if y.is_floating_point():
        return (weight * (~y.isnan()).sum(-1)).sum(-1)
    return (weight * (y >= 0)).sum(-1)


def weighted_mean(
    x: Float[Tensor, "... B"], weight: Float[Tensor, "... B"]
) -> Float[Tensor, "..."]:
    """Return the weighted mean over the last axis; zero if all weights are zero."""
    return ratio((x * weight).sum(-1), weight.sum(-1))


def cross_entropy(
    logits: Float[Tensor, "... B K"],
    y: Int[Tensor, " B"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Return the weighted mean cross-entropy over labeled samples.

    Args:
        logits: Unnormalized scores.
        y: Class indices, -1 where unknown.
        weight: Weight of each sample; None weights all equally.

    Returns:
        The loss in nats; zero, with zero gradients, without labels.

    Example:
        >>> from mmgraph import losses
        >>> loss = losses.cross_entropy(torch.zeros(2, 3), torch.tensor([2, -1]))
        >>> torch.isclose(loss, torch.tensor(3.0).log())
        tensor(True)
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
    """Return the weighted mean binary cross-entropy over labeled cells.

    Args:
        logits: Unnormalized scores.
        y: Labels 0 or 1, NaN where unknown.
        weight: Weight of each sample; None weights all equally.
    """
    valid = _valid(y, weight)
    target = torch.where(y.isnan(), 0, y).expand(logits.shape)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return weighted_mean(loss.flatten(-2), valid.expand_as(loss).flatten(-2))


def squared_error(
    prediction: Float[Tensor, "... B K"],
    y: Float[Tensor, "B K"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Return the weighted mean squared error over known targets.

    Args:
        prediction: Predictions.
        y: Targets, NaN where unknown.
        weight: Weight of each sample; None weights all equally.
    """
    valid = _valid(y, weight)
    loss = (prediction - torch.where(y.isnan(), 0, y)).square()
    return weighted_mean(loss.flatten(-2), valid.expand_as(loss).flatten(-2))


MAX_LOG_HAZARD = 15.0  # larger outputs are clamped: their exponential may overflow


def relative_hazard(
    logits: Float[Tensor, "... B 1"],
    y: Float[Tensor, "B 2"],
    weight: Float[Tensor, "... B"] | None = None,
) -> Float[Tensor, "..."]:
    """Return the mean negative log-likelihood of log relative hazards.

    ``e exp(f) - d f`` of a proportional hazards model with a given baseline, averaged
    over samples with known targets.

    Args:
        logits: Log relative hazards ``f``.
        y: Events ``d``, 0 or 1, and exposures ``e``, cumulative baseline hazards; NaN
            where unknown.
        weight: Weight of each sample; None weights all equally.

    References:
        Relative Risk Trees for Censored Survival Data, LeBlanc, Crowley, 1992.

    Example:
        >>> from mmgraph import losses
        >>> y = torch.tensor([[1.0, 0.5], [0.0, 1.5], [torch.nan, torch.nan]])
        >>> float(losses.relative_hazard(torch.zeros(3, 1), y))
        1.0
    """
    valid = (~y.isnan()).all(-1).to(logits.dtype)
    event, exposure = torch.where(y.isnan(), 0, y).unbind(-1)
    score = logits[..., 0]
    loss = exposure * score.clamp(max=MAX_LOG_HAZARD).exp() - event * score
    kept = valid if weight is None else weight * valid
    return weighted_mean(loss, kept.expand_as(loss))


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
    """Return the Gaussian negative log-likelihood, without its constant.

    ``(exp(-s) (mean - target)^2 + s) / 2`` with the log-variance s, averaged over all
    cells; zero without rows. Gradients reach the mean and the log-variance, not the
    target.
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
    """Return the mean squared error over valid cells; the target is detached."""
    error = at_least_float(prediction - torch.where(valid, target, 0).detach())
    weight = valid.to(error.dtype).expand_as(error)
    total = (error.square() * weight).flatten(-2).sum(-1)
    return LossSums(torch.stack([total, weight.flatten(-2).sum(-1)], -1), _ratio)


def _ratio(sums: Tensor) -> Tensor:
    return ratio(sums[..., 0], sums[..., 1])


def _half_ratio(sums: Tensor) -> Tensor:
    return 0.5 * _ratio(sums)


def at_least_float(x: Tensor) -> Tensor:
    """Return ``x`` in at least float32, in which sums count rows exactly."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
