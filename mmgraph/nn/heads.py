"""Prediction tasks, and the linear head from sample states to their outputs.

Letters: ``B`` samples, ``K`` outputs, ``D`` width.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.losses import (
    binary_cross_entropy,
    cross_entropy,
    relative_hazard,
    squared_error,
)
from mmgraph.nn.linear import Linear

__all__ = ["Classification", "Head", "MultiLabel", "Regression", "Survival", "Task"]


@dataclass(frozen=True)
class Classification:
    """Single-label classification.

    Labels are ``y [B]`` of class indices, -1 where unknown; the loss is the
    cross-entropy.

    Attributes:
        num_classes: Number of classes, ``K``, at least 1.

    Raises:
        SchemaError: If ``num_classes`` is below 1.

    Example:
        >>> task = nn.Classification(num_classes=3)
        >>> logits = torch.zeros(2, 3)
        >>> task.activate(logits).sum(1).tolist()
        [1.0, 1.0]
        >>> loss = task.loss(logits, torch.tensor([2, -1]))  # one label is unknown
        >>> torch.isclose(loss, torch.tensor(3.0).log())
        tensor(True)
    """

    num_classes: int

    def __post_init__(self) -> None:
        _at_least_one("Classification", "class", self.num_classes)

    @property
    def out_channels(self) -> int:
        """Number of logits, ``K``."""
        return self.num_classes

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy ``[...]`` over labeled samples.

        Args:
            logits: ``[..., B, K]``.
            y: ``[B]`` class indices, -1 where unknown.
            weight: ``[..., B]`` sample weights; None weights all samples equally.
        """
        return cross_entropy(logits, y, weight)

    def log_prior(self, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the log class frequencies ``[K]``, with a pseudo-count of 0.5.

        Args:
            y: ``[B]`` class indices, -1 where unknown.
            weight: ``[B]`` sample weights; None counts samples.
        """
        known = y >= 0
        weights = None if weight is None else weight[known]
        counts = torch.bincount(y[known], weights, minlength=self.num_classes) + 0.5
        return (counts / counts.sum()).log()

    def activate(self, logits: Tensor) -> Tensor:
        """Return class probabilities ``[..., B, K]``."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class MultiLabel:
    """Multi-label classification.

    Labels are ``y [B, K]`` of 0 or 1, NaN where unknown; the loss is the binary
    cross-entropy of each label.

    Attributes:
        num_labels: Number of labels, ``K``, at least 1.

    Raises:
        SchemaError: If ``num_labels`` is below 1.

    Example:
        >>> task = nn.MultiLabel(num_labels=2)
        >>> task.activate(torch.zeros(1, 2)).tolist()
        [[0.5, 0.5]]
    """

    num_labels: int

    def __post_init__(self) -> None:
        _at_least_one("MultiLabel", "label", self.num_labels)

    @property
    def out_channels(self) -> int:
        """Number of logits, ``K``."""
        return self.num_labels

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean binary cross-entropy ``[...]`` over labeled cells."""
        return binary_cross_entropy(logits, y, weight)

    def activate(self, logits: Tensor) -> Tensor:
        """Return the probability ``[..., B, K]`` of each label."""
        return logits.sigmoid()


@dataclass(frozen=True)
class Regression:
    """Regression of one or several targets.

    Targets are ``y [B, K]``, NaN where unknown; the loss is the squared error.

    Attributes:
        num_targets: Number of targets, ``K``, at least 1.

    Raises:
        SchemaError: If ``num_targets`` is below 1.

    Example:
        >>> task = nn.Regression()
        >>> y = torch.tensor([[1.0], [float("nan")]])  # the second target is unknown
        >>> float(task.loss(torch.zeros(2, 1), y))
        1.0
    """

    num_targets: int = 1

    def __post_init__(self) -> None:
        _at_least_one("Regression", "target", self.num_targets)

    @property
    def out_channels(self) -> int:
        """Number of predictions, ``K``."""
        return self.num_targets

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean squared error ``[...]`` over known targets."""
        return squared_error(logits, y, weight)

    def activate(self, logits: Tensor) -> Tensor:
        """Return the predictions ``[..., B, K]`` unchanged."""
        return logits


@dataclass(frozen=True)
class Survival:
    r"""Time to an event that is not observed for every sample (right censoring).

    The output is the log relative hazard :math:`f` of the proportional hazards model
    with a given baseline, :math:`h(t | x) = h_0(t) \exp f(x)`. Targets are
    ``y [B, 2]``: whether the event was observed, 0 or 1, and the exposure, the
    cumulative baseline hazard :math:`H_0(t)` up to the time of the event or of
    censoring; NaN where unknown. The loss is the negative log-likelihood
    :math:`H_0(t) \exp f - d f`: that of a Poisson count of events. Unlike the partial
    likelihood of Cox, it is a sum over samples, so that batches, trees and boosting
    minimize it, too.

    References:
        Relative Risk Trees for Censored Survival Data, LeBlanc, Crowley, 1992.
        Covariance Analysis of Censored Survival Data, Breslow, 1974.

    Example:
        >>> task = nn.Survival()
        >>> y = torch.tensor([[1.0, 0.5], [0.0, 1.5]])  # one event, one censored
        >>> float(task.loss(torch.zeros(2, 1), y))
        1.0
    """

    @property
    def out_channels(self) -> int:
        """Number of outputs: the log relative hazard."""
        return 1

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood ``[...]`` over known targets."""
        return relative_hazard(logits, y, weight)

    def activate(self, logits: Tensor) -> Tensor:
        """Return the log relative hazard ``[..., B, 1]`` unchanged."""
        return logits


Task: TypeAlias = Classification | MultiLabel | Regression | Survival


class Head(nn.Module):
    """Linear head, initialized close to zero.

    The initial weights are a tenth of those of :class:`mmgraph.nn.linear.Linear`, so
    that training begins at the bias.

    Args:
        in_channels: ``D``.
        task: Task whose number of outputs is ``K``.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> head = nn.Head(16, nn.Classification(num_classes=3))
        >>> head(torch.randn(5, 16)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, in_channels: int, task: Task, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(in_channels, task.out_channels, members=members, scale=0.1)

    def forward(self, z: Tensor) -> Tensor:
        """Return the logits ``[..., B, K]`` of sample states ``[..., B, D]``."""
        return self.linear(z)


def _at_least_one(task: str, unit: str, count: int) -> None:
    if count < 1:
        raise SchemaError(f"{task} must have at least 1 {unit}, got {count}.")
