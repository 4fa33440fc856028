"""Edges of each topology: which source rows send to a target node.

Letters: ``N`` nodes.
"""

from functools import singledispatch

import torch
from torch import Tensor

from mmgraph.errors import SchemaError
from mmgraph.graph.nodes import NodeSet
from mmgraph.schema import Custom, Full, KNearest, Relation, SameIndex, TimeWindow


def custom_edges(
    relation: Relation, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    """Return the sorted, unique edges of a user-defined topology.

    Raises:
        SchemaError: If the function returns something other than ``edge_index [2, E]``
            of integers, rows out of range, or an edge between two samples.
    """
    assert isinstance(relation.topology, Custom)
    edge_index = relation.topology.function(source, target)
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.is_floating_point():
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must return integers "
            f"of shape [2, E], got {edge_index.dtype} of shape "
            f"{list(edge_index.shape)}."
        )
    src, dst = edge_index.long()
    in_range = (src >= 0) & (src < len(source)) & (dst >= 0) & (dst < len(target))
    if not bool(in_range.all()):
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must return rows below "
            f"{len(source)} (source) and {len(target)} (target), got others."
        )
    if not bool((source.sample[src] == target.sample[dst]).all()):
        raise SchemaError(
            f"Relation {relation.edge_type}: its function must connect nodes of "
            "one sample, got an edge between two samples."
        )
    key = torch.unique(dst * max(len(source), 1) + src)
    return key % max(len(source), 1), key // max(len(source), 1)


@singledispatch
def ranges(topology: object, source: NodeSet, target: NodeSet) -> tuple[Tensor, Tensor]:
    """Return the first source row of each target node, and the end, both ``[N]``.

    Sources are sorted by sample and time, so that the sources of a target node are
    consecutive rows.
    """
    raise AssertionError(f"topology {topology!r} has no ranges")


@ranges.register
def _full(_: Full, source: NodeSet, target: NodeSet) -> tuple[Tensor, Tensor]:
    return source.offsets[target.sample], source.offsets[target.sample + 1]


@ranges.register
def _same_index(
    _: SameIndex, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    start = source.offsets[target.sample] + target.position
    return start, torch.minimum(start + 1, source.offsets[target.sample + 1])


@ranges.register
def _time_window(
    topology: TimeWindow, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    assert source.time is not None
    assert target.time is not None
    low, high = target.time - topology.seconds, target.time + topology.seconds
    start = _first_row_at(source, target.sample, low, right=False)
    return start, _first_row_at(source, target.sample, high, right=True)


@ranges.register
def _k_nearest(
    topology: KNearest, source: NodeSet, target: NodeSet
) -> tuple[Tensor, Tensor]:
    """Return the ranges of the k nearest sources in time.

    The k nearest of sorted times are consecutive. The window of k rows is shifted while
    its first row is farther away than the row behind its last. Ties are broken so that
    the window stays contiguous.
    """
    assert source.time is not None
    assert target.time is not None
    first = source.offsets[target.sample]
    end = source.offsets[target.sample + 1]
    k = torch.minimum(torch.full_like(first, topology.k), end - first)
    here = _first_row_at(source, target.sample, target.time, right=False)
    start = torch.minimum(torch.maximum(here - topology.k, first), end - k)
    leaving = start[:, None] + torch.arange(topology.k, device=first.device)  # [N, k]
    entering = leaving + k[:, None]
    now = target.time[:, None]
    farther = now - _times(source, leaving) > _times(source, entering) - now
    start = start + (farther & (entering < end[:, None])).sum(1)
    return start, start + k


def _times(source: NodeSet, rows: Tensor) -> Tensor:
    """Return the times of rows; zero for rows past the end, whose range is empty."""
    assert source.time is not None
    if not len(source):
        return torch.zeros_like(rows, dtype=source.time.dtype)
    return source.time[rows.clamp(max=len(source) - 1)]


def _first_row_at(
    source: NodeSet, sample: Tensor, time: Tensor, *, right: bool
) -> Tensor:
    """Return the first row of the sample at or after (``right``: after) the time."""
    assert source.time is not None
    low, high = source.offsets[sample].clone(), source.offsets[sample + 1].clone()
    for _ in range(
        max(source.width, 1).bit_length()
    ):  # bisection for all targets at once
        middle = (low + high) // 2
        value = _times(source, middle)
        before = (value <= time) if right else (value < time)
        open_ = low < high
        low = torch.where(open_ & before, middle + 1, low)
        high = torch.where(open_ & ~before, middle, high)
    return low
