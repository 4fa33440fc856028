"""Fusion operators: one state per sample from one state per modality.

Letters: ``B`` samples, ``M`` modalities, ``D`` width of a state, ``C`` width of the
result, ``R`` rank. ``...`` is the axis of ensemble members, where there are any. States
of missing modalities are never read; a sample without any modality has the result zero.
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from mmgraph.errors import ConfigError
from mmgraph.nn.linear import Linear, parameter

__all__ = [
    "ConcatFusion",
    "FusionOperator",
    "GatedFusion",
    "LowRankFusion",
    "MaxFusion",
    "MeanFusion",
    "ProductFusion",
    "SumFusion",
]


class FusionOperator(Protocol):
    """Interface of fusion operators.

    A module of this form can be a readout: pass a function
    ``(num_modalities, channels, members)`` that returns it to
    :class:`mmgraph.FusionModel`.

    Attributes:
        out_channels: Width ``C`` of the result.
    """

    out_channels: int

    def __call__(self, u: Tensor, present: Tensor) -> Tensor:
        """Combine the states of the modalities of each sample.

        Args:
            u: ``[..., B, M, D]`` states. Those of missing modalities have any value.
            present: ``[B, M]`` Bool, True where the modality is observed.

        Returns:
            ``[..., B, C]``.
        """


class _Operator(nn.Module):
    """Common parts of the operators whose result is as wide as a state.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Ensemble members computed together, or None for a single model.
    """

    def __init__(
        self, num_modalities: int, channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.num_modalities, self.out_channels = num_modalities, channels

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        return f"{self.num_modalities}, {self.out_channels}"


class ConcatFusion(_Operator):
    """Concatenation of all states and of presence flags.

    ``[p_1 u_1; ...; p_M u_M; p_1; ...; p_M]`` with the presence p of 0 or 1, so that a
    missing modality differs from a state of zeros.

    Args:
        num_modalities: ``M``.
        channels: ``D``; the result has ``M (D + 1)`` channels.
        members: Unused; part of the common signature of operators.

    Example:
        >>> fuse = nn.ConcatFusion(num_modalities=2, channels=1)
        >>> present = torch.tensor([[True, True], [False, True]])
        >>> fuse(torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]]), present)
        tensor([[3., 4., 1., 1.],
                [0., 6., 0., 1.]])
    """

    def __init__(
        self, num_modalities: int, channels: int, *, members: int | None = None
    ) -> None:
        super().__init__(num_modalities, channels, members=members)
        self.out_channels = num_modalities * (channels + 1)

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, M (D + 1)]`` of states ``[..., B, M, D]``."""
        flags = present.to(u.dtype).expand(u.shape[:-1])
        return torch.cat([_observed(u, present).flatten(-2), flags], -1)


class SumFusion(_Operator):
    """Sum of the states of the modalities present.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Unused; part of the common signature of operators.

    Example:
        >>> fuse = nn.SumFusion(num_modalities=2, channels=1)
        >>> present = torch.tensor([[True, True], [False, True]])
        >>> fuse(torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]]), present)
        tensor([[7.],
                [6.]])
    """

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        return _observed(u, present).sum(-2)


class MeanFusion(_Operator):
    """Mean of the states of the modalities present.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Unused; part of the common signature of operators.

    Example:
        >>> fuse = nn.MeanFusion(num_modalities=2, channels=1)
        >>> present = torch.tensor([[True, True], [False, True]])
        >>> fuse(torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]]), present)
        tensor([[3.5000],
                [6.0000]])
    """

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        count = present.sum(-1, keepdim=True).clamp(min=1)
        return _observed(u, present).sum(-2) / count.to(u.dtype)


class MaxFusion(_Operator):
    """Maximum over the modalities present, channel by channel.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Unused; part of the common signature of operators.

    Example:
        >>> fuse = nn.MaxFusion(num_modalities=2, channels=1)
        >>> present = torch.tensor([[True, True], [False, True]])
        >>> fuse(torch.tensor([[[-3.0], [-4.0]], [[5.0], [-6.0]]]), present)
        tensor([[-3.],
                [-6.]])
    """

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        peak = torch.where(present[..., None], u, -torch.inf).amax(-2)
        return torch.where(present.any(-1, keepdim=True), peak, 0)


class ProductFusion(_Operator):
    """Product of the states of the modalities present, channel by channel.

    A missing modality is the factor 1. A sample without any modality has the result
    zero rather than the empty product.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Unused; part of the common signature of operators.

    Example:
        >>> fuse = nn.ProductFusion(num_modalities=2, channels=1)
        >>> present = torch.tensor([[True, True], [False, True]])
        >>> fuse(torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]]), present)
        tensor([[12.],
                [ 6.]])
    """

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        product = torch.where(present[..., None], u, 1).prod(-2)
        return torch.where(present.any(-1, keepdim=True), product, 0)


class GatedFusion(_Operator):
    """Gated multimodal unit: a softmax over the modalities present, per channel.

    ``a = softmax_m(W [p_1 u_1; ...; p_M u_M] + b)``, ``sum_m a_m * V_m u_m`` with the
    presence p. The weight of a missing modality is exactly 0 and the others sum to 1,
    so that a single modality has the weight 1. With two modalities and ``V = 1`` it is
    the gate ``g = sigmoid(W [u_1; u_2] + b)``, ``g * u_1 + (1 - g) * u_2``.

    References:
        Gated Multimodal Units for Information Fusion, Arevalo, Solorio, Montes-y-Gomez,
        Gonzalez, 2017, arXiv 1702.01992.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> fuse = nn.GatedFusion(num_modalities=3, channels=8)
        >>> present = torch.tensor([[True, True, True], [False, True, False]])
        >>> fuse(torch.randn(2, 3, 8), present).shape
        torch.Size([2, 8])
    """

    def __init__(
        self, num_modalities: int, channels: int, *, members: int | None = None
    ) -> None:
        super().__init__(num_modalities, channels, members=members)
        width = num_modalities * channels
        self.gate = Linear(width, width, members=members)
        bound = 1 / math.sqrt(channels)
        shape = (num_modalities, channels, channels)
        self.value = parameter(*shape, members=members, bound=bound)

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        u = _observed(u, present)
        value = (u.movedim(-2, -3) @ self.value).movedim(-3, -2)  # [..., B, M, D]
        return (self.weights(u, present) * value).sum(-2)

    def weights(self, u: Tensor, present: Tensor) -> Tensor:
        """Return the weights ``[..., B, M, D]``; zero for missing modalities."""
        logits = self.gate(_observed(u, present).flatten(-2))
        logits = logits.unflatten(-1, (self.num_modalities, self.out_channels))
        # the largest negative number, unlike infinity, keeps an empty sample finite
        lowest = torch.finfo(logits.dtype).min
        weight = torch.where(present[..., None], logits, lowest).softmax(-2)
        return torch.where(present[..., None], weight, 0)


class LowRankFusion(_Operator):
    """Bilinear pooling of every order, with a weight tensor of low rank.

    ``sum_r w_r (prod_m (1 + F_m^r u_m) - 1)`` over the modalities present. The product
    expands to the sum over all subsets of these modalities of the products of their
    maps: it is the contraction of the outer product of all ``[1; u_m]`` with a tensor
    of rank R. The 1 makes a missing modality the factor 1.

    References:
        Tensor Fusion Network for Multimodal Sentiment Analysis, Zadeh, Chen, Poria,
        Cambria, Morency, 2017, arXiv 1707.07250. Efficient Low-rank Multimodal Fusion
        with Modality-Specific Factors, Liu, Shen, Lakshminarasimhan, Liang, Zadeh,
        Morency, 2018, arXiv 1806.00064.

    Args:
        num_modalities: ``M``.
        channels: ``D``.
        rank: ``R``, at least 1.
        members: Ensemble members computed together, or None for a single model.

    Raises:
        ConfigError: If ``rank`` is below 1.

    Example:
        >>> fuse = nn.LowRankFusion(num_modalities=3, channels=8)
        >>> present = torch.tensor([[True, True, True], [False, True, False]])
        >>> fuse(torch.randn(2, 3, 8), present).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        num_modalities: int,
        channels: int,
        *,
        rank: int = 8,
        members: int | None = None,
    ) -> None:
        super().__init__(num_modalities, channels, members=members)
        if rank < 1:
            raise ConfigError(f"rank must be at least 1, got {rank}. Use the default.")
        self.rank = rank
        bound = 1 / math.sqrt(channels)
        shape = (num_modalities, channels, rank * channels)
        self.factor = parameter(*shape, members=members, bound=bound)
        # the terms are independent at first: their sum has the variance of one
        self.weight = parameter(rank, 1, members=members, fill=1 / math.sqrt(rank))

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """Return ``[..., B, D]`` of states ``[..., B, M, D]``."""
        mapped = _observed(u, present).movedim(-2, -3) @ self.factor  # [..., M, B, R D]
        terms = (1 + mapped).prod(-3) - 1
        terms = terms.unflatten(-1, (self.rank, self.out_channels))
        return (terms * self.weight.unsqueeze(-3)).sum(-2)


def _observed(u: Tensor, present: Tensor) -> Tensor:
    """Return the states with those of missing modalities replaced by zeros."""
    return torch.where(present[..., None], u, 0)
