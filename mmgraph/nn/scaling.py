"""Input transformations that know missing cells.

Letters: ``N`` rows, ``C`` channels, ``T`` knots.
"""

import torch
from torch import Tensor, nn

CLIP = 8.0
ROUNDING = 2e-7  # of float32: a smaller relative spread is none
QUANTILE_ROWS = 1_000_000  # torch.quantile takes at most 16 million
ABSURD = 1e4  # times the width of nine tenths of the values, away from the median
ABSURD_ROWS = 10_000  # that are enough to tell that width


class StandardScaler(nn.Module):
    """Turn raw rows into standardized values and flags of missing cells.

    Fitted on the observed training rows only. A channel that is constant there, or
    never observed, is scaled by one. Values are clipped at eight standard deviations,
    and what is ten thousand times as far from the median as nine tenths of the values
    are apart, such as a fill value of 1e20, has no say in these: one absurd reading
    cannot dominate.
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
        seen = ~x.isnan() & ~_absurd(x)
        count = seen.sum(0).clamp(min=1)
        clean = torch.where(seen, x, 0).double()
        mean = clean.sum(0) / count
        variance = (torch.where(seen, clean - mean, 0).square().sum(0)) / count
        constant = variance <= (ROUNDING * mean).square()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, 1, variance).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C]`` to ``[N, 2 C]``: values (zero where missing), then flags."""
        missing = x.isnan()
        z = ((x - self.mean) / self.scale).clamp(-CLIP, CLIP).masked_fill(missing, 0)
        return torch.cat([z, missing.to(z.dtype)], dim=1)


def _absurd(x: Tensor) -> Tensor:
    """Tell which cells of ``[N, C]`` are no readings of their channel, Bool."""
    step = max(1, len(x) // ABSURD_ROWS)
    shares = torch.tensor([0.05, 0.5, 0.95], dtype=torch.double, device=x.device)
    some = x[::step].double()
    if not len(some):
        return torch.zeros_like(x, dtype=torch.bool)
    low, middle, high = torch.nanquantile(some, shares, dim=0)
    limit = torch.where(high > low, ABSURD * (high - low), torch.inf)
    return (x - middle).abs() > limit


class PiecewiseLinear(nn.Module):
    """Piecewise-linear functions of every channel: ``max(x - knot, 0)``.

    Knots are inner quantiles of the training rows; a channel of few values has one at
    each inner value, a constant one has none. With them, a linear model is additive in
    arbitrary functions of the channels.

    References:
        Multivariate Adaptive Regression Splines, Friedman, 1991 (the basis).

    Args:
        num_knots: ``T``.
    """

    channel: Tensor
    knot: Tensor

    def __init__(self, num_knots: int = 0) -> None:
        super().__init__()
        channel = torch.zeros(num_knots, dtype=torch.int64)
        self.register_buffer("channel", channel)
        self.register_buffer("knot", torch.zeros(num_knots))

    @classmethod
    def at_quantiles(cls, x: Tensor, num_quantiles: int) -> "PiecewiseLinear":
        """Place knots from rows ``[N, C]``; NaN cells are left out."""
        channels, knots = [], []
        shares = torch.linspace(0, 1, num_quantiles + 2, dtype=torch.double)[1:-1]
        for c, column in enumerate(x.double().unbind(1)):
            values = column[~column.isnan()]
            levels = values.unique()
            if len(levels) > num_quantiles + 1:
                places = torch.quantile(values[:QUANTILE_ROWS], shares).unique()
            else:
                places = levels[1:-1]
            knots.append(places)
            channels.append(torch.full((len(places),), c))
        hinges = cls(sum(len(places) for places in knots))
        if knots:
            hinges.knot.copy_(torch.cat(knots))
            hinges.channel.copy_(torch.cat(channels))
        return hinges

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C]`` to ``[N, C + T]``; NaN cells stay NaN."""
        hinges = (x[:, self.channel] - self.knot).clamp(min=0)
        return torch.cat([x, hinges], dim=1)
