"""Which target types attend together, over which columns of sources."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmgraph.schema import Relation

MAX_WASTE = 1.5  # of joint attention: pairs of types over those that have a relation


@dataclass(frozen=True)
class RelationGroup:
    """Target types that are attended together when dense.

    Attributes:
        targets: Node types.
        sources: Node types, one for each column; a type stands twice where two
            relations lead from it to one target.
        relations: ``relations[i][j]`` is the number of the relation from
            ``sources[j]`` to ``targets[i]``, -1 where there is none.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    relations: tuple[tuple[int, ...], ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all its relations."""
        return tuple(n for row in self.relations for n in row if n >= 0)


Column = tuple[str, int]  # a source type, and which of its relations to a target
_Incoming = dict[str, dict[Column, int]]  # the relation of every column, by target


def group_relations(
    relations: Sequence[Relation], *, joint: bool
) -> tuple[RelationGroup, ...]:
    """Put targets together that hear nearly the same sources; alone unless ``joint``.

    One product over a few pairs too many costs less than two products.
    """
    names = [name for r in relations for name in (r.source, r.target)]
    rank = {name: i for i, name in enumerate(dict.fromkeys(names))}
    heard: _Incoming = {}
    for number, r in enumerate(relations):
        columns = heard.setdefault(r.target, {})
        count = sum(source == r.source for source, _ in columns)
        columns[r.source, count] = number
    groups: list[_Incoming] = []
    for target in sorted(heard, key=lambda t: (-len(heard[t]), rank[t])):
        alone = {target: heard[target]}
        home = next((g for g in groups if joint and _fits(g, alone)), None)
        if home is None:
            groups.append(alone)
        else:
            home.update(alone)
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
