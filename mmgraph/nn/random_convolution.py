"""Random dilated convolutions of sequences, without learned parameters.

Letters: ``L`` rows of all sequences, ``R`` rows of a chunk, ``n`` sequences, ``T`` rows
of the longest sequence, ``C`` channels, ``D`` dilations, ``J`` kernels, ``Q``
thresholds of a kernel, ``F`` features.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import CLIP

TAPS, NUM_POSITIVE = 9, 3
KERNELS = tuple(combinations(range(TAPS), NUM_POSITIVE))  # taps of weight 2
NUM_DILATIONS, NUM_POOLS = 6, 3
MAX_CHANNELS = 9  # that a kernel reads of one sequence
MAX_JOINT_CHANNELS = 5  # that a kernel reads of each of several joined sequences
THRESHOLD_SEQUENCES, THRESHOLD_ROWS = 48, 16_384  # of which quantiles are taken
MARGIN = 0.05  # quantiles below this and above one minus this are not thresholds
STEP = 2.0**-10  # thresholds lie between multiples of this: constant rows are no ties
CHUNK_ROWS = 512  # whose responses stay in the cache
SMALLEST_SCALE = 1e-4


class RandomConvolution(nn.Module):
    """Pooled responses of the 84 fixed kernels of MiniRocket to random channels.

    Channels are standardized; a missing cell counts as the mean. Each kernel of each
    dilation reads a random subset of the channels. Its responses to a sequence, padded
    with zeros at both ends, are compared with thresholds, which are quantiles of the
    responses to training sequences. The features of a sequence are the share of rows
    above the threshold, the mean excess of these rows, and their mean position. They
    do not depend on other sequences.

    Args:
        ends: Number of channels of a sequence, or of each of several sequences that are
            joined row by row: a kernel then reads channels of each of them, with random
            signs.
        num_thresholds: ``Q``.
        num_dilations: ``D``.

    References:
        MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series
        Classification, Dempster, Schmidt, Webb, 2021. ROCKET: Exceptionally Fast and
        Accurate Time Series Classification Using Random Convolutional Kernels,
        Dempster, Petitjean, Webb, 2020.
    """

    DIVISORS = ("scale", "feature_scale")

    mean: Tensor
    scale: Tensor
    dilation: Tensor
    mixing: Tensor
    threshold: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    taps: Tensor

    def __init__(
        self,
        ends: Sequence[int],
        *,
        num_thresholds: int = 2,
        num_dilations: int = NUM_DILATIONS,
    ) -> None:
        super().__init__()
        self.ends, self.num_thresholds = tuple(ends), num_thresholds
        channels, kernels = sum(ends), (num_dilations, len(KERNELS))
        features = NUM_POOLS * num_dilations * len(KERNELS) * num_thresholds
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("dilation", torch.ones(num_dilations, dtype=torch.int64))
        self.register_buffer("mixing", torch.zeros(*kernels, channels))
        self.register_buffer("threshold", torch.zeros(*kernels, num_thresholds))
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        taps = torch.full((len(KERNELS), TAPS), -1.0)
        positive = torch.tensor(KERNELS)
        self.register_buffer("taps", taps.scatter(1, positive, 2.0))

    @property
    def out_features(self) -> int:
        """Number of features ``F``."""
        return len(self.feature_mean)

    @torch.no_grad()
    def fit(
        self, values: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw channels and thresholds, and fit all scales to training sequences.

        Args:
            values: ``[L, C]`` rows of all sequences, NaN if missing.
            lengths: ``[n]`` number of rows of each sequence, at least 1.
            generator: Generator of the channels and of the thresholds.

        Returns:
            Features ``[n, F]`` of the sequences.
        """
        for old, new in zip((self.mean, self.scale), _moments(values), strict=True):
            old.copy_(new)
        self.dilation.copy_(_dilations(lengths, len(self.dilation)))
        self.mixing.copy_(self._draw_mixing(generator))
        self._fit_thresholds(values, lengths, generator)
        pooled = self._pool(values, lengths)
        for old, new in zip(
            (self.feature_mean, self.feature_scale), _moments(pooled), strict=True
        ):
            old.copy_(new)
        return self._standardize(pooled)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map sequences to features ``[n, F]``, whose mean squared norm is about one.

        Args:
            values: ``[L, C]`` rows of all sequences, NaN if missing; or padded
                sequences ``[n, T, C]``, whose shapes do not depend on the data.
            lengths: ``[n]`` number of rows of each sequence, at least 1. A padded
                sequence may have length 0; its features mean nothing.
        """
        return self._standardize(self._pool(values, lengths))

    def _draw_mixing(self, generator: torch.Generator) -> Tensor:
        """Draw the weight of each channel in each kernel, ``[D, J, C]``."""
        most = MAX_CHANNELS if len(self.ends) == 1 else MAX_JOINT_CHANNELS
        shape = self.mixing.shape[:-1]
        parts = [_draw_channels((*shape, c), most, generator) for c in self.ends]
        mixing = torch.cat(parts, -1)
        if len(self.ends) > 1:
            mixing *= torch.randint(0, 2, mixing.shape, generator=generator) * 2 - 1
        return mixing

    def _fit_thresholds(
        self, values: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> None:
        """Set thresholds to random quantiles of the responses to some sequences."""
        position, last = _positions(lengths)
        chosen = torch.randperm(len(lengths), generator=generator)[:THRESHOLD_SEQUENCES]
        of_chosen = torch.zeros(len(lengths), dtype=torch.bool)
        of_chosen[chosen] = True
        rows = torch.nonzero(of_chosen.repeat_interleave(lengths))[:, 0]
        rows = rows[:: -(-len(rows) // THRESHOLD_ROWS)]
        part = torch.arange(self.num_thresholds)
        share = part + torch.rand(self.threshold.shape, generator=generator)
        share = MARGIN + (1 - 2 * MARGIN) * share / self.num_thresholds  # [D, J, Q]
        x = self._inputs(values)
        for d in range(len(self.dilation)):
            which = slice(d, d + 1)
            response = self._responses(x, which, rows, position, last)[:, 0]
            ordered = response.sort(dim=0).values
            index = (share[d] * (len(ordered) - 1)).round().long()
            value = ordered.T.gather(1, index)
            self.threshold[d] = STEP * ((value / STEP).floor() + 0.5)

    def _inputs(self, values: Tensor) -> Tensor:
        """Return standardized rows, followed by a row of zeros, ``[L + 1, C]``."""
        z = ((values - self.mean) / self.scale).clamp(-CLIP, CLIP)
        z = torch.where(z.isnan(), 0, z)
        return torch.cat([z, z.new_zeros(1, z.shape[1])])

    def _responses(
        self, x: Tensor, which: slice, rows: Tensor, position: Tensor, last: Tensor
    ) -> Tensor:
        """Return the responses of all kernels of ``d`` dilations, ``[R, d, J]``.

        Args:
            x: ``[L + 1, C]`` standardized rows, the last one zero.
            which: Indices of the dilations.
            rows: ``[R]`` rows in the centers of the kernels.
            position: ``[L]`` position of each row in its sequence.
            last: ``[L]`` last position of its sequence.
        """
        taps = torch.arange(-(TAPS // 2), TAPS // 2 + 1, device=x.device)
        offset = self.dilation[which, None] * taps  # [d, 9]
        place = position[rows, None, None] + offset
        inside = (place >= 0) & (place <= last[rows, None, None])
        source = torch.where(inside, rows[:, None, None] + offset, x.shape[0] - 1)
        windows = x[source].flatten(2).transpose(0, 1)  # [d, R, 9 C]
        weight = self.taps[:, :, None] * self.mixing[which, :, None]  # [d, J, 9, C]
        return (windows @ weight.flatten(2).transpose(1, 2)).transpose(0, 1)

    def _summands(
        self,
        x: Tensor,
        which: slice,
        rows: Tensor,
        position: Tensor,
        last: Tensor,
    ) -> Tensor:
        """Return what each row adds to the sums of its sequence, ``[R, d, 3, J Q]``."""
        where = (position[rows] + 0.5) / (last[rows] + 1).clamp(min=1)
        exists = (position[rows] <= last[rows])[:, None, None]
        response = self._responses(x, which, rows, position, last)
        excess = (response[..., None] - self.threshold[which]).flatten(2)
        above = ((excess > 0) & exists).to(excess.dtype)
        return torch.stack([above, above * excess, above * where[:, None, None]], 2)

    def _pool(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the unstandardized features ``[n, F]``."""
        padded = values.ndim == 3
        total = self._padded_sums if padded else self._packed_sums
        count, excess, place = total(values, lengths).unbind(2)
        share = count / lengths[:, None, None].clamp(min=1)
        parts = [share, excess / (1 + count), place / (1 + count)]
        return torch.stack(parts, 2).flatten(1)

    def _padded_sums(self, values: Tensor, lengths: Tensor) -> Tensor:
        shape = values.shape[:2]
        position = torch.arange(shape[1], device=values.device).expand(shape).flatten()
        last = (lengths - 1)[:, None].expand(shape).flatten()
        rows = torch.arange(shape[0] * shape[1], device=values.device)
        x = self._inputs(values.flatten(0, 1))
        # all dilations at once: an exported model has few nodes
        parts = self._summands(x, slice(None), rows, position, last)
        return parts.unflatten(0, shape).sum(1)

    def _packed_sums(self, values: Tensor, lengths: Tensor) -> Tensor:
        position, last = _positions(lengths)
        sample = torch.repeat_interleave(lengths)
        where = (position + 0.5) / (last + 1)
        x = self._inputs(values)
        levels = self.threshold.transpose(1, 2).contiguous()  # [D, Q, J]
        shape = len(lengths), len(levels), NUM_POOLS, *levels.shape[1:]
        total = values.new_zeros(shape)
        for rows in torch.arange(len(values), device=values.device).split(CHUNK_ROWS):
            low, high = int(sample[rows[0]]), int(sample[rows[-1]]) + 1
            own = torch.arange(low, high, device=values.device)[:, None] == sample[rows]
            sums = own.to(values.dtype)  # [n, R], sums over rows as matrix products
            both = torch.cat([sums, sums * where[rows]])
            for d, level in enumerate(levels):
                which = slice(d, d + 1)
                response = self._responses(x, which, rows, position, last)
                excess = (response - level).clamp_(min=0).flatten(1)  # [R, Q J]
                count, place = (both @ excess.sign()).chunk(2)
                parts = torch.stack([count, sums @ excess, place], 1)
                total[low:high, d] += parts.unflatten(2, level.shape)
        return total.transpose(3, 4).flatten(3)

    def _standardize(self, pooled: Tensor) -> Tensor:
        z = (pooled - self.feature_mean) / self.feature_scale
        return z.clamp(-CLIP, CLIP) / self.out_features**0.5


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the observed cells of each column."""
    seen = ~x.isnan()
    count = seen.sum(0).clamp(min=1)
    mean = torch.where(seen, x, 0).sum(0, dtype=torch.double) / count
    centered = torch.where(seen, x - mean.to(x.dtype), 0)
    variance = centered.square().sum(0, dtype=torch.double) / count
    return mean.to(x.dtype), (variance.sqrt() + SMALLEST_SCALE).to(x.dtype)


def _positions(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position of each row in its sequence, and the last position."""
    sample = torch.repeat_interleave(lengths)
    first = lengths.cumsum(0) - lengths
    rows = torch.arange(len(sample), device=lengths.device)
    return rows - first[sample], lengths[sample] - 1


def _dilations(lengths: Tensor, number: int) -> Tensor:
    """Return dilations up to the one that spans a sequence of median length."""
    median = float(lengths.median())
    most = math.log2(max(1.0, (median - 1) / (TAPS - 1)))
    return (2 ** torch.linspace(0, most, number)).long().clamp(min=1)


def _draw_channels(
    shape: Sequence[int], most: int, generator: torch.Generator
) -> Tensor:
    """Return the weight of each channel of a sequence in each kernel, ``[..., C]``."""
    shape = tuple(shape)
    most = min(shape[-1], most)
    exponent = torch.rand(shape[:-1], generator=generator) * math.log2(most + 1)
    number = (2**exponent).long().clamp(1, most)
    rank = torch.rand(shape, generator=generator).argsort(-1).argsort(-1)
    chosen = rank < number[..., None]
    return chosen / number[..., None].sqrt()
