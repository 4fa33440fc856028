"""Attention panel by panel, in slots whose types differ from sample to sample.

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
    """Attend; see :func:`mmgraph.nn.attention.dot_product.attend`.

    Args:
        query: ``[..., N, H, d]`` rows that hear.
        key: ``[..., N, H, d]`` rows that are heard.
        value: The same.
        bias: ``[..., types of targets, C, H]``.
        missing: Bool ``[types of targets, C]``: no relation leads from one to other.
        sink: ``[..., types of targets, H]``, or None.
        packing: Slots of the rows.

    Returns:
        ``[..., N, H, d]``.
    """
    width = query.shape[-2:]
    query = packing.targets.spread(query.flatten(-2)).unflatten(-1, width)
    key = packing.sources.spread(key.flatten(-2)).unflatten(-1, width)
    value = packing.sources.spread(value.flatten(-2)).unflatten(-1, width)
    barred = torch.finfo(bias.dtype).min / 2
    bias = bias.masked_fill(missing[..., None], barred).mT  # [..., types, H, C]
    bias = F.pad(bias, (0, 1), value=barred)  # what an empty slot says
    if sink is None:  # as good as none, unless all is barred
        sink = bias.new_full(bias.shape[:-1], barred / 2)
    targets = [(p.num_targets, p.num_samples) for p in packing.panels]
    sources = [(p.num_sources, p.num_samples) for p in packing.panels]
    parts = zip(
        _split(query, targets),
        _split(key, sources),
        _split(value, sources),
        _split(bias.index_select(-3, packing.target_type), targets),
        _split(_columns(packing, bias), sources),
        _split(sink.index_select(-2, packing.target_type).unsqueeze(-1), targets),
        strict=True,
    )
    heard = [
        attend(q, k, v, Scores(_pair_bias(b, c), None, s.movedim(-4, -2)))
        for q, k, v, b, c, s in parts
    ]
    flat = torch.cat([x.flatten(-2).flatten(-3, -2) for x in heard], -2)
    return packing.targets.gather(flat).unflatten(-1, width)


def _columns(packing: Packing, bias: Tensor) -> Tensor:
    """Return ``[N, H, C]``: 1 in the column that a source is, else 0."""
    one = torch.eye(bias.shape[-1], dtype=bias.dtype, device=bias.device)
    each = one[:, None].expand(-1, bias.shape[-2], -1)
    return each.contiguous().index_select(0, packing.source_type)


def _pair_bias(bias: Tensor, column: Tensor) -> Tensor:
    """Return ``[..., B, H, T, S]``: of its columns, each target's for each source."""
    with torch.autocast(bias.device.type, enabled=False):
        return inner(bias, column)


def _split(table: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Split flat slots ``[..., N, H, d]`` into panels ``[..., T, B, H, d]``."""
    parts = table.split([t * b for t, b in shapes], -3)
    return [x.unflatten(-3, s) for x, s in zip(parts, shapes, strict=True)]
