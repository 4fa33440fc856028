"""From observed rows to node states.

Letters: ``N`` rows, ``C`` channels, ``D`` width, ``B`` samples. An encoder sees only
rows that exist; a modality without rows gives no nodes.
"""

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
    """Rows of one modality: what its nodes are made of, or their states.

    An encoder of one's own takes observed rows ``[N, C]``, their samples and times, and
    the number of samples; what it returns need not have as many rows. The nodes of a
    sample must depend on its own rows alone.

    Attributes:
        h: ``[..., N, D]`` states, or ``[N, C]`` before they are mapped.
        sample: ``[N]`` ascending sample numbers.
        time: ``[N]`` seconds, or None.
        missing: ``[N]`` Bool where every sample has equally many rows: True where one
            only keeps the place of what is not there. None otherwise.
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
        >>> own = {"ecg": Spectrum(64, hidden_channels=32)}
        >>> model = FusionModel(schema, Classification(num_classes=2), encoders=own)
        >>> batch = Batch(2, {"ecg": torch.randn(1, 64)}, {"ecg": torch.tensor([1])})
        >>> model(batch).logits.shape
        torch.Size([2, 2])
    """

    h: Tensor
    sample: Tensor
    time: Tensor | None
    missing: Tensor | None = None
    max_per_sample: int | None = None


class RowEncoder(nn.Module):
    """Rows made ready for it, affine maps with GELU between them, a normalization.

    What is ready needs no parameters, so that the maps of many modalities are one
    computation: see :func:`encode_together`.
    """

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """The affine maps, first to last, and the normalization."""
        raise AssertionError("an encoder of rows must say what they go through")

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return one row ``[N, C']`` for every node, from rows ``[L, C]``."""
        raise AssertionError("an encoder of rows must make them ready")

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode rows ``[L, C]`` as the states ``[..., N, D]`` of nodes."""
        ready = self.prepare(Encoded(x, sample, time), num_samples)
        return ready._replace(h=_map_rows([self], [ready.h]))


def encode_together(
    encoders: Sequence[nn.Module], rows: Sequence[Encoded], num_samples: int
) -> tuple[list[Tensor], list[Encoded]]:
    """Encode the rows of several modalities.

    Neighbors whose maps have the same widths are one table from their maps on; any
    other module is called by itself.

    Args:
        encoders: ``M`` of them.
        rows: Rows of each, as in the batch.
        num_samples: ``B``.

    Returns:
        Tables ``[..., N, D]`` that follow each other, and of each modality its nodes;
        their ``h`` is not to be used.

    Raises:
        ConfigError: An encoder that returns something else than ``Encoded``.
    """
    tables: list[Tensor] = []
    found: list[Encoded] = []
    pairs = zip(encoders, rows, strict=True)
    for alike, neighbors in groupby(pairs, key=lambda pair: _widths(pair[0])):
        some = list(neighbors)
        if alike is None:
            nodes = [
                _encode_alone(encoder, each, num_samples) for encoder, each in some
            ]
            tables += [each.h for each in nodes]
        else:
            together = [cast("RowEncoder", encoder) for encoder, _ in some]
            ready = zip(together, (each for _, each in some), strict=True)
            nodes = [encoder.prepare(each, num_samples) for encoder, each in ready]
            tables.append(_map_rows(together, [each.h for each in nodes]))
        found += nodes
    return tables, found


def _without_gaps(rows: Encoded) -> Encoded:
    """Return the rows that are there, of a regular batch."""
    assert rows.missing is not None
    there = ~rows.missing
    time = None if rows.time is None else rows.time[there]
    return Encoded(rows.h[there], rows.sample[there], time, None, rows.max_per_sample)


def _encode_alone(encoder: nn.Module, rows: Encoded, num_samples: int) -> Encoded:
    """Ask a module that knows rows, samples and time only: no gaps in sequences."""
    if rows.missing is not None and rows.max_per_sample != 1:
        rows = _without_gaps(rows)
    found = encoder(rows.h, rows.sample, rows.time, num_samples)
    if not isinstance(found, Encoded):
        raise ConfigError(
            f"An encoder must return Encoded, got {type(found).__name__} of "
            f"{type(encoder).__name__}. Return "
            "mmgraph.nn.Encoded(h, sample, time)."
        )
    if found.sample is rows.sample:
        return found._replace(missing=rows.missing, max_per_sample=rows.max_per_sample)
    if rows.missing is not None:  # its nodes are not those rows
        return _encode_alone(encoder, _without_gaps(rows), num_samples)
    return found._replace(missing=None, max_per_sample=None)


def _widths(encoder: nn.Module) -> tuple[torch.Size, ...] | None:
    """Return what maps of one table share; None for a module that is called alone."""
    if not isinstance(encoder, RowEncoder):
        return None
    if type(encoder).forward is not RowEncoder.forward:
        return None
    return tuple(linear.bias.shape for linear in encoder.network[0])


def _map_rows(encoders: Sequence[RowEncoder], rows: Sequence[Tensor]) -> Tensor:
    """Return the states ``[..., N, D]`` of rows ``[N_t, C_t]``, part after part."""
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
    """Standardized values and missing-cell flags, a small network, a normalization.

    The hidden layer lets the direction of a state say how large a value is; the
    normalization alone would keep little more than its sign. One row is one node; NaN
    cells are flagged.

    Args:
        channels: ``C``.
        hidden_channels: ``D``.
        members: Ensemble members computed together, or None.
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
        """The affine maps, first to last, and the normalization."""
        return (self.inner, self.outer), self.norm

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardization on observed training rows ``[N, C]``."""
        self.scaler.fit(x)

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return the standardized values and flags of rows ``[N, C]``."""
        return rows._replace(h=self.scaler(rows.h))


class EmbeddingEncoder(RowEncoder):
    """Rows of another model's embedding space: normalized row by row, then mapped.

    A NaN cell counts as zero. One row is one node.
    """

    def __init__(
        self, channels: int, hidden_channels: int, *, members: int | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(channels, hidden_channels, members=members)
        self.norm = Norm(hidden_channels, members=members)

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """The affine map and the normalization."""
        return (self.linear,), self.norm

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Nothing to fit: an embedding is taken as it is."""

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Normalize rows ``[N, C]``."""
        return rows._replace(h=standardize(rows.h.masked_fill(rows.h.isnan(), 0)))


def _places(rows: Encoded, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return each row's place in its sequence ``[N]``, and all lengths ``[B]``."""
    sample, missing, most = rows.sample, rows.missing, rows.max_per_sample
    if missing is None:
        offsets = offsets_of(sample, num_samples)
        return position_in(sample, num_samples), offsets[1:] - offsets[:-1]
    assert most is not None
    position = torch.arange(sample.shape[0], device=sample.device) - sample * most
    return position, (~missing).unflatten(0, (num_samples, most)).sum(1)


class SequenceEncoder(RowEncoder):
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

    @property
    def network(self) -> tuple[tuple[Linear, ...], Norm]:
        """The affine maps, first to last, and the normalization."""
        return self.vector.network

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the standardization on the segments of training rows ``[N, C]``."""
        ready = self._summarize(Encoded(x, sample, None), num_samples)
        self.vector.fit(ready.h, ready.sample, num_samples)

    def prepare(self, rows: Encoded, num_samples: int) -> Encoded:
        """Summarize the rows ``[N, C]`` of sequences; fewer rows may result."""
        ready = self._summarize(rows, num_samples)
        return self.vector.prepare(ready, num_samples)

    def _summarize(self, rows: Encoded, num_samples: int) -> Encoded:
        """Return a row for every segment; a regular batch stays one."""
        x, sample, time, missing, most = rows
        width = self.max_nodes
        if missing is None and most is not None:
            width = min(width, most)
        position, length = _places(rows, num_samples)
        nodes = length.clamp(max=width)
        segment = sample * width + position * nodes[sample] // length[sample].clamp(1)
        count = num_samples * width
        if missing is not None:  # what only keeps a place is in none of the segments
            segment = segment.masked_fill(missing, count)
        each = torch.arange(num_samples, device=x.device)
        number = torch.arange(width, device=x.device)  # of a segment in its sequence
        owner = each[:, None].expand(-1, width).flatten()
        gaps = number >= nodes[:, None]
        place = number / nodes.clamp(1)[:, None].to(x.dtype)
        summary = segment_statistics(x, segment, count + 1)[:-1]
        table = torch.cat([summary, place.to(x.dtype).flatten()[:, None]], dim=1)
        when = None
        if time is not None:
            when = segment_mean(time[:, None], segment, count + 1)[:-1, 0]
        ready = Encoded(table, owner, when, gaps.flatten(), width)
        return ready if missing is not None else _without_gaps(ready)
