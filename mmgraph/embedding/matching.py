"""Model of a matcher: log-odds of two sides, and the residual of a graph network.

Letters: ``N`` samples, ``P`` pairs, ``M`` modalities of both sides, ``C`` channels of
evidence, ``W`` width of an embedding, ``L`` reference samples.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.embedding.hubness import CSLSReference
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.errors import Argument, ConfigError
from mmgraph.losses import binary_cross_entropy
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import interaction_weight
from mmgraph.optim import minimize

MAX_ITERATIONS = 60
PENALTY = 1e-3


class MatchPool(nn.Module):
    r"""Log-odds that two sides belong to one sample, from closed-form embeddings.

    ``w_1 (2 s - u) + w_2 p + b``, with the inner product s of the pair parts of both
    sides, the probability p that both are of one class, if the space has classes, and
    the hubness offset u. The offset is the sum over both sides of the mean similarity
    to the ten nearest other sides of training samples, see
    :class:`mmgraph.embedding.hubness.CSLSReference`. The log-odds are zero if nothing
    is present on one side.

    Args:
        space: Embedding of any subset of modalities.
        left: ``[M]`` booleans, True for modalities of the left side.
        num_reference: Number of reference samples of a saved model; set by ``fit``.
    """

    left: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, space: EmbeddingSpace, left: Sequence[bool], num_reference: int = 0
    ) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("left", torch.tensor(left))
        self.reference = CSLSReference(space.pair_channels, num_reference)
        self.register_buffer("weight", torch.zeros(2))
        self.register_buffer("bias", torch.zeros(()))

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Convert evidence ``[P, M, 1, C]`` to the graph's input, ``[P, M, C]``."""
        return self.space.by_modality(evidence[:, :, 0])

    def interaction_weight(self, present: Tensor) -> Tensor:
        """Return the weight ``[P, 1]`` of the graph for presence ``[P, M]``."""
        return interaction_weight(present)

    def sides(self, evidence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both sides of pairs.

        Args:
            evidence: ``[P, M, 1, C]``.
            present: ``[P, M]`` Bool.

        Returns:
            Unit vectors ``[P, W]`` of the left and of the right side.
        """
        sides = self.left, ~self.left
        a, b = (self.space(evidence[:, :, 0], present & side) for side in sides)
        return a, b

    def hubness_offset(
        self, evidence: Tensor, present: Tensor, excluded: Tensor | None = None
    ) -> Tensor:
        """Return the mean similarity of the sides to the reference, ``[P]``.

        A sum over sides; a side of which nothing is present adds zero.

        Args:
            evidence: ``[P, M, 1, C]``.
            present: ``[P, M]`` Bool.
            excluded: ``[2, P, L]`` Bool, reference samples that are excluded for each
                side; default: none.
        """
        a, b = (z[:, : self.space.pair_channels] for z in self.sides(evidence, present))
        of_a, of_b = (None, None) if excluded is None else excluded
        reference = self.reference.mean_knn_similarity
        return reference(a, 1, of_a) + reference(b, 0, of_b)

    def similarities(
        self, evidence: Tensor, present: Tensor, hubness_offset: Tensor | None = None
    ) -> Tensor:
        """Return the terms of the log-odds, ``[P, 2]``: of pairs, and of classes.

        Args:
            evidence: ``[P, M, 1, C]``.
            present: ``[P, M]`` Bool.
            hubness_offset: ``[P]``; default: that of :meth:`hubness_offset`.
        """
        if hubness_offset is None:
            hubness_offset = self.hubness_offset(evidence, present)
        a, b = self.sides(evidence, present)
        width = self.space.pair_channels
        parts = [(a[:, :width], b[:, :width]), (a[:, width:], b[:, width:])]
        by_pairs, by_class = ((x * y).sum(1) for x, y in parts)
        return torch.stack([2 * by_pairs - hubness_offset, by_class], dim=1)

    def forward(
        self,
        evidence: Tensor,
        present: Tensor,
        joint: Tensor | None = None,
        *,
        hubness_offset: Tensor | None = None,
    ) -> Tensor:
        """Return log-odds ``[P, 1]``.

        Args:
            evidence: ``[P, M, 1, C]``.
            present: ``[P, M]`` Bool.
            joint: Ignored; an argument of :class:`mmgraph.nn.EvidencePool`.
            hubness_offset: ``[P]``; default: that of :meth:`hubness_offset`.
        """
        terms = self.similarities(evidence, present, hubness_offset)
        logits = terms @ self.weight + self.bias
        return torch.where(self.two_sided(present), logits, 0)[:, None]

    def two_sided(self, present: Tensor) -> Tensor:
        """Return ``[P]`` Bool, True if both sides have a modality."""
        return (present & self.left).any(1) & (present & ~self.left).any(1)

    def fit(
        self,
        evidence: Tensor,
        present: Tensor,
        y: Tensor,
        sample_weight: Tensor,
        groups: Tensor,
    ) -> None:
        """Fit weights and bias by logistic regression, and store the reference.

        The reference are the matching pairs. The group of a side is excluded from its
        reference.

        Args:
            evidence: ``[P, M, 1, C]``.
            present: ``[P, M]`` Bool.
            y: ``[P, 1]``, 1 for matching pairs.
            sample_weight: ``[P]`` weight of each pair.
            groups: ``[2, P]`` group of the left and of the right side.

        References:
            Probabilistic Outputs for Support Vector Machines, Platt, 1999.
        """
        valid = self.two_sided(present)
        match = torch.nonzero(valid & (y[:, 0] > 0))[:, 0]
        a, b = self.sides(evidence[match], present[match])
        width = self.space.pair_channels
        reference = groups[0, match[self.reference.fit(a[:, :width], b[:, :width])]]
        excluded = groups[..., None] == reference
        offset = self.hubness_offset(evidence, present, excluded)
        x = self.similarities(evidence, present, offset)[valid]
        target, sample_weight = y[valid], sample_weight[valid]
        weight = torch.zeros(3, requires_grad=True)

        def loss() -> Tensor:
            logits = x @ F.softplus(weight[:2]) + weight[2]
            loss = binary_cross_entropy(logits[:, None], target, sample_weight)
            return loss + PENALTY * weight.square().mean()

        minimize([weight], loss, MAX_ITERATIONS)
        self.weight.copy_(F.softplus(weight[:2]).detach())
        self.bias.copy_(weight[2].detach())


class MatchFusion(nn.Module):
    """``sigmoid(pool + beta * interaction_weight * graph)`` on pairs of sides.

    Args:
        pool: Log-odds from closed-form embeddings.
        graph: Ensemble of graph networks on the modalities of both sides.
    """

    beta: Tensor

    def __init__(self, pool: MatchPool, graph: FusionModel) -> None:
        super().__init__()
        self.pool, self.graph = pool, graph
        self.register_buffer("beta", torch.zeros(()))

    def forward(
        self,
        batch_of: Callable[[], Batch],
        evidence: Tensor,
        present: Tensor,
        hubness_offset: Tensor,
    ) -> Tensor:
        """Return the probability ``[P]`` that the sides of each pair match.

        Args:
            batch_of: Packs the joint samples; called only if beta is not zero.
            evidence: ``[P, M, C]``.
            present: ``[P, M]`` Bool.
            hubness_offset: ``[P]``, see :meth:`MatchPool.hubness_offset`.
        """
        pooled = self.pool(evidence[:, :, None], present, hubness_offset=hubness_offset)
        logits = pooled[None]
        if float(self.beta):
            joint = self.graph(batch_of(), self.pool.space.by_modality(evidence)).logits
            share = self.pool.interaction_weight(present)
            share = share * self.pool.two_sided(present)[:, None]
            logits = logits + self.beta * share * joint
        result: Tensor = logits.sigmoid().mean(0)[:, 0]
        return result


def merge_modalities(left: Batch, right: Batch) -> Batch:
    """Return a batch whose sample i has the modalities of sample i of both batches."""
    return Batch(
        left.num_samples,
        {**left.x, **right.x},
        {**left.sample, **right.sample},
        {**left.time, **right.time},
    )


def sides_of(left: str | Sequence[str], right: str | Sequence[str]) -> list[str]:
    """Return the modalities of both sides.

    Raises:
        ConfigError: If a side has no modality, or a modality is on both sides.
    """
    sides = {}
    for side, value in (("left", left), ("right", right)):
        sides[side] = [value] if isinstance(value, str) else list(value)
        if not sides[side]:
            raise ConfigError(
                f"{side} must name at least one modality, got none.",
                (
                    "Use ",
                    Argument("left", ["image"]),
                    " and ",
                    Argument("right", ["text"]),
                    ".",
                ),
                parameter=side,
            )
    both = sorted(set(sides["left"]) & set(sides["right"]))
    if both:
        raise ConfigError(
            f"left and right must have no modality in common, got {both[0]!r} on both."
        )
    return sides["left"] + sides["right"]
