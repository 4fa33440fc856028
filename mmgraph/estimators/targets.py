"""What experts are fitted to: targets, and the space in which evidence adds up.

Letters: ``N`` samples, ``K`` outputs.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.nn.heads import Classification, MultiLabel, Task


def link_of(task: Task) -> Literal["softmax", "sigmoid", "identity"]:
    """Return the space in which evidence of a task adds up."""
    if isinstance(task, Classification):
        return "softmax"
    return "sigmoid" if isinstance(task, MultiLabel) else "identity"


def prior_of(task: Task, y: Tensor) -> Tensor:
    """Return the prior ``[K]`` in the space of the link, from the training targets."""
    if isinstance(task, Classification):
        return task.log_prior(y)
    known = ~y.isnan()
    total = torch.where(known, y, 0).sum(0)
    if isinstance(task, MultiLabel):
        return ((total + 0.5) / (known.sum(0) + 1)).logit()
    return total / known.sum(0).clamp(min=1)


def targets_of(y: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Return targets ``[N, K]`` and the weight ``[N]`` of each row.

    Classes are one-hot. A row with a missing label has weight zero.
    """
    if isinstance(task, Classification):
        return F.one_hot(y, task.num_classes).float(), torch.ones(len(y))
    known = (~y.isnan()).all(1).float()
    return torch.where(y.isnan(), 0, y), known
