"""Parameters of relational attention, in the form that all execution paths share.

Letters: ``N`` rows, ``R`` relations, ``H`` heads, ``D`` width, ``d = D / H``. Leading
axes ``...`` are the members of an ensemble.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph.nn.attention.groups import RelationGroup
from mmgraph.nn.attention.time_encoding import TimeEncoding
from mmgraph.schema import Full, Relation


@dataclass(frozen=True)
class RelationWeights:
    """Parameters of the relations of one layer.

    Attributes:
        relations: Typed edges.
        targets: Node types that receive messages.
        sources: Node types that send messages.
        num_heads: ``H``.
        members: Ensemble members, or None for a single model.
        bias: ``[..., R, H]`` bias of each relation.
        sink: ``[..., targets, H]`` logit of the null sink, or None.
        scales: ``[..., R, H]`` scales of keys and of values, or None.
        maps: ``[..., R, H, d, d]`` maps of keys and of values, or None.
        timed: Indices of the relations between types with time.
        time_encoding: Logit of time differences, or None.
    """

    relations: tuple[Relation, ...]
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    num_heads: int
    members: int | None
    bias: Tensor
    sink: Tensor | None
    scales: tuple[Tensor, Tensor] | None
    maps: tuple[Tensor, Tensor] | None
    timed: tuple[int, ...]
    time_encoding: TimeEncoding | None

    def heads(self, rows: Tensor) -> Tensor:
        """View ``[..., N, D]`` as ``[..., N, H, d]``."""
        return rows.unflatten(-1, (self.num_heads, -1))

    def depends_on_edges(self, group: RelationGroup) -> bool:
        """Return True if logits depend on single edges, not on node types alone."""
        return any(
            n in self.timed or not isinstance(self.relations[n].topology, Full)
            for n in group.numbers
        )

    def sinks_of(self, group: RelationGroup) -> Tensor | None:
        """Return the sinks ``[..., targets, H]`` of the target types of a group."""
        if self.sink is None:
            return None
        return select_rows(self.sink, [self.targets.index(t) for t in group.targets])

    def per_relation(
        self, number: int, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the maps and scales of a relation to rows ``[..., N, D]``."""
        if self.scales is None:
            return key, value
        key, value = self.heads(key), self.heads(value)  # [..., N, H, d]
        if self.maps is not None:
            key_map, value_map = (x.select(-4, number) for x in self.maps)
            key = torch.einsum("...nhd,...hde->...nhe", key, key_map)
            value = torch.einsum("...nhd,...hde->...nhe", value, value_map)
        key_scale, value_scale = (x.select(-2, number) for x in self.scales)
        key = key * key_scale[..., None, :, None]
        value = value * value_scale[..., None, :, None]
        return key.flatten(-2), value.flatten(-2)


def select_rows(value: Tensor, numbers: list[int]) -> Tensor:
    """Return the rows of ``[..., R, H]`` with these indices."""
    if numbers == list(range(value.shape[-2])):
        return value
    return value.index_select(-2, torch.tensor(numbers, device=value.device))
