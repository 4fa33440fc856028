"""The pool of what unimodal experts say, and what is left to the graph.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``K`` outputs,
``P`` patterns of present modalities.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EvidencePool", "Pool", "interaction_weight"]

PATTERN_PENALTY = 3.0  # times that of the other parameters
JOINT_WEIGHT = 0.3  # where it begins


def interaction_weight(present: Tensor) -> Tensor:
    """Return how much modalities can say together, ``[N, 1]``: ``1 - 1/n``.

    With one modality present there is nothing to interact, so that its experts speak
    alone; with none there is nothing at all. Data of a single modality are the
    exception: there the graph is one more expert, with share 1.

    Args:
        present: ``[N, M]`` Bool.
    """
    count = present.sum(1, keepdim=True).float()
    if present.shape[1] == 1:
        return count
    return 1 - 1 / count.clamp(min=1)


@runtime_checkable
class Pool(Protocol):
    """What a graph learns the rest of: outputs from evidence of each modality."""

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Return what a graph takes, ``[N, M, C]``, from evidence ``[N, M, X, C]``."""

    def __call__(
        self, evidence: Tensor, present: Tensor, joint: Tensor | None = None
    ) -> Tensor:
        """Return outputs ``[N, K]`` before the graph, where ``present [N, M]``."""


class EvidencePool(nn.Module):
    r"""Late fusion with learned trust, as log-odds that add up.

    ``prior + b + c[p] + n^-alpha sum_m sum_x w[m,x] e[m,x] + (1-1/n) sum_y v[y] j[y]``,
    where ``e`` is what expert x of modality m says beyond the prior, ``j`` what joint
    expert y says of all modalities together, n counts the modalities that are present,
    ``w, v >= 0`` and ``0 <= alpha <= 1``; ``c[p]`` is what it says by itself that just
    these modalities are present, zero for a combination that is not known. It begins at
    ``w = 1 / X`` unless told, ``v = .3``, ``alpha = 1/2``, ``b = c = 0``. With nothing
    present it says the prior, exactly.

    Args:
        num_modalities: ``M``.
        num_experts: ``X``.
        out_channels: ``K``.
        num_joint: ``Y``, experts of all modalities together.
        num_patterns: ``P``, known combinations of present modalities.
        init_weights: ``[X]`` where ``w`` begins, above zero; None for ``1 / X`` each.
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
    ) -> None:
        super().__init__()
        weights = init_weights or [1 / num_experts] * num_experts
        if len(weights) != num_experts or min(weights) <= 0:
            raise ValueError(
                f"init_weights must hold a weight above zero for each of {num_experts} "
                f"experts, got {list(weights)}."
            )
        self.start = [_inverse_softplus(weight) for weight in weights]
        self.modality_weight = nn.Parameter(torch.tensor([self.start] * num_modalities))
        begin = _inverse_softplus(JOINT_WEIGHT)
        self.joint_weight = nn.Parameter(torch.full((num_joint,), begin))
        self.power = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.pattern_bias = nn.Parameter(torch.zeros(num_patterns, out_channels))
        self.register_buffer("prior", torch.zeros(out_channels))
        patterns = torch.zeros(num_patterns, num_modalities, dtype=torch.bool)
        self.register_buffer("patterns", patterns)

    def by_modality(self, evidence: Tensor) -> Tensor:
        """Weigh the experts: ``[N, M, X, K]`` to ``[N, M, K]``."""
        return (F.softplus(self.modality_weight)[..., None] * evidence).sum(-2)

    def forward(
        self, evidence: Tensor, present: Tensor, joint: Tensor | None = None
    ) -> Tensor:
        """Pool evidence into scores ``[N, K]``.

        Args:
            evidence: ``[N, M, X, K]``; that of what is not present is not read.
            present: ``[N, M]`` Bool.
            joint: ``[N, Y, K]`` evidence of what is present together; None for none.
        """
        seen = torch.where(present[..., None, None], evidence, 0)
        count = present.sum(1, keepdim=True).to(evidence.dtype)
        scale = count.clamp(min=1) ** -torch.sigmoid(self.power)
        pooled = scale * self.by_modality(seen).sum(1)
        scores = self.bias + self._of_patterns(present) + pooled
        if joint is not None:
            share = interaction_weight(present).to(joint.dtype)
            weight = F.softplus(self.joint_weight)[:, None]
            scores = scores + share * (weight * joint).sum(1)
        return self.prior + torch.where(count > 0, scores, 0)

    def _of_patterns(self, present: Tensor) -> Tensor:
        """Return ``c[p]``, ``[N, K]``; a scalar zero where no pattern is known."""
        if not len(self.patterns):  # ONNX Runtime multiplies no empty matrices
            return self.bias.new_zeros(())
        known = (present[:, None] == self.patterns).all(-1).to(self.bias.dtype)
        return known @ self.pattern_bias

    def penalty(self) -> Tensor:
        """Squared distance from where the pool began; of patterns three times."""
        parts = (
            self.modality_weight - self.modality_weight.new_tensor(self.start),
            self.joint_weight - _inverse_softplus(JOINT_WEIGHT),
            self.power,
            self.bias,
        )
        rest = PATTERN_PENALTY * self.pattern_bias.square().sum()
        return sum((part.square().sum() for part in parts), rest)


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))
