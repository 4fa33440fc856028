"""Log-linear opinion pool of base learners, and the weight of the graph network.

Letters: ``N`` samples, ``M`` modalities, ``X`` base learners per modality, ``Y`` joint
base learners, ``K`` outputs, ``P`` patterns of present modalities.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EvidencePool", "Pool", "SubmodelPool", "interaction_weight"]

PATTERN_PENALTY = 3.0  # relative to the penalty of the other parameters
OFFSET_PENALTY = 30.0  # of SubmodelPool, relative to the penalty of the weights
JOINT_WEIGHT = 0.3  # initial value


def interaction_weight(present: Tensor) -> Tensor:
    """Return the weight of cross-modal interaction, ``1 - 1/n`` for n modalities.

    A sample with one present modality has no interaction: its prediction is that of the
    base learners, with weight 0 for the graph. If the data have a single modality
    (``M = 1``), the graph is one more base learner, with weight 1 where it is present.

    Args:
        present: ``[N, M]`` Bool.

    Returns:
        ``[N, 1]`` weights in [0, 1].
    """
    count = present.sum(1, keepdim=True).float()
    if present.shape[1] == 1:
        return count
    return 1 - 1 / count.clamp(min=1)


@runtime_checkable
class Pool(Protocol):
    """Interface of the pooled prediction whose residual a graph network learns."""

    def by_modality(self, evidence: Tensor) -> Tensor | None:
        """Return the graph's input ``[N, M, C]`` from evidence ``[N, M, X, C]``.

        None if the graph gets no evidence.
        """

    def interaction_weight(self, present: Tensor) -> Tensor:
        """Return the weight ``[N, 1]`` of the graph for presence ``[N, M]``."""

    def __call__(
        self, evidence: Tensor, present: Tensor, joint: Tensor | None = None
    ) -> Tensor:
        """Return the pooled scores ``[N, K]``, without the graph."""


class EvidencePool(nn.Module):
    r"""Log-linear opinion pool: weighted sum of the evidence of base learners.

    ``prior + b + c[p] + n^-alpha sum_m sum_x w[m,x] e[m,x] + (1-1/n) sum_y v[y] j[y]``,

    with the evidence ``e[m,x]`` of base learner x of modality m (its log-odds minus the
    prior), the evidence ``j[y]`` of base learner y of all modalities together, and the
    number n of present modalities. The weights are constrained to ``w, v >= 0`` and
    ``0 <= alpha <= 1``. The offset ``c[p]`` models informative missingness: it depends
    on the pattern p of present modalities, and is zero for patterns outside of the
    training data. Initially ``w = 1 / X``, ``v = 0.3``, ``alpha = 1/2``, ``b = c = 0``.
    Without any present modality the result equals the prior. Without base learners of
    single modalities (``X = 0``), the factor of the joint ones is 1, and initially
    ``v = 1 / Y``.

    References:
        Combining Probability Distributions: A Critique and an Annotated Bibliography,
        Genest, Zidek, 1986 (logarithmic opinion pools).

    Args:
        num_modalities: ``M``.
        num_experts: ``X``.
        out_channels: ``K``.
        num_joint: ``Y``.
        num_patterns: ``P``.
        init_weights: ``[X]`` positive initial values of ``w``; None for ``1 / X`` each.
        init_joint: ``[Y]`` positive initial values of ``v``; None for 0.3 each, or
            ``1 / Y`` if X is 0.

    Raises:
        ValueError: If ``init_weights`` are not ``X`` positive numbers.

    Example:
        >>> pool = nn.EvidencePool(num_modalities=2, num_experts=1, out_channels=3)
        >>> evidence = torch.randn(4, 2, 1, 3)
        >>> present = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool()
        >>> scores = pool(evidence, present)
        >>> scores.shape, bool(torch.equal(scores[3], pool.prior))
        (torch.Size([4, 3]), True)
    """

    prior: Tensor
    patterns: Tensor

    def __init__(
        self,
        num_modalities: int,
        num_experts: int,
        out_channels: int,
        *,
        num_joint: int = 0,
        num_patterns: int = 0,
        init_weights: Sequence[float] | None = None,
        init_joint: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        weights = init_weights or [1 / num_experts for _ in range(num_experts)]
        if len(weights) != num_experts or min(weights, default=1) <= 0:
            raise ValueError(
                f"init_weights must hold a weight above zero for each of {num_experts} "
                f"experts, got {list(weights)}."
            )
        joint_weight = JOINT_WEIGHT if num_experts else 1 / max(num_joint, 1)
        self.start = {
            "modality_weight": _inverse(weights),
            "joint_weight": _inverse(init_joint or [joint_weight] * num_joint),
        }
        initial = torch.tensor([self.start["modality_weight"]] * num_modalities)
        self.modality_weight = nn.Parameter(initial)
        self.joint_weight = nn.Parameter(torch.tensor(self.start["joint_weight"]))
        self._register_scales(num_modalities)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.pattern_bias = nn.Parameter(torch.zeros(num_patterns, out_channels))
        self.register_buffer("prior", torch.zeros(out_channels))
        patterns = torch.zeros(num_patterns, num_modalities, dtype=torch.bool)
        self.register_buffer("patterns", patterns)

    def _register_scales(self, num_modalities: int) -> None:
        self.power = nn.Parameter(torch.zeros(()))

    @property
    def num_learners(self) -> int:
        """Number of base learners of a modality and of all together, ``X + Y``."""
        return self.num_experts + len(self.joint_weight)

    def by_modality(self, evidence: Tensor) -> Tensor | None:
        """Return the weighted evidence ``[N, M, K]`` of ``[N, M, X, K]``.

        None without base learners of single modalities.
        """
        if not self.num_experts:
            return None
        return (F.softplus(self.modality_weight)[..., None] * evidence).sum(-2)

    def forward(
        self, evidence: Tensor, present: Tensor, joint: Tensor | None = None
    ) -> Tensor:
        """Return the pooled scores ``[N, K]``: logits, or predictions in regression.

        Args:
            evidence: ``[N, M, X, K]``; values of missing modalities are not read.
            present: ``[N, M]`` Bool.
            joint: ``[N, Y, K]`` evidence of the joint base learners; None for none.
        """
        seen = torch.where(present[..., None, None], evidence, 0)
        count = present.sum(1, keepdim=True)
        scale, share = self._scales(present)
        by_modality = self.by_modality(seen)
        scores = self.bias + self._of_patterns(present)
        if by_modality is not None:
            scores = scores + scale.to(evidence.dtype) * by_modality.sum(1)
        if joint is not None:
            share = share.to(joint.dtype)
            weight = F.softplus(self.joint_weight)[:, None]
            scores = scores + share * (weight * joint).sum(1)
        return self.prior + torch.where(count > 0, scores, 0)

    def weights(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of the evidence in the scores of samples.

        Args:
            present: ``[N, M]`` Bool.

        Returns:
            ``[N, M, X]`` factors of the base learners of each modality, zero where it
            is missing, and ``[N, Y]`` factors of the joint ones.
        """
        scale, share = self._scales(present)
        by_modality = scale[..., None] * F.softplus(self.modality_weight)
        single = torch.where(present[..., None], by_modality, 0)
        return single, share * F.softplus(self.joint_weight)

    def interaction_weight(self, present: Tensor) -> Tensor:
        """Return the weight of cross-modal interaction, ``[N, 1]``.

        See :func:`interaction_weight`; 1 where a modality is present if there are no
        base learners of single modalities.
        """
        if not self.num_experts:
            return present.any(1, keepdim=True).float()
        return interaction_weight(present)

    def _scales(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of single and of joint base learners, ``[N, 1]`` each."""
        count = present.sum(1, keepdim=True).to(self.power.dtype)
        scale = count.clamp(min=1) ** -torch.sigmoid(self.power)
        return scale, self.interaction_weight(present)

    def _of_patterns(self, present: Tensor) -> Tensor:
        """Return the offset ``c[p]``, ``[N, K]``; a scalar zero without patterns."""
        if not len(self.patterns):  # ONNX Runtime does not multiply empty matrices
            return self.bias.new_zeros(())
        matches = (present[:, None] == self.patterns).all(-1).to(self.bias.dtype)
        return matches @ self.pattern_bias

    def penalty(self) -> Tensor:
        """Return the squared distance to the initial parameters, the L2 penalty.

        The offsets of patterns count three times.
        """
        rest = PATTERN_PENALTY * self.pattern_bias.square().sum()
        parts = [*self._distances(), self.power, self.bias]
        return sum((part.square().sum() for part in parts), rest)

    def _distances(self) -> list[Tensor]:
        """Return the distances of weights and scales to their initial values."""
        named = ((self.get_parameter(name), x) for name, x in self.start.items())
        return [parameter - parameter.new_tensor(x) for parameter, x in named]


class SubmodelPool(EvidencePool):
    r"""Log-linear opinion pool of data that have a submodel for each subset.

    ``prior + b + c[p] + s[n] sum_m sum_x w[m,x] e[m,x] + t[n] sum_y v[y] j[y]``, as
    :class:`EvidencePool`, with free scales ``s, t >= 0`` for each number n of present
    modalities in place of ``n^-alpha`` and ``1 - 1/n``, so that submodels can predict
    alone where several modalities are present. Initially ``s[n] = 1 / n`` and
    ``t[n] = 1 - 1/n``; ``t[1]`` is always 0. Without base learners of single modalities
    (``X = 0``), all ``t[n]`` are 1 initially. Base learners are calibrated out of fold:
    the penalty of the offsets ``b`` and ``c`` is thirty times that of the weights.

    Args:
        num_modalities: ``M``.
        num_experts: ``X``.
        out_channels: ``K``.
        num_joint: ``Y``.
        num_patterns: ``P``.
        init_weights: ``[X]`` positive initial values of ``w``; None for ``1 / X`` each.
        init_joint: ``[Y]`` positive initial values of ``v``; None for 0.3 each.

    Raises:
        ValueError: If ``init_weights`` are not ``X`` positive numbers.
    """

    def _register_scales(self, num_modalities: int) -> None:
        counts = range(1, num_modalities + 1)
        self.start |= {
            "modality_scale": _inverse(1 / n for n in counts),
            "joint_scale": _inverse(
                1 - 1 / n if self.num_experts else 1 for n in counts
            ),
        }
        self.modality_scale = nn.Parameter(torch.tensor(self.start["modality_scale"]))
        self.joint_scale = nn.Parameter(torch.tensor(self.start["joint_scale"]))

    def _scales(self, present: Tensor) -> tuple[Tensor, Tensor]:
        count = present.sum(1, keepdim=True)
        index = (count - 1).clamp(min=0)
        fewest = 1 if self.num_experts else 0
        share = F.softplus(self.joint_scale)[index] * (count > fewest)
        return F.softplus(self.modality_scale)[index], share

    def penalty(self) -> Tensor:
        """Return the squared distance to the initial parameters, the L2 penalty.

        Offsets count thirty times.
        """
        offsets = self.bias.square().sum() + self.pattern_bias.square().sum()
        parts = (part.square().sum() for part in self._distances())
        return sum(parts, OFFSET_PENALTY * offsets)


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))


def _inverse(values: Iterable[float]) -> list[float]:
    """Return the inverse softplus of values; 0 in place of that of 0."""
    return [_inverse_softplus(value) if value else 0.0 for value in values]
