"""Random dilated convolutions of packed sequences, without learned parameters.

Letters: ``L`` rows of all sequences, ``R`` rows of a chunk, ``n`` sequences, ``C``
channels, ``S`` streams (values and differences), ``D`` dilations, ``J`` kernels, ``Q``
biases of a kernel, ``F`` features.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import CLIP
from mmgraph.ops import segment_sum

TAPS, NUM_POSITIVE = 9, 3
KERNELS = tuple(combinations(range(TAPS), NUM_POSITIVE))  # taps of weight 2
NUM_DILATIONS, NUM_STREAMS, NUM_POOLS = 6, 2, 3
MAX_CHANNELS = 9  # of one end that a kernel reads
MAX_EDGE_CHANNELS = 5  # of each of two ends
BIAS_SEQUENCES, BIAS_MARGIN = 48, 0.05
CHUNK_ROWS = 4096
SMALLEST_SCALE = 1e-4


class RandomConvolution(nn.Module):
    """Pooled responses of the 84 fixed kernels of MiniRocket to random channels.

    Channels and their differences between consecutive rows are standardized; a missing
    cell counts as the mean. Each kernel of each dilation reads a random subset of the
    channels. The responses of a sequence, padded with zeros at both ends, are compared
    with thresholds and become the share of rows above, the mean excess above, and the
    mean position of the rows above. Sequences have any length of at least one; the
    features of a sequence do not depend on the others.

    Args:
        ends: Number of channels of a sequence, or of several sequences that are joined
            row by row: a kernel then reads channels of each of them, with random signs.
        num_biases: ``Q``, thresholds of a kernel.
        num_dilations: ``D``.

    References:
        MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series
        Classification, Dempster, Schmidt, Webb, 2021. ROCKET: Exceptionally Fast and
        Accurate Time Series Classification Using Random Convolutional Kernels,
        Dempster, Petitjean, Webb, 2020.
    """

    mean: Tensor
    scale: Tensor
    dilation: Tensor
    mixing: Tensor
    bias: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    taps: Tensor

    def __init__(
        self,
        ends: Sequence[int],
        *,
        num_biases: int = 2,
        num_dilations: int = NUM_DILATIONS,
    ) -> None:
        super().__init__()
        self.ends, channels = tuple(ends), sum(ends)
        kernels = NUM_STREAMS, num_dilations, len(KERNELS)
        self.channels, self.num_biases = channels, num_biases
        features = NUM_STREAMS * num_dilations * len(KERNELS) * num_biases * NUM_POOLS
        self.register_buffer("mean", torch.zeros(NUM_STREAMS, channels))
        self.register_buffer("scale", torch.ones(NUM_STREAMS, channels))
        self.register_buffer("dilation", torch.ones(num_dilations, dtype=torch.int64))
        self.register_buffer("mixing", torch.zeros(*kernels, channels))
        self.register_buffer("bias", torch.zeros(*kernels, num_biases))
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        taps = torch.full((len(KERNELS), TAPS), -1.0)
        for weights, positive in zip(taps, KERNELS, strict=True):
            weights[list(positive)] = 2.0
        self.register_buffer("taps", taps, persistent=False)

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
        for stream, x in enumerate((values, _differences(values, lengths))):
            mean, scale = _moments(x)
            self.mean[stream], self.scale[stream] = mean, scale
        self.dilation.copy_(_dilations(lengths, len(self.dilation)))
        self.mixing.copy_(self._draw_mixing(generator))
        chosen = torch.randperm(len(lengths), generator=generator)[:BIAS_SEQUENCES]
        self._fit_bias(values, lengths, chosen.sort().values, generator)
        pooled = self._pool(values, lengths)
        mean, scale = _moments(pooled)
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_(scale)
        return self._standardize(pooled)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map packed rows to features ``[n, F]`` of mean square about one over all.

        Args:
            values: ``[L, C]`` rows of all sequences, NaN if missing.
            lengths: ``[n]`` number of rows of each sequence, at least 1.
        """
        return self._standardize(self._pool(values, lengths))

    def _draw_mixing(self, generator: torch.Generator) -> Tensor:
        """Draw the channels of each kernel, some of each end ``[S, D, J, C]``."""
        most = MAX_CHANNELS if len(self.ends) == 1 else MAX_EDGE_CHANNELS
        shape = self.mixing.shape[:-1]
        parts = [
            _draw_channels(torch.Size([*shape, width]), most, generator)
            for width in self.ends
        ]
        mixing = torch.cat(parts, -1)
        if len(self.ends) > 1:
            mixing *= torch.randint(0, 2, mixing.shape, generator=generator) * 2 - 1
        return mixing

    def _standardize(self, pooled: Tensor) -> Tensor:
        z = (pooled - self.feature_mean) / self.feature_scale
        return z.clamp(-CLIP, CLIP) / self.out_features**0.5

    def _fit_bias(
        self,
        values: Tensor,
        lengths: Tensor,
        chosen: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Set thresholds to random quantiles of the responses to some sequences."""
        first = lengths.cumsum(0) - lengths
        rows = torch.cat(
            [
                torch.arange(f, f + n)
                for f, n in zip(
                    first[chosen].tolist(), lengths[chosen].tolist(), strict=True
                )
            ]
        )
        streams = self._streams(values[rows], lengths[chosen])
        level = torch.arange(self.num_biases) + torch.rand(
            self.bias.shape, generator=generator
        )
        level = BIAS_MARGIN + (1 - 2 * BIAS_MARGIN) * level / self.num_biases
        position, last = _positions(lengths[chosen])
        for s, x in enumerate(streams):
            for d in range(len(self.dilation)):
                response = self._response(x, s, d, slice(None), position, last)
                ordered = response.sort(dim=0).values
                index = (level[s, d] * (len(ordered) - 1)).round().long()  # [J, Q]
                self.bias[s, d] = ordered.T.gather(1, index)

    def _streams(self, values: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return standardized values and differences, with a last row of zeros."""
        result = []
        for s, x in enumerate((values, _differences(values, lengths))):
            z = ((x - self.mean[s]) / self.scale[s]).clamp(-CLIP, CLIP).nan_to_num(0)
            result.append(torch.cat([z, z.new_zeros(1, self.channels)]))
        return result

    def _response(
        self,
        x: Tensor,
        stream: int,
        index: int,
        rows: slice,
        position: Tensor,
        last: Tensor,
    ) -> Tensor:
        """Return the responses of all kernels of a dilation at some rows, ``[R, J]``.

        Args:
            x: ``[L + 1, C]`` standardized rows, the last one zero.
            stream: Index of the stream.
            index: Index of the dilation.
            rows: The rows.
            position: ``[L]`` position of each row in its sequence.
            last: ``[L]`` last position of its sequence.
        """
        center = torch.arange(len(x) - 1, device=x.device)[rows]
        offset = self.dilation[index] * torch.arange(-(TAPS // 2), TAPS // 2 + 1).to(
            x.device
        )
        place = position[rows, None] + offset
        inside = (place >= 0) & (place <= last[rows, None])
        source = torch.where(inside, center[:, None] + offset, len(x) - 1)
        weight = (
            self.taps[:, :, None] * self.mixing[stream, index][:, None]
        )  # [J, 9, C]
        windows = x[source].flatten(1)  # [R, 9 C]
        return windows @ weight.flatten(1).T

    def _pool(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the unstandardized features ``[n, F]``."""
        streams = self._streams(values, lengths)
        position, last = _positions(lengths)
        sample = torch.repeat_interleave(lengths)
        where = (position + 0.5) / (last + 1)
        shape = len(lengths), NUM_STREAMS, len(self.dilation), NUM_POOLS
        total = values.new_zeros(*shape, len(KERNELS) * self.num_biases)
        for start in range(0, len(values), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            low, high = int(sample[rows][0]), int(sample[rows][-1]) + 1
            for s, x in enumerate(streams):
                for d in range(len(self.dilation)):
                    response = self._response(x, s, d, rows, position, last)
                    excess = (response[..., None] - self.bias[s, d]).flatten(1)
                    above = (excess > 0).to(excess.dtype)
                    parts = above, excess.relu(), above * where[rows, None]
                    sums = segment_sum(
                        torch.cat(parts, 1), sample[rows] - low, high - low
                    )
                    total[low:high, s, d] += sums.unflatten(1, (NUM_POOLS, -1))
        count = total[:, :, :, :1].clone()
        total[:, :, :, :1] /= lengths[:, None, None, None, None]
        total[:, :, :, 1:] /= 1 + count
        return total.flatten(1)


def _differences(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the next row minus each row, NaN at the end of a sequence."""
    step = torch.full_like(values, torch.nan)
    step[:-1] = values[1:] - values[:-1]
    step[lengths.cumsum(0) - 1] = torch.nan
    return step


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
    most = torch.tensor(max(1.0, (median - 1) / (TAPS - 1))).log2()
    return (2 ** torch.linspace(0, float(most), number)).long().clamp(min=1)


def _draw_channels(shape: torch.Size, most: int, generator: torch.Generator) -> Tensor:
    """Return the weight of each channel of an end in each kernel, ``[..., C]``."""
    most = min(shape[-1], most)
    exponent = torch.rand(shape[:-1], generator=generator) * math.log2(most + 1)
    number = (2**exponent).long().clamp(1, most)
    rank = torch.rand(shape, generator=generator).argsort(-1).argsort(-1)
    chosen = rank < number[..., None]
    return chosen / number[..., None].sqrt()
