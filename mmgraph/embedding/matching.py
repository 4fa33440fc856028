"""What a matcher is made of, and its two sides.

Letters: ``N`` samples, ``P`` pairs, ``M`` modalities of both sides, ``C`` channels of
evidence, ``L`` samples of the reference.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.embedding.hubness import CSLSReference
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.errors import ConfigError
from mmgraph.losses import binary_cross_entropy
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import interaction_weight
from mmgraph.optim import minimize

MAX_ITERATIONS = 60
PENALTY = 1e-3


class MatchPool(nn.Module):
    r"""The log-odds that two sides belong together, from closed-form embeddings.

    ``w (2 s - u) + b`` with the likeness s of both sides by pairs, and, where the space
    has classes, the probability that both are of one class as a second term. What is
    hubness_offset, u, is the sum over both sides of the mean likeness to the ten nearest other
    sides of training samples, see :class:`mmgraph.embedding.hubness.CSLSReference`. A pair with
    a side of which nothing is present has log-odds of zero: nothing is known.

    Args:
        space: Embeds any subset of modalities.
        left: ``[M]`` booleans, which modalities are of the left side.
        num_reference: Samples of the reference, as far as that is known before the fit.
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
        """Bring evidence ``[P, M, 1, C]`` to what a graph takes, ``[P, M, C]``."""
        return self.space.by_modality(evidence[:, :, 0])

    def sides(self, evidence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both sides of ``[P, M, 1, C]``: two times ``[P, W]``."""
        said = evidence[:, :, 0]
        sides = self.left, ~self.left
        a, b = (self.space(said, present & side) for side in sides)
        return a, b

    def hubness_offset(
        self, evidence: Tensor, present: Tensor, own: Tensor | None = None
    ) -> Tensor:
        """Return how near the sides of ``[P, M, 1, C]`` are to the reference, ``[P]``.

        A sum over sides; one of which nothing is present adds zero.

        Args:
            evidence: Of both sides.
            present: ``[P, M]`` Bool.
            own: ``[2, P, L]`` Bool, whom of the reference to leave out for each side.
        """
        a, b = (z[:, : self.space.pair_channels] for z in self.sides(evidence, present))
        of_a, of_b = (None, None) if own is None else own
        return self.reference.mean_knn_similarity(
            a, 1, of_a
        ) + self.reference.mean_knn_similarity(b, 0, of_b)

    def similarities(
        self, evidence: Tensor, present: Tensor, hubness_offset: Tensor | None = None
    ) -> Tensor:
        """Return ``[P, 2]``: likeness by pairs, and of class; zero where unknown."""
        hubness_offset = (
            self.hubness_offset(evidence, present)
            if hubness_offset is None
            else hubness_offset
        )
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
        """Return log-odds ``[P, 1]`` where ``present [P, M]``.

        Joint experts, which :class:`mmgraph.nn.EvidencePool` takes, have no say here.
        The hubness offset is computed unless it is given.
        """
        found = self.similarities(evidence, present, hubness_offset)
        logits = found @ self.weight + self.bias
        return torch.where(self.two_sided(present), logits, 0)[:, None]

    def two_sided(self, present: Tensor) -> Tensor:
        """Tell where both sides have something, ``[P]`` Bool."""
        return (present & self.left).any(1) & (present & ~self.left).any(1)

    def fit(
        self,
        evidence: Tensor,
        present: Tensor,
        y: Tensor,
        share: Tensor,
        groups: Tensor,
    ) -> None:
        """Fit weights and bias by logistic regression to ``y [P, 1]``.

        Pairs count by their ``share [P]``; those that match are the reference, where a
        side is not compared with its own group, of ``groups [2, P]``.

        References:
            Probabilistic Outputs for Support Vector Machines, Platt, 1999.
        """
        seen = self.two_sided(present)
        match = torch.nonzero(seen & (y[:, 0] > 0))[:, 0]
        a, b = self.sides(evidence[match], present[match])
        width = self.space.pair_channels
        reference = groups[0, match[self.reference.fit(a[:, :width], b[:, :width])]]
        hubness_offset = self.hubness_offset(
            evidence, present, groups[..., None] == reference
        )
        x, target = (
            self.similarities(evidence, present, hubness_offset)[seen],
            y[seen, 0],
        )
        share = share[seen]
        weight = torch.zeros(3, requires_grad=True)

        def loss() -> Tensor:
            logits = x @ F.softplus(weight[:2]) + weight[2]
            loss = binary_cross_entropy(logits[:, None], target[:, None], share)
            return loss + PENALTY * weight.square().mean()

        minimize([weight], loss, MAX_ITERATIONS)
        self.weight.copy_(F.softplus(weight[:2]).detach())
        self.bias.copy_(weight[2].detach())


class MatchFusion(nn.Module):
    """``sigmoid(pool + beta * share * graph)`` for the joint graph of both sides.

    Args:
        pool: Log-odds from closed-form embeddings.
        graph: An ensemble on the modalities of both sides.
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
            batch_of: Packs the joint samples, where the graph has a say.
            evidence: ``[P, M, C]``.
            present: ``[P, M]`` Bool.
            hubness_offset: ``[P]``, see :meth:`MatchPool.hubness_offset`.
        """
        logits = self.pool(
            evidence[:, :, None], present, hubness_offset=hubness_offset
        )[None]
        if float(self.beta):
            joint = self.graph(batch_of(), self.pool.space.by_modality(evidence)).logits
            share = interaction_weight(present) * self.pool.two_sided(present)[:, None]
            logits = logits + self.beta * share * joint
        result: Tensor = logits.sigmoid().mean(0)[:, 0]
        return result


def join(left: Batch, right: Batch) -> Batch:
    """Put the modalities of two batches into one: sample i has those of both."""
    return Batch(
        left.num_samples,
        {**left.x, **right.x},
        {**left.sample, **right.sample},
        {**left.time, **right.time},
    )


def sides_of(left: str | Sequence[str], right: str | Sequence[str]) -> list[str]:
    """Return the modalities of both sides.

    Raises:
        ConfigError: A side without modalities, or a modality on both.
    """
    sides = {}
    for side, value in (("left", left), ("right", right)):
        sides[side] = [value] if isinstance(value, str) else list(value)
        if not sides[side]:
            raise ConfigError(
                f"{side} must name at least one modality, got none. Use "
                "FusionMatcher(left=['image'], right=['text'])."
            )
    both = sorted(set(sides["left"]) & set(sides["right"]))
    if both:
        raise ConfigError(
            f"left and right must have no modality in common, got {both[0]!r} on both."
        )
    return sides["left"] + sides["right"]
