"""Segment reductions and slot layouts of packed rows.

A segment is the set of rows with the same index; the reduction of an empty segment is
zero.

Letters: ``N`` rows, ``B`` samples, ``S`` segments or slots, ``D`` width, ``M`` tables,
``H`` heads. ``...`` are leading axes, such as that of ensemble members.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

HAS_TORCH_SCATTER = find_spec("torch_scatter") is not None


def offsets_of(sample: Int[Tensor, " N"], num_samples: int) -> Int[Tensor, " B1"]:
    """Return the first row of each sample, followed by ``N``: ``[B + 1]``.

    Args:
        sample: Ascending sample index of every row.
        num_samples: ``B``; samples without rows have an empty range.
    """
    bounds = torch.arange(num_samples + 1, device=sample.device)
    return torch.searchsorted(sample, bounds)


def position_in(sample: Int[Tensor, " N"], num_samples: int) -> Int[Tensor, " N"]:
    """Return the index of each row among the rows of its sample, from 0."""
    rows = torch.arange(sample.shape[0], device=sample.device)
    return rows - offsets_of(sample, num_samples)[sample]


def ranges_to_rows(
    start: Int[Tensor, " T"], stop: Int[Tensor, " T"]
) -> tuple[Int[Tensor, " E"], Int[Tensor, " E"]]:
    """Enumerate the rows of ranges.

    Args:
        start: First row of each range.
        stop: Row behind the last of each range; at most ``start`` for an empty range.

    Returns:
        Index of the range, and row, for every row of every range.
    """
    counts = (stop - start).clamp(min=0)
    which = torch.repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    rows = torch.arange(len(which), device=start.device) - first[which] + start[which]
    return which, rows


def present_rows(tables: Iterable[Float[Tensor, "B _"]]) -> Bool[Tensor, "B M"]:
    """Return ``[B, M]``: False where the row of a table is entirely NaN."""
    return torch.stack([~x.isnan().all(1) for x in tables], dim=1)


def segment_sum(
    x: Float[Tensor, "... N D"], index: Int[Tensor, " N"], num_segments: int
) -> Float[Tensor, "... S D"]:
    """Return the sum of the rows of each segment, by torch_scatter if installed."""
    if HAS_TORCH_SCATTER:
        from torch_scatter import scatter_add

        return scatter_add(x, index, dim=-2, dim_size=num_segments)
    total = x.new_zeros(*x.shape[:-2], num_segments, x.shape[-1])
    return total.index_add_(-2, index, x)


def segment_mean(
    x: Float[Tensor, "... N D"], index: Int[Tensor, " N"], num_segments: int
) -> Float[Tensor, "... S D"]:
    """Return the mean of the rows of each segment."""
    ones = torch.ones_like(index)
    counts = index.new_zeros(num_segments).index_add_(0, index, ones).clamp_(min=1)
    return segment_sum(x, index, num_segments) / counts[:, None].to(x.dtype)


def segment_max(
    x: Float[Tensor, "... N D"], index: Int[Tensor, " N"], num_segments: int
) -> Float[Tensor, "... S D"]:
    """Return the maximum of the rows of each segment, channel by channel."""
    where = index[:, None].expand(x.shape)
    zeros = x.new_zeros(*x.shape[:-2], num_segments, x.shape[-1])
    return zeros.scatter_reduce(-2, where, x, "amax", include_self=False)


def segment_softmax(
    logits: Float[Tensor, "... N H"],
    index: Int[Tensor, " N"],
    num_segments: int,
    sink: Float[Tensor, "... S H"] | None = None,
) -> Float[Tensor, "... N H"]:
    """Return the softmax over the rows of each segment, with an optional null sink.

    ``exp(l_e) / (exp(sink_s) + sum exp(l_e'))``, computed without overflow. Without a
    sink, the weights of a segment sum to one.

    Args:
        logits: Logit of each row.
        index: Segment of each row.
        num_segments: ``S``.
        sink: Logit of the sink of each segment, or None.
    """
    peak = segment_max(logits.detach(), index, num_segments)
    if sink is not None:
        peak = torch.maximum(peak, sink.detach())
    weight = (logits - peak.index_select(-2, index)).exp()
    total = segment_sum(weight, index, num_segments)
    if sink is not None:
        total = total + (sink - peak).exp()
    return weight / total.index_select(-2, index)


def segment_statistics(
    x: Float[Tensor, "N C"], index: Int[Tensor, " N"], num_segments: int
) -> Float[Tensor, "S F"]:
    """Return five summary statistics of each channel and segment.

    Args:
        x: Rows in temporal order. NaN cells are ignored individually.
        index: Ascending segment of every row.
        num_segments: ``S``.

    Returns:
        ``[S, 5 C]``: means, standard deviations, minima, maxima, and mean absolute
        differences of consecutive rows. NaN where a channel of the segment has no
        observed cell; a segment with a single row has standard deviation 1e-6 and
        difference zero.
    """
    seen = ~x.isnan()
    count = segment_sum(seen.to(x.dtype), index, num_segments)
    empty = count == 0
    count = count.clamp(min=1)
    clean = torch.where(seen, x, 0)
    mean = segment_sum(clean, index, num_segments) / count
    centered = torch.where(seen, x - mean[index], 0)
    variance = segment_sum(centered.square(), index, num_segments) / count
    std = variance.clamp(min=1e-12).sqrt()
    low = -segment_max(torch.where(seen, -x, -torch.inf), index, num_segments)
    high = segment_max(torch.where(seen, x, -torch.inf), index, num_segments)
    step = _mean_step(x, index, num_segments)
    parts = [torch.where(empty, torch.nan, part) for part in (mean, std, low, high)]
    return torch.cat([*parts, torch.where(empty, torch.nan, step)], dim=1)


def _mean_step(
    x: Float[Tensor, "N C"], index: Int[Tensor, " N"], num_segments: int
) -> Float[Tensor, "S C"]:
    """Return the mean absolute difference of consecutive rows of each segment."""
    step = (x[1:] - x[:-1]).abs()
    valid = (index[1:] == index[:-1])[:, None] & ~step.isnan()
    total = segment_sum(torch.where(valid, step, 0), index[1:], num_segments)
    count = segment_sum(valid.to(x.dtype), index[1:], num_segments)
    return total / count.clamp(min=1)


def to_slots(
    x: Float[Tensor, "... N D"], slot: Int[Tensor, " N"], num_slots: int
) -> Float[Tensor, "... S D"]:
    """Scatter packed rows to slots; empty slots are zero.

    Args:
        x: Packed rows.
        slot: Slot of every row, all distinct.
        num_slots: ``S``.
    """
    zeros = x.new_zeros(*x.shape[:-2], num_slots, x.shape[-1])
    return zeros.index_copy(-2, slot, x)


class _Move(torch.autograd.Function):
    """Gather of rows whose gradient is a gather as well, by the inverse index.

    The gradient of a plain gather adds rows by index, which takes ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(index, inverse)
        return _take(x, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        index, inverse = ctx.saved_tensors
        return _Move.apply(gradient, inverse, index), None, None  # type: ignore[no-untyped-call]


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Gather rows; the index ``N`` selects a row of zeros."""
    if index.shape[0] > x.shape[-2]:
        x = torch.cat([x, x.new_zeros(*x.shape[:-2], 1, x.shape[-1])], -2)
    return x.index_select(-2, index)


def move_rows(
    x: Float[Tensor, "... N D"], index: Int[Tensor, " S"], inverse: Int[Tensor, " N"]
) -> Float[Tensor, "... S D"]:
    """Move rows to slots or back; empty slots are zero.

    Args:
        x: Rows.
        index: Row of every slot, ``N`` where the slot is empty.
        inverse: Slot of every row, ``S`` where the row has none. Only the longer one of
            the two may contain such an index.
    """
    rows = _Move.apply(x, index, inverse)  # type: ignore[no-untyped-call]
    return cast("Tensor", rows)


def invert(slot: Int[Tensor, " N"], num_slots: int) -> Int[Tensor, " S"]:
    """Return the row of every slot, ``N`` where the slot is empty."""
    rows = torch.arange(slot.shape[0], device=slot.device)
    empty = torch.full((num_slots,), slot.shape[0], device=slot.device)
    return empty.index_copy_(0, slot, rows)


def filled_slots(slot: Int[Tensor, " N"], num_slots: int) -> Bool[Tensor, " S"]:
    """Return True for slots that hold a row."""
    empty = torch.zeros(num_slots, dtype=torch.bool, device=slot.device)
    return empty.index_fill(0, slot, True)


def gelu(x: Float[Tensor, "... N D"]) -> Float[Tensor, "... N D"]:
    """Apply GELU without compiling a kernel for every number of rows.

    On CPUs, torch passes contiguous tables to oneDNN, which compiles a kernel for each
    new shape and caches 1024 of them. Batches differ in their number of rows, so that
    memory and time would grow with every training step. Transposed views of the same
    values use a kernel for all shapes.

    References:
        Gaussian Error Linear Units, Hendrycks, Gimpel, 2016, arXiv:1606.08415.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.gelu(x)
    return F.gelu(x.mT).mT
