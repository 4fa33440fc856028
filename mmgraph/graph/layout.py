"""Dense layout: the same slots for the nodes of some types in every sample.

Letters: ``B`` samples, ``N`` nodes, ``S`` slots per sample, ``D`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph.graph.nodes import NodeSet
from mmgraph.graph.slots import Slots
from mmgraph.ops import to_slots


@dataclass(frozen=True)
class Layout:
    """Padded layout ``[S, B]`` of the nodes of some types.

    The sample is the fastest axis, so that the rows of types with exactly one node per
    sample are in the order of their slots already and need no copy.

    Attributes:
        slots: Flat slot of each node in the order ``[S * B]``; None where that is the
            order of the nodes.
        num_samples: ``B``.
        widths: Slots of each type; ``S`` is their sum.
        sends: ``[S, B]`` Bool, True where the slot holds a node that sends messages;
            None where all do.
        log_reliability: ``[..., S, B]`` bias on the logits of outgoing messages; None
            where every node is observed.
    """

    slots: Slots | None
    num_samples: int
    widths: tuple[int, ...]
    sends: Tensor | None
    log_reliability: Tensor | None

    @property
    def num_slots(self) -> int:
        """Slots per sample, ``S``."""
        return sum(self.widths)

    @property
    def block(self) -> tuple[int, ...]:
        """Index of the type of each of the ``S`` slots."""
        return tuple(i for i, width in enumerate(self.widths) for _ in range(width))

    def spread(self, rows: Tensor) -> Tensor:
        """Return rows ``[..., N, D]`` as slots ``[..., S, B, D]``, zero if empty."""
        flat = rows if self.slots is None else self.slots.spread(rows)
        return flat.unflatten(-2, (self.num_slots, self.num_samples))

    def gather(self, slots: Tensor) -> Tensor:
        """Return slots ``[..., S, B, D]`` as rows ``[..., N, D]``."""
        flat = slots.flatten(-3, -2)
        return flat if self.slots is None else self.slots.gather(flat)


def lay_out(sets: Sequence[NodeSet], num_samples: int) -> Layout:
    """Return the layout in which each type has separate slots."""
    widths = tuple(nodes.width for nodes in sets)
    slots, num_slots = None, sum(widths)
    if not all(nodes.is_even and nodes.width == 1 for nodes in sets):
        slot = [
            _flat_slot(nodes, num_samples) + start * num_samples
            for nodes, start in zip(sets, _starts(widths), strict=True)
        ]
        slots = Slots.of(torch.cat(slot), num_slots * num_samples)
    return Layout(
        slots,
        num_samples,
        widths,
        _senders(sets, slots, num_slots, num_samples),
        _reliability(sets, slots, num_slots, num_samples),
    )


def _flat_slot(nodes: NodeSet, num_samples: int) -> Tensor:
    """Return the flat slot ``[N]`` of each node among the slots of its type."""
    if nodes.width <= 1:
        return nodes.sample
    return nodes.sample + nodes.position * num_samples


def _senders(
    sets: Sequence[NodeSet], slots: Slots | None, num_slots: int, num_samples: int
) -> Tensor | None:
    """Return ``[S, B]`` Bool, True for nodes that send; None where all do."""
    if all(nodes.receive_only is None for nodes in sets):
        if slots is None or all(nodes.is_even for nodes in sets):
            return None
        filled = slots.row < slots.slot.shape[0]
        return filled.view(num_slots, num_samples)
    sends = torch.cat(
        [
            torch.ones_like(nodes.sample, dtype=torch.bool)
            if nodes.receive_only is None
            else ~nodes.receive_only
            for nodes in sets
        ]
    )
    if slots is not None:
        empty = sends.new_zeros(num_slots * num_samples)
        sends = empty.index_copy(0, slots.slot, sends)
    return sends.view(num_slots, num_samples)


def _reliability(
    sets: Sequence[NodeSet], slots: Slots | None, num_slots: int, num_samples: int
) -> Tensor | None:
    given = [nodes.log_reliability for nodes in sets]
    some = next((value for value in given if value is not None), None)
    if some is None:
        return None
    rows = [
        some.new_zeros(*some.shape[:-1], nodes.num_nodes) if value is None else value
        for nodes, value in zip(sets, given, strict=True)
    ]
    flat = torch.cat(rows, -1)[..., None]
    if slots is not None:
        flat = to_slots(flat, slots.slot, num_slots * num_samples)
    return flat[..., 0].unflatten(-1, (num_slots, num_samples))


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:i]) for i in range(len(widths))]


def count_gaps(
    targets: Sequence[NodeSet], sources: Sequence[NodeSet], num_samples: int
) -> int:
    """Estimate the number of empty pairs of slots in a dense layout."""
    both = [*targets, *sources]
    if not num_samples or all(nodes.is_even for nodes in both):
        return 0
    pairs = sum(n.width for n in targets) * sum(n.width for n in sources)
    rows = sum(map(len, targets)) * sum(map(len, sources))
    return pairs * num_samples - rows // num_samples
