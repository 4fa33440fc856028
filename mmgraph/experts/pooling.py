"""Fit of the log-linear opinion pool on out-of-fold evidence.

Letters: ``M`` modalities, ``X`` base learners of a modality, ``K`` classes, ``P``
patterns of present modalities.
"""

from typing import Any

import torch
from torch import Tensor

from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.stacking import Evidence
from mmgraph.experts.submodels import ConvolutionExpert, PriorExpert, Submodels
from mmgraph.missing import modality_dropout
from mmgraph.nn.evidence_pool import EvidencePool, SubmodelPool
from mmgraph.nn.heads import Classification, Task
from mmgraph.optim import minimize

POOL_MASKS, MAX_ITERATIONS = 4, 100
POOL_PENALTY = 1.0  # on the scale of the summed loss
SUBMODEL_WEIGHT = 0.7
MAX_PATTERNS, MIN_PATTERN_COUNT = 64, 5


def fit_pool(
    evidence: Evidence,
    y: Tensor,
    task: Task,
    *,
    seed: int = 0,
    weight: Tensor | None = None,
) -> EvidencePool:
    """Fit the weights of a log-linear opinion pool on out-of-fold evidence.

    The loss is averaged over the observed modalities and four random subsets of them,
    so that the pool is calibrated for fewer modalities, too. Without base learners, the
    pool is the prior.

    Args:
        evidence: Out-of-fold evidence of the base learners.
        y: Encoded targets.
        task: Prediction task.
        seed: Seed of the random subsets.
        weight: ``[N]`` sample weights; None weights all samples equally.

    References:
        Combining Probability Distributions: A Critique and an Annotated Bibliography,
        Genest, Zidek, 1986 (logarithmic opinion pools).
    """
    _, num_modalities, num_experts, width = evidence.out_of_fold.shape
    patterns = frequent_patterns(evidence.present)
    learners = num_experts + len(evidence.joint)
    patterns = patterns if learners else patterns[:0]
    options: dict[str, Any] = {
        "num_joint": len(evidence.joint),
        "num_patterns": len(patterns),
        "init_weights": init_weights(evidence, task),
    }
    sizes = num_modalities, num_experts, width
    if evidence.submodel_scores is None:
        pool = EvidencePool(*sizes, **options)
    else:
        pool = SubmodelPool(*sizes, **options, init_joint=init_joint(evidence))
    pool.prior.copy_(evidence.prior)
    pool.patterns.copy_(patterns)
    if not learners:
        return pool.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    masks = [evidence.present] + [
        modality_dropout(evidence.present, 0.5, generator) for _ in range(POOL_MASKS)
    ]
    inputs = [(mask, evidence.joint_evidence(mask)) for mask in masks]

    total = len(y) if weight is None else float(weight.sum())

    def loss() -> Tensor:
        losses = [
            task.loss(pool(evidence.out_of_fold, mask, joint), y, weight)
            for mask, joint in inputs
        ]
        return torch.stack(losses).mean() + POOL_PENALTY * pool.penalty() / total

    minimize(pool.parameters(), loss, MAX_ITERATIONS)
    return pool.requires_grad_(False)


def init_weights(evidence: Evidence, task: Task) -> list[float]:
    """Return the initial weights of the base learners, ``X`` weights with sum one.

    Linear learners have separate coefficients for each of ``K`` classes, while the
    classes share the splits of trees, and the penalty and slope of convolutions: these
    have ``K / 2`` times the weight of the others.
    """
    of_trees = task.num_classes / 2 if isinstance(task, Classification) else 1.0
    experts = evidence.experts[0].children()
    shared = TreeExpert, ConvolutionExpert, PriorExpert
    weights = [of_trees if isinstance(e, shared) else 1.0 for e in experts]
    return [weight / sum(weights) for weight in weights]


def init_joint(evidence: Evidence) -> list[float]:
    """Return the initial weights of base learners of all modalities.

    Submodels have the weight 0.7, and all others 0.3 together.
    """
    others = max(len(evidence.joint) - 1, 1)
    return [
        SUBMODEL_WEIGHT if isinstance(e, Submodels) else (1 - SUBMODEL_WEIGHT) / others
        for e in evidence.joint
    ]


def frequent_patterns(present: Tensor) -> Tensor:
    """Return the most frequent patterns of present modalities, ``[P, M]`` Bool.

    These are up to 64 patterns with at least five samples; none if all samples have the
    same pattern, which then carries no information.
    """
    patterns, count = torch.unique(present, dim=0, return_counts=True)
    if len(patterns) == 1:
        return patterns[:0]
    order = torch.argsort(count, descending=True, stable=True)[:MAX_PATTERNS]
    return patterns[order[count[order] >= MIN_PATTERN_COUNT]]
