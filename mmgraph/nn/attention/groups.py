"""Grouping of target types that attend to similar sources in one dense product."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmgraph.schema import Relation

MAX_WASTE = 1.5  # largest ratio of the computed pairs of types to the related ones


@dataclass(frozen=True)
class RelationGroup:
    """Target types that attend in one product, and their source columns.

    Attributes:
        targets: Node types.
        sources: Node type of each column; a type with two relations to one target has
            two columns.
        relations: ``relations[i][j]`` is the index of the relation from
            ``sources[j]`` to ``targets[i]``, -1 where there is none.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    relations: tuple[tuple[int, ...], ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Indices of all relations of the group."""
        return tuple(n for row in self.relations for n in row if n >= 0)


# a source type, and the rank of the relation among those between the same two types
Column = tuple[str, int]
# index of the relation of every column, by target
_Incoming = dict[str, dict[Column, int]]


def group_relations(
    relations: Sequence[Relation], *, joint: bool
) -> tuple[RelationGroup, ...]:
    """Group the targets of relations.

    One product that includes a few unrelated pairs of types costs less than two
    products.

    Args:
        relations: Typed edges; their position is their index.
        joint: Group targets with nearly the same sources; False puts each target into
            a group alone.
    """
    names = [name for r in relations for name in (r.source, r.target)]
    rank = {name: i for i, name in enumerate(dict.fromkeys(names))}
    incoming: _Incoming = {}
    for number, r in enumerate(relations):
        columns = incoming.setdefault(r.target, {})
        count = sum(source == r.source for source, _ in columns)
        columns[r.source, count] = number
    groups: list[_Incoming] = []
    for target in sorted(incoming, key=lambda t: (-len(incoming[t]), rank[t])):
        single = {target: incoming[target]}
        similar = next((g for g in groups if joint and _fits(g, single)), None)
        if similar is None:
            groups.append(single)
        else:
            similar.update(single)
    return tuple(_group(g, rank) for g in groups)


def _columns(group: _Incoming) -> set[Column]:
    return {column for columns in group.values() for column in columns}


def _fits(group: _Incoming, other: _Incoming) -> bool:
    both = group | other
    needed = sum(len(columns) for columns in both.values())
    return len(both) * len(_columns(both)) <= MAX_WASTE * needed


def _group(group: _Incoming, rank: dict[str, int]) -> RelationGroup:
    targets = sorted(group, key=rank.__getitem__)
    columns = sorted(_columns(group), key=lambda c: (rank[c[0]], c[1]))
    return RelationGroup(
        tuple(targets),
        tuple(source for source, _ in columns),
        tuple(tuple(group[t].get(c, -1) for c in columns) for t in targets),
    )
