"""Fitting the pool of what experts say.

Letters: ``M`` modalities, ``X`` experts a modality, ``K`` classes, ``P`` patterns of
present modalities.
"""

import torch
from torch import Tensor

from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.stacking import Evidence
from mmgraph.missing import modality_dropout
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.nn.heads import Classification, Task
from mmgraph.optim import minimize

POOL_MASKS, MAX_ITERATIONS = 4, 100
POOL_PENALTY = 1.0  # on the scale of the summed loss
MAX_PATTERNS, MIN_PATTERN_COUNT = 64, 5


def fit_pool(
    evidence: Evidence, y: Tensor, task: Task, *, seed: int = 0
) -> EvidencePool:
    """Fit how much each expert is trusted, on out-of-fold evidence.

    The fit sees the true pattern of missing modalities and four random thinnings of
    it, so that the pool is calibrated for fewer modalities too.
    """
    _, num_modalities, num_experts, width = evidence.out_of_fold.shape
    patterns = frequent_patterns(evidence.present)
    pool = EvidencePool(
        num_modalities,
        num_experts,
        width,
        num_joint=len(evidence.joint),
        num_patterns=len(patterns),
        init_weights=init_weights(evidence, task),
    )
    pool.prior.copy_(evidence.prior)
    pool.patterns.copy_(patterns)
    generator = torch.Generator().manual_seed(seed)
    masks = [evidence.present] + [
        modality_dropout(evidence.present, 0.5, generator) for _ in range(POOL_MASKS)
    ]
    asked = [(mask, evidence.joint_evidence(mask)) for mask in masks]

    def loss() -> Tensor:
        losses = [
            task.loss(pool(evidence.out_of_fold, mask, joint), y)
            for mask, joint in asked
        ]
        return torch.stack(losses).mean() + POOL_PENALTY * pool.penalty() / len(y)

    minimize(pool.parameters(), loss, MAX_ITERATIONS)
    return pool.requires_grad_(False)


def init_weights(evidence: Evidence, task: Task) -> list[float]:
    """Return where the trust in each expert begins, ``X`` weights that add up to one.

    Additive experts learn weights of their own for each of ``K`` classes, while trees
    share their splits among them: a forest begins at ``K / 2`` times the others.
    """
    of_trees = task.num_classes / 2 if isinstance(task, Classification) else 1.0
    experts = evidence.experts[0].children()
    weights = [of_trees if isinstance(e, TreeExpert) else 1.0 for e in experts]
    return [weight / sum(weights) for weight in weights]


def frequent_patterns(present: Tensor) -> Tensor:
    """Return the combinations of modalities that are common, ``[P, M]`` Bool.

    These are the 64 most frequent that at least five samples have; none where all
    samples have the same one, which then tells nothing.
    """
    found, count = torch.unique(present, dim=0, return_counts=True)
    if len(found) == 1:
        return found[:0]
    order = torch.argsort(count, descending=True, stable=True)[:MAX_PATTERNS]
    return found[order[count[order] >= MIN_PATTERN_COUNT]]
