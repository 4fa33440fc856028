"""Log-linear opinion pool of base learners, and the weight of the graph network.

Letters: ``N`` samples, ``M`` modalities, ``X`` base learners per modality, ``Y`` joint
base learners, ``K`` outputs, ``P`` patterns of present modalities.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EvidencePool", "Pool", "interaction_weight"]

OFFSET_PENALTY = 30.0  # relative to the penalty of the weights
JOINT_WEIGHT = 0.3  # initial value
POWER = "power"  # exponent of n in the pools of mmgraph 0.1 and 0.2


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

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Return the graph's input ``[N, M, C]`` from evidence ``[N, M, X, C]``."""

    def __call__(
        self, evidence: Tensor, present: Tensor, joint: Tensor | None = None
    ) -> Tensor:
        """Return the pooled scores ``[N, K]``, without the graph."""


class EvidencePool(nn.Module):
    r"""Log-linear opinion pool: weighted sum of the evidence of base learners.

    ``prior + b + c[p] + s[n] sum_m sum_x w[m,x] e[m,x] + t[n] sum_y v[y] j[y]``,

    with the evidence ``e[m,x]`` of base learner x of modality m (its log-odds minus the
    prior), the evidence ``j[y]`` of base learner y of all modalities together, and the
    number n of present modalities. All weights are at least 0. The offset ``c[p]``
    models informative missingness: it depends on the pattern p of present modalities,
    and is zero for patterns outside of the training data. Initially ``w = 1 / X``,
    ``v = 0.3``, ``s[n] = n^-1/2``, ``t[n] = 1 - 1/n``, ``b = c = 0``; ``t[1]`` is
    always 0. Without any present modality the result equals the prior.

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
        init_joint: ``[Y]`` positive initial values of ``v``; None for 0.3 each.
        hand_over: Start from ``s[n] = 1 / n`` in place of ``n^-1/2``, so that the joint
            base learners predict alone if there are many modalities.

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
        hand_over: bool = False,
    ) -> None:
        super().__init__()
        weights = init_weights or [1 / num_experts] * num_experts
        if len(weights) != num_experts or min(weights) <= 0:
            raise ValueError(
                f"init_weights must hold a weight above zero for each of {num_experts} "
                f"experts, got {list(weights)}."
            )
        counts = range(1, num_modalities + 1)
        power = 1.0 if hand_over else 0.5
        self.initial = {
            "modality_weight": [_inverse_softplus(weight) for weight in weights],
            "joint_weight": _inverse(init_joint or [JOINT_WEIGHT] * num_joint),
            "modality_scale": _inverse(n**-power for n in counts),
            "joint_scale": _inverse(1 - 1 / n for n in counts),
        }
        initial = {k: torch.tensor(x) for k, x in self.initial.items()}
        every = initial["modality_weight"].repeat(num_modalities, 1)
        self.modality_weight = nn.Parameter(every)
        self.joint_weight = nn.Parameter(initial["joint_weight"])
        self.modality_scale = nn.Parameter(initial["modality_scale"])
        self.joint_scale = nn.Parameter(initial["joint_scale"])
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.pattern_bias = nn.Parameter(torch.zeros(num_patterns, out_channels))
        self.register_buffer("prior", torch.zeros(out_channels))
        patterns = torch.zeros(num_patterns, num_modalities, dtype=torch.bool)
        self.register_buffer("patterns", patterns)

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Return the weighted evidence ``[N, M, K]`` of ``[N, M, X, K]``."""
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
        count = present.sum(1)
        index = (count - 1).clamp(min=0)
        scale = F.softplus(self.modality_scale)[index, None]
        pooled = scale * self.by_modality(seen).sum(1)
        scores = self.bias + self._of_patterns(present) + pooled
        if joint is not None:
            share = F.softplus(self.joint_scale)[index] * (count > 1)
            weight = F.softplus(self.joint_weight)[:, None]
            scores = scores + share[:, None] * (weight * joint).sum(1)
        return self.prior + torch.where(count[:, None] > 0, scores, 0)

    def _of_patterns(self, present: Tensor) -> Tensor:
        """Return the offset ``c[p]``, ``[N, K]``; a scalar zero without patterns."""
        if not len(self.patterns):  # ONNX Runtime does not multiply empty matrices
            return self.bias.new_zeros(())
        matches = (present[:, None] == self.patterns).all(-1).to(self.bias.dtype)
        return matches @ self.pattern_bias

    def penalty(self) -> Tensor:
        """Return the squared distance to the initial parameters, the L2 penalty.

        Offsets count thirty times: base learners are calibrated out of fold.
        """
        offsets = self.bias.square().sum() + self.pattern_bias.square().sum()
        parts = [
            (weight - weight.new_tensor(self.initial[name])).square().sum()
            for name, weight in self.named_parameters()
            if name in self.initial
        ]
        return sum(parts, OFFSET_PENALTY * offsets)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *args: Any,  # noqa: ANN401
    ) -> None:
        """Load the state of a pool, also of one of mmgraph 0.1 or 0.2.

        Those had an exponent in place of a scale for each number of modalities.
        """
        power = state_dict.pop(prefix + POWER, None)
        if power is not None:
            count = torch.arange(1, len(self.modality_scale) + 1, device=power.device)
            scale = count.to(power.dtype) ** -torch.sigmoid(power)
            state_dict[prefix + "modality_scale"] = scale.expm1().log()
            joint = power.new_tensor(self.initial["joint_scale"])
            state_dict[prefix + "joint_scale"] = joint
        super()._load_from_state_dict(state_dict, prefix, *args)


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))


def _inverse(values: Iterable[float]) -> list[float]:
    """Return the inverse softplus of values; 0 in place of that of 0."""
    return [_inverse_softplus(value) if value else 0.0 for value in values]
