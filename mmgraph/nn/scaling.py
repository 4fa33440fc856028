"""Standardisation that knows missing cells.

Letters: ``N`` rows, ``C`` channels.
"""

import torch
from torch import Tensor, nn

CLIP = 8.0


class Standardiser(nn.Module):
    """Turn raw rows into standardised values and flags of missing cells.

    Fitted on the observed training rows only. A channel that is constant there, or
    never observed, is scaled by one. Values are clipped at eight standard deviations,
    so that one absurd reading cannot dominate.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @property
    def out_channels(self) -> int:
        """Width of the result: a value and a flag for every channel."""
        return 2 * self.channels

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set mean and scale from rows ``[N, C]``; NaN cells are left out."""
        seen = ~x.isnan()
        count = seen.sum(0).clamp(min=1)
        clean = torch.where(seen, x, 0).double()
        mean = clean.sum(0) / count
        variance = (torch.where(seen, clean - mean, 0).square().sum(0)) / count
        constant = variance <= 1e-12 * (1 + mean.square())
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, 1, variance).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C]`` to ``[N, 2 C]``: values (zero where missing), then flags."""
        missing = x.isnan()
        clean = torch.where(missing, self.mean.to(x.dtype), x)
        z = ((clean - self.mean) / self.scale).clamp(-CLIP, CLIP)
        return torch.cat([z, missing.to(z.dtype)], dim=1)
