"""From observed rows to node states.

Letters: ``N`` rows, ``C`` channels, ``D`` width, ``B`` samples. An encoder sees only
rows that exist; a modality without rows gives no nodes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmgraph.nn.linear import Linear, Norm, standardise
from mmgraph.nn.scaling import Standardiser
from mmgraph.ops import (
    gelu,
    offsets_of,
    position_in,
    segment_mean,
    segment_statistics,
)

__all__ = ["EmbeddingEncoder", "Encoded", "SequenceEncoder", "VectorEncoder"]


class Encoded(NamedTuple):
    """Node states of one modality.

    Attributes:
        h: ``[..., N, D]`` states.
        sample: ``[N]`` ascending sample numbers.
        time: ``[N]`` seconds, or None.
    """

    h: Tensor
    sample: Tensor
    time: Tensor | None


class VectorEncoder(nn.Module):
    """Standardised values and missing-cell flags, a small network, a normalisation.

    The hidden layer lets the direction of a state say how large a value is; the
    normalisation alone would keep little more than its sign.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        members: Ensemble members computed together, or None.
    """

    def __init__(
        self, channels: int, hidden_channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.scaler = Standardiser(channels)
        width = 2 * hidden_channels
        self.inner = Linear(self.scaler.out_channels, width, members=members)
        self.outer = Linear(width, hidden_channels, members=members)
        self.norm = Norm(hidden_channels, members=members)

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardisation on observed training rows ``[N, C]``."""
        self.scaler.fit(x)

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode rows ``[N, C]``, one node each; NaN cells are flagged."""
        h = self.outer(gelu(self.inner(self.scaler(x))))
        return Encoded(self.norm(h), sample, time)


class EmbeddingEncoder(nn.Module):
    """Rows of another model's embedding space: normalised row by row, then mapped.

    A NaN cell counts as zero.
    """

    def __init__(
        self, channels: int, hidden_channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(channels, hidden_channels, members=members)
        self.norm = Norm(hidden_channels, members=members)

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Nothing to fit: an embedding is taken as it is."""

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode rows ``[N, C]``, one node each."""
        clean = standardise(torch.where(x.isnan(), 0, x))
        return Encoded(self.norm(self.linear(clean)), sample, time)


class SequenceEncoder(nn.Module):
    """Ragged sequences: at most ``max_nodes`` equal segments, each one node.

    A node knows its segment's mean, standard deviation, minimum, maximum and mean
    absolute step by channel, where in the sequence it lies, and its mean time. A
    sequence of at most ``max_nodes`` rows keeps every row as a node.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        max_nodes: Most nodes a sequence becomes.
        members: Ensemble members computed together, or None.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        max_nodes: int = 16,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.max_nodes = max_nodes
        self.vector = VectorEncoder(5 * channels + 1, hidden_channels, members=members)

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardisation on the segments of training rows ``[N, C]``."""
        rows, owner, _ = self._summarise(x, sample, None, num_samples)
        self.vector.fit(rows, owner, num_samples)

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode the rows ``[N, C]`` of sequences; fewer nodes than rows may result."""
        rows, owner, when = self._summarise(x, sample, time, num_samples)
        return self.vector(rows, owner, when, num_samples)

    def _summarise(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        offsets = offsets_of(sample, num_samples)
        length = offsets[1:] - offsets[:-1]  # [B]
        nodes = length.clamp(max=self.max_nodes)
        position = position_in(sample, num_samples)
        within = position * nodes[sample] // length[sample]
        first = nodes.cumsum(0) - nodes
        segment = first[sample] + within  # [N], ascending
        count = int(nodes.sum())
        owner = torch.repeat_interleave(nodes)
        place = position_in(owner, num_samples) / nodes[owner].to(x.dtype)
        summary = segment_statistics(x, segment, count)
        when = None
        if time is not None:
            when = segment_mean(time[:, None], segment, count)[:, 0]
        rows = torch.cat([summary, place[:, None].to(x.dtype)], dim=1)
        return rows, owner, when
