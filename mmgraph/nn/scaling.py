"""Input transformations for tables with missing cells.

Letters: ``N`` rows, ``C`` channels, ``T`` knots.
"""

import torch
from torch import Tensor, nn

CLIP = 8.0
ROUNDING = 2e-7  # relative spread below which a float32 channel is constant
QUANTILE_ROWS = 1_000_000  # torch.quantile takes at most 16 million
SENTINEL_DISTANCE = 1e4  # from the median, in units of the 5-95 % interquantile range
SENTINEL_ROWS = 10_000  # enough to estimate that range


class StandardScaler(nn.Module):
    """Standardized values and missing-cell indicators of a table.

    Mean and standard deviation are those of the observed training cells. A channel that
    is constant there, or never observed, has scale one. Values are clipped at eight
    standard deviations. Sentinel values such as 1e20 are excluded from mean and
    standard deviation: cells that are farther from the median than 10,000 times the
    range between the 5 % and the 95 % quantile.

    Args:
        channels: ``C``.
    """

    DIVISORS = ("scale",)

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @property
    def out_channels(self) -> int:
        """Width of the result, ``2 C``: a value and an indicator for every channel."""
        return 2 * self.channels

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit mean and scale on rows ``[N, C]``; NaN cells are ignored."""
        seen = ~x.isnan() & ~_is_sentinel(x)
        count = seen.sum(0).clamp(min=1)
        clean = torch.where(seen, x, 0).double()
        mean = clean.sum(0) / count
        variance = (torch.where(seen, clean - mean, 0).square().sum(0)) / count
        constant = variance <= (ROUNDING * mean).square()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, 1, variance).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 2 C]``: values, zero where missing, followed by indicators."""
        missing = x.isnan()
        z = ((x - self.mean) / self.scale).clamp(-CLIP, CLIP).masked_fill(missing, 0)
        return torch.cat([z, missing.to(z.dtype)], dim=1)


def _is_sentinel(x: Tensor) -> Tensor:
    """Return ``[N, C]`` Bool, True for cells far outside the range of their channel."""
    step = max(1, len(x) // SENTINEL_ROWS)
    shares = torch.tensor([0.05, 0.5, 0.95], dtype=torch.double, device=x.device)
    subsample = x[::step].double()
    if not len(subsample):
        return torch.zeros_like(x, dtype=torch.bool)
    low, middle, high = torch.nanquantile(subsample, shares, dim=0)
    limit = torch.where(high > low, SENTINEL_DISTANCE * (high - low), torch.inf)
    return (x - middle).abs() > limit


class PiecewiseLinear(nn.Module):
    """Linear-spline basis of every channel: hinge functions ``max(x - knot, 0)``.

    Knots are inner quantiles of the training rows. A channel with few distinct values
    has a knot at each inner value, a constant channel none. A linear model of the
    result is an additive model with piecewise-linear functions of the channels.

    References:
        Multivariate Adaptive Regression Splines, Friedman, 1991 (hinge functions).

    Args:
        num_knots: Total number of knots, ``T``.
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
        """Return the basis with knots at quantiles of rows ``[N, C]``, without NaN."""
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
        """Return ``[N, C + T]``: the values, followed by the hinges; NaN stays NaN."""
        hinges = (x[:, self.channel] - self.knot).clamp(min=0)
        return torch.cat([x, hinges], dim=1)
