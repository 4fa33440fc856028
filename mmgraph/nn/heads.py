"""Tasks, and the map from a sample's state to their outputs.

Letters: ``B`` samples, ``K`` outputs, ``D`` width.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.losses import binary_cross_entropy, cross_entropy, squared_error
from mmgraph.nn.linear import Linear

__all__ = ["Classification", "Head", "MultiLabel", "Regression", "Task"]


@dataclass(frozen=True)
class Classification:
    """One of ``num_classes`` classes; ``y [B]`` whole numbers, -1 where unknown."""

    num_classes: int

    def __post_init__(self) -> None:
        _at_least_one("Classification", "class", self.num_classes)

    @property
    def out_channels(self) -> int:
        """Number of logits."""
        return self.num_classes

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy over labeled samples."""
        return cross_entropy(logits, y, weight)

    def log_prior(self, y: Tensor) -> Tensor:
        """Smoothed log frequencies ``[K]`` of the classes among labeled samples."""
        counts = torch.bincount(y[y >= 0], minlength=self.num_classes) + 0.5
        return (counts / counts.sum()).log()

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities that sum to one."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class MultiLabel:
    """Any of ``num_labels`` labels; ``y [B, K]`` 0 or 1, NaN where unknown."""

    num_labels: int

    def __post_init__(self) -> None:
        _at_least_one("MultiLabel", "label", self.num_labels)

    @property
    def out_channels(self) -> int:
        """Number of logits."""
        return self.num_labels

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Logistic loss over labeled cells."""
        return binary_cross_entropy(logits, y, weight)

    def activate(self, logits: Tensor) -> Tensor:
        """Probability of each label."""
        return logits.sigmoid()


@dataclass(frozen=True)
class Regression:
    """Real targets; ``y [B, K]``, NaN where unknown."""

    num_targets: int = 1

    def __post_init__(self) -> None:
        _at_least_one("Regression", "target", self.num_targets)

    @property
    def out_channels(self) -> int:
        """Number of predictions."""
        return self.num_targets

    def loss(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Squared error over known targets."""
        return squared_error(logits, y, weight)

    def activate(self, logits: Tensor) -> Tensor:
        """Predictions, as they are."""
        return logits


Task: TypeAlias = Classification | MultiLabel | Regression


class Head(nn.Module):
    """An affine map whose weights begin at a tenth of the usual size."""

    def __init__(
        self, in_channels: int, task: Task, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(in_channels, task.out_channels, members=members, scale=0.1)

    def forward(self, z: Tensor) -> Tensor:
        """Map ``[..., B, D]`` to ``[..., B, K]``."""
        return self.linear(z)


def _at_least_one(task: str, unit: str, count: int) -> None:
    if count < 1:
        raise SchemaError(f"{task} must have at least 1 {unit}, got {count}.")
