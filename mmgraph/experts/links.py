"""Link functions: the scale on which evidence of base learners is added.

Evidence is added as log-probabilities (softmax), logits (sigmoid), log hazards (log) or
values (identity).
Which base learners there are depends on the level of fusion.

Letters: ``N`` samples, ``K`` outputs.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.nn.heads import Classification, MultiLabel, Survival, Task

Link: TypeAlias = Literal["softmax", "sigmoid", "log", "identity"]
ExpertKind: TypeAlias = Literal[
    "linear", "spline", "forest", "convolution", "joint", "submodels", "relations"
]
EXPERT_KINDS: tuple[ExpertKind, ...] = get_args(ExpertKind)
JOINT_KINDS: tuple[ExpertKind, ...] = "joint", "submodels", "relations"
Level: TypeAlias = Literal["all", "data", "feature", "model"]
GRAPH_LEVELS: tuple[Level, ...] = "all", "feature"
GraphSwitch: TypeAlias = bool | Literal["only"]
FittedExperts: TypeAlias = list[tuple[Tensor, nn.Module]]
"""Out-of-fold scores ``[n, K]`` and base learner, for each base learner."""

SMALLEST_PROBABILITY = 1e-4
LARGEST_HAZARD = 1e3  # relative to the baseline; the smallest is its inverse


def kinds_of_level(kinds: Sequence[ExpertKind], level: Level) -> tuple[ExpertKind, ...]:
    """Return the kinds of base learners that a level of fusion uses."""
    joint = [kind for kind in kinds if kind in JOINT_KINDS]
    single = [kind for kind in kinds if kind not in JOINT_KINDS]
    used = {"all": kinds, "data": joint, "feature": (), "model": single}
    return tuple(used[level])


def link_of(task: Task) -> Link:
    """Return the link function of a task."""
    if isinstance(task, Classification):
        return "softmax"
    if isinstance(task, Survival):
        return "log"
    return "sigmoid" if isinstance(task, MultiLabel) else "identity"


def prior_of(task: Task, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the prior scores ``[K]`` of training targets, on the scale of the link.

    Args:
        task: Prediction task.
        y: Encoded targets.
        weight: ``[N]`` sample weights; None weights all samples equally.
    """
    if isinstance(task, Classification):
        return task.log_prior(y, weight)
    if isinstance(task, Survival):
        event, exposure = _sum_rows(y, weight)
        return ((event + 0.5) / (exposure + 0.5)).log()[None]
    known = ~y.isnan()
    values, count = torch.where(known, y, 0), known
    if weight is not None:
        values, count = values * weight[:, None], known * weight[:, None]
    total = values.sum(0)
    if isinstance(task, MultiLabel):
        return ((total + 0.5) / (count.sum(0) + 1)).logit()
    count = count.sum(0)
    return total / (count.clamp(min=1) if weight is None else count.where(count > 0, 1))


def _sum_rows(y: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weighted sums ``[K]`` of the columns over rows without NaN."""
    known = ~y.isnan().any(1)
    rows = y[known].double()
    return (rows if weight is None else rows * weight[known, None]).sum(0).to(y.dtype)


def targets_of(
    y: Tensor, task: Task, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return targets ``[N, K]`` and the weight ``[N]`` of each row.

    Classes are one-hot. A row with a missing label has weight zero. The target of a
    survival task is the number of events per exposure, and the exposure its weight:
    the Poisson deviance of these is the loss of the task.

    Args:
        y: Encoded targets.
        task: Prediction task.
        weight: ``[N]`` sample weights; None weights all samples equally.
    """
    if isinstance(task, Classification):
        target, known = F.one_hot(y, task.num_classes).float(), torch.ones(len(y))
    elif isinstance(task, Survival):
        event, known = torch.where(y.isnan().any(1, keepdim=True), 0, y).unbind(1)
        target = torch.where(known > 0, event / known, 0)[:, None]
    else:
        target, known = torch.where(y.isnan(), 0, y), (~y.isnan()).all(1).float()
    return target, known if weight is None else known * weight


def to_score(logits: Tensor, link: Link) -> Tensor:
    """Convert raw outputs to the scale of the link, with bounded probabilities."""
    if link == "identity":
        return logits
    if link == "log":
        bound = math.log(LARGEST_HAZARD)
        return logits.clamp(-bound, bound)
    bound = -math.log(SMALLEST_PROBABILITY)
    if link == "sigmoid":
        return logits.clamp(-bound, bound)
    return logits.log_softmax(-1).clamp(min=-bound)


def score_of_mean(mean: Tensor, link: Link) -> Tensor:
    """Convert averaged probabilities, hazards or values to the scale of the link."""
    if link == "identity":
        return mean
    if link == "log":
        return mean.clamp(1 / LARGEST_HAZARD, LARGEST_HAZARD).log()
    p = mean.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if link == "sigmoid":
        return p.logit()
    return (p / p.sum(-1, keepdim=True)).log()
