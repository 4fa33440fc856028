"""Packed attention: bucket by bucket, without empty slots between node types.

Letters: ``B`` samples, ``N`` rows, ``H`` heads, ``T`` target and ``S`` source slots,
``d`` width of a head, ``C`` columns of sources. Leading axes ``...`` are the members of
an ensemble.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.graph import Packing
from mmgraph.nn.attention.dot_product import Scores, attend, inner


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    missing: Tensor,
    sink: Tensor | None,
    packing: Packing,
) -> Tensor:
    """Compute :func:`mmgraph.nn.attention.dot_product.attend` in packed slots.

    Args:
        query: ``[..., N, H, d]`` queries of the targets.
        key: ``[..., N', H, d]`` keys of the sources.
        value: ``[..., N', H, d]`` values of the sources.
        bias: ``[..., types of targets, C, H]``.
        missing: ``[types of targets, C]`` Bool, True where there is no relation.
        sink: ``[..., types of targets, H]``, or None.
        packing: Slots of the rows.

    Returns:
        ``[..., N, H, d]`` attended values.
    """
    width = query.shape[-2:]
    query = packing.targets.spread(query.flatten(-2)).unflatten(-1, width)
    key = packing.sources.spread(key.flatten(-2)).unflatten(-1, width)
    value = packing.sources.spread(value.flatten(-2)).unflatten(-1, width)
    masked = torch.finfo(bias.dtype).min / 2
    bias = bias.masked_fill(missing[..., None], masked).mT  # [..., types, H, C]
    bias = F.pad(bias, (0, 1), value=masked)  # the column of empty slots
    if sink is None:  # negligible, unless every source is masked
        sink = bias.new_full(bias.shape[:-1], masked / 2)
    targets = [(b.num_targets, b.num_samples) for b in packing.buckets]
    sources = [(b.num_sources, b.num_samples) for b in packing.buckets]
    parts = zip(
        _split(query, targets),
        _split(key, sources),
        _split(value, sources),
        _split(bias.index_select(-3, packing.target_type), targets),
        _split(_columns(packing, bias), sources),
        _split(sink.index_select(-2, packing.target_type).unsqueeze(-1), targets),
        strict=True,
    )
    attended = [
        attend(q, k, v, Scores(_pair_bias(b, c), None, s.movedim(-4, -2)))
        for q, k, v, b, c, s in parts
    ]
    flat = torch.cat([x.flatten(-2).flatten(-3, -2) for x in attended], -2)
    return packing.targets.gather(flat).unflatten(-1, width)


def _columns(packing: Packing, bias: Tensor) -> Tensor:
    """Return the one-hot column ``[N, H, C]`` of each source slot."""
    one = torch.eye(bias.shape[-1], dtype=bias.dtype, device=bias.device)
    each = one[:, None].expand(-1, bias.shape[-2], -1)
    return each.contiguous().index_select(0, packing.source_type)


def _pair_bias(bias: Tensor, column: Tensor) -> Tensor:
    """Return the bias ``[..., B, H, T, S]`` of each pair of slots."""
    with torch.autocast(bias.device.type, enabled=False):
        return inner(bias, column)


def _split(table: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Split flat slots ``[..., N, H, d]`` into buckets ``[..., T, B, H, d]``."""
    parts = table.split([t * b for t, b in shapes], -3)
    return [x.unflatten(-3, s) for x, s in zip(parts, shapes, strict=True)]
