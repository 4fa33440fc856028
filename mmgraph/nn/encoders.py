"""Encoders: node states of one modality from its observed rows.

Letters: ``L`` rows, ``N`` nodes, ``C`` channels, ``D`` width, ``B`` samples, ``M``
modalities. An encoder receives observed rows only; a modality without rows has no
nodes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mmgraph.errors import ConfigError
from mmgraph.nn.linear import Linear, Norm, standardize
from mmgraph.nn.scaling import StandardScaler
from mmgraph.nn.segment_linear import grouped_linear, segment_affine
from mmgraph.ops import (
    gelu,
    offsets_of,
    position_in,
    segment_mean,
    segment_statistics,
)

__all__ = ["EmbeddingEncoder", "Encoded", "SequenceEncoder", "VectorEncoder"]


class Encoded(NamedTuple):
    """Result of an encoder: node states of one modality.

    Also the input of the built-in encoders, then with rows in place of states. A custom
    encoder is a module whose ``forward`` takes observed rows ``[L, C]``, their
    ascending sample indices ``[L]``, their times ``[L]`` or None, and the number of
    samples. The number of nodes may differ from that of rows. The nodes of a sample
    must depend on the rows of that sample only.

    Attributes:
        h: ``[..., N, D]`` states, or ``[L, C]`` rows before they are mapped.
        sample: ``[N]`` ascending sample indices.
        time: ``[N]`` seconds, or None.
        missing: ``[N]`` Bool, True for padding rows, where every sample has the same
            number of rows; None where all rows are observed. A custom encoder leaves it
            at None.
        max_per_sample: Upper bound on the rows per sample, where known.

    Example:
        >>> from mmgraph.nn import Encoded
        >>> class Spectrum(torch.nn.Module):
        ...     def __init__(self, channels, hidden_channels):
        ...         super().__init__()
        ...         self.linear = torch.nn.Linear(channels // 2 + 1, hidden_channels)
        ...
        ...     def forward(self, x, sample, time, num_samples):
        ...         return Encoded(self.linear(torch.fft.rfft(x).abs()), sample, time)
        >>> schema = Schema.star([Modality("labs", 3), Modality("ecg", 64)])
        >>> encoders = {"ecg": Spectrum(64, hidden_channels=32)}
        >>> model = FusionModel(schema, Classification(2), encoders=encoders)
        >>> batch = Batch(2, {"ecg": torch.randn(1, 64)}, {"ecg": torch.tensor([1])})
        >>> model(batch).logits.shape
        torch.Size([2, 2])
    """

    h: Tensor
    sample: Tensor
    time: Tensor | None
    missing: Tensor | None = None
    max_per_sample: int | None = None


class RowEncoder(nn.Module, ABC):
    """Base class of encoders: parameter-free preparation, perceptron, layer norm.

    The preparation has no parameters, so that the perceptrons of several modalities can
    be computed together by :func:`encode_together`.
    """

    @property
    @abstractmethod
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """Affine maps, first to last, and the layer normalization."""

    @abstractmethod
    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return one row ``[N, C']`` for every node, from rows ``[L, C]``."""

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode rows.

        Args:
            x: ``[L, C]`` observed rows, NaN in missing cells.
            sample: ``[L]`` ascending sample indices.
            time: ``[L]`` seconds, or None.
            num_samples: ``B``.

        Returns:
            States ``[..., N, D]`` of the nodes.
        """
        prepared = self.prepare(Encoded(x, sample, time), num_samples)
        return prepared._replace(h=_map_rows([self], [prepared.h]))


def encode_together(
    encoders: Sequence[nn.Module], rows: Sequence[Encoded], num_samples: int
) -> tuple[list[Tensor], list[Encoded]]:
    """Encode several modalities.

    Consecutive encoders of equal widths are computed as one table; custom encoders are
    called separately.

    Args:
        encoders: ``M`` encoders.
        rows: ``M`` tables of rows, as in the batch.
        num_samples: ``B``.

    Returns:
        Tables ``[..., N, D]`` of states, to be concatenated, and the nodes of each
        modality, whose ``h`` is undefined.

    Raises:
        ConfigError: If an encoder does not return :class:`Encoded`.
    """
    tables: list[Tensor] = []
    all_nodes: list[Encoded] = []
    pairs = zip(encoders, rows, strict=True)
    for alike, neighbors in groupby(pairs, key=lambda pair: _widths(pair[0])):
        group = list(neighbors)
        if alike is None:
            nodes = [
                _encode_alone(encoder, each, num_samples) for encoder, each in group
            ]
            tables += [each.h for each in nodes]
        else:
            row_encoders = [cast("RowEncoder", encoder) for encoder, _ in group]
            parts = zip(row_encoders, (each for _, each in group), strict=True)
            nodes = [encoder.prepare(each, num_samples) for encoder, each in parts]
            tables.append(_map_rows(row_encoders, [each.h for each in nodes]))
        all_nodes += nodes
    return tables, all_nodes


def _without_gaps(rows: Encoded) -> Encoded:
    """Return the rows without padding."""
    assert rows.missing is not None
    kept = ~rows.missing
    time = None if rows.time is None else rows.time[kept]
    return Encoded(rows.h[kept], rows.sample[kept], time, None, rows.max_per_sample)


def _encode_alone(encoder: nn.Module, rows: Encoded, num_samples: int) -> Encoded:
    """Call a custom encoder, which does not support padding in sequences."""
    if rows.missing is not None and rows.max_per_sample != 1:
        rows = _without_gaps(rows)
    nodes = encoder(rows.h, rows.sample, rows.time, num_samples)
    if not isinstance(nodes, Encoded):
        raise ConfigError(
            f"An encoder must return Encoded, got {type(nodes).__name__} from "
            f"{type(encoder).__name__}. Return "
            "mmgraph.nn.Encoded(h, sample, time)."
        )
    if nodes.sample is rows.sample:
        return nodes._replace(missing=rows.missing, max_per_sample=rows.max_per_sample)
    if rows.missing is not None:  # nodes do not correspond to rows
        return _encode_alone(encoder, _without_gaps(rows), num_samples)
    return nodes._replace(missing=None, max_per_sample=None)


def _widths(encoder: nn.Module) -> tuple[torch.Size, ...] | None:
    """Return the output widths of the maps; None for a custom encoder."""
    if not isinstance(encoder, RowEncoder):
        return None
    if type(encoder).forward is not RowEncoder.forward:
        return None
    return tuple(linear.bias.shape for linear in encoder.network[0])


def _map_rows(encoders: Sequence[RowEncoder], rows: Sequence[Tensor]) -> Tensor:
    """Return the states ``[..., N, D]`` of rows ``[N_t, C_t]``, table after table."""
    counts = [x.shape[-2] for x in rows]
    networks = [encoder.network for encoder in encoders]
    first, *others = zip(*(linears for linears, _ in networks), strict=True)
    h = _map_each(rows, first)
    for linears in others:
        h = _map_each(gelu(h).split(counts, -2), linears)
    norms = [norm for _, norm in networks]
    weights, biases = [norm.weight for norm in norms], [norm.bias for norm in norms]
    return segment_affine(standardize(h), counts, weights, biases)


def _map_each(rows: Sequence[Tensor], linears: Sequence[Linear]) -> Tensor:
    return grouped_linear(rows, [x.weight for x in linears], [x.bias for x in linears])


class VectorEncoder(RowEncoder):
    """Encoder of feature vectors: a perceptron on values and missing-cell indicators.

    Every row becomes one node. Values are standardized (:meth:`fit`); NaN cells become
    zero and set an indicator channel. One hidden layer precedes the final layer
    normalization, because the normalization of a linear map would keep little more than
    the sign of a value.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> encoder = nn.VectorEncoder(channels=3, hidden_channels=16)
        >>> x, sample = torch.randn(2, 3), torch.tensor([0, 4])
        >>> encoder.fit(x, sample, num_samples=5)
        >>> encoder(x, sample, None, num_samples=5).h.shape
        torch.Size([2, 16])
    """

    def __init__(
        self, channels: int, hidden_channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.scaler = StandardScaler(channels)
        width = 2 * hidden_channels
        self.inner = Linear(self.scaler.out_channels, width, members=members)
        self.outer = Linear(width, hidden_channels, members=members)
        self.norm = Norm(hidden_channels, members=members)

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """Affine maps, first to last, and the layer normalization."""
        return (self.inner, self.outer), self.norm

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardization on training rows ``[L, C]``."""
        self.scaler.fit(x)

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return standardized values and missing-cell indicators of rows ``[L, C]``."""
        return rows._replace(h=self.scaler(rows.h))


class EmbeddingEncoder(RowEncoder):
    """Encoder of embeddings of another model: layer norm, linear map, layer norm.

    Every row becomes one node; a NaN cell counts as zero.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> encoder = nn.EmbeddingEncoder(channels=384, hidden_channels=16)
        >>> x, sample = torch.randn(2, 384), torch.tensor([0, 4])
        >>> encoder(x, sample, None, num_samples=5).h.shape
        torch.Size([2, 16])
    """

    def __init__(
        self, channels: int, hidden_channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(channels, hidden_channels, members=members)
        self.norm = Norm(hidden_channels, members=members)

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """Affine map and layer normalization."""
        return (self.linear,), self.norm

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Do nothing: the normalization of a row depends on that row only."""

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return rows ``[L, C]`` with mean 0 and variance 1 each."""
        return rows._replace(h=standardize(rows.h.masked_fill(rows.h.isnan(), 0)))


def _positions(rows: Encoded, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return the index of each row in its sequence, ``[L]``, and lengths ``[B]``."""
    sample, missing, width = rows.sample, rows.missing, rows.max_per_sample
    if missing is None:
        offsets = offsets_of(sample, num_samples)
        return position_in(sample, num_samples), offsets[1:] - offsets[:-1]
    assert width is not None
    position = torch.arange(sample.shape[0], device=sample.device) - sample * width
    return position, (~missing).unflatten(0, (num_samples, width)).sum(1)


class SequenceEncoder(RowEncoder):
    """Encoder of sequences of any length: summary statistics of equal segments.

    A sequence is split into at most ``max_nodes`` segments of equal length, and each
    becomes one node. The features of a segment are the mean, standard deviation,
    minimum, maximum and mean absolute difference of consecutive rows of each channel,
    and the relative position of the segment; the time of the node is the mean time. In
    a sequence of at most ``max_nodes`` rows, every row is a segment. NaN cells are left
    out of the statistics.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        max_nodes: Largest number of nodes per sequence.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> encoder = nn.SequenceEncoder(2, hidden_channels=16, max_nodes=4)
        >>> sample = torch.tensor([0] * 10 + [1] * 3)  # lengths 10 and 3
        >>> nodes = encoder(torch.randn(13, 2), sample, None, num_samples=2)
        >>> nodes.sample.tolist()
        [0, 0, 0, 0, 1, 1, 1]
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

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """Affine maps, first to last, and the layer normalization."""
        return self.vector.network

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardization on the segments of training rows ``[L, C]``."""
        segments = self._summarize(Encoded(x, sample, None), num_samples)
        self.vector.fit(segments.h, segments.sample, num_samples)

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return the standardized statistics of the segments of rows ``[L, C]``."""
        segments = self._summarize(rows, num_samples)
        return self.vector.prepare(segments, num_samples)

    def _summarize(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return one row for every segment; padded sequences stay padded."""
        x, sample, time, missing, longest = rows
        width = self.max_nodes
        if missing is None and longest is not None:
            width = min(width, longest)
        position, length = _positions(rows, num_samples)
        nodes = length.clamp(max=width)
        segment = sample * width + position * nodes[sample] // length[sample].clamp(1)
        count = num_samples * width
        if missing is not None:  # padding belongs to no segment
            segment = segment.masked_fill(missing, count)
        each = torch.arange(num_samples, device=x.device)
        number = torch.arange(width, device=x.device)  # index of a segment
        owner = each[:, None].expand(-1, width).flatten()
        gaps = number >= nodes[:, None]
        relative = number / nodes.clamp(1)[:, None].to(x.dtype)
        summary = segment_statistics(x, segment, count + 1)[:-1]
        table = torch.cat([summary, relative.to(x.dtype).flatten()[:, None]], dim=1)
        segment_time = None
        if time is not None:
            segment_time = segment_mean(time[:, None], segment, count + 1)[:-1, 0]
        segments = Encoded(table, owner, segment_time, gaps.flatten(), width)
        return segments if missing is not None else _without_gaps(segments)
