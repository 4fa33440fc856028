"""Message passing by PyTorch Geometric convolutions instead of relational attention.

Letters: ``N`` nodes, ``D`` width.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph.graph import Graph
from mmgraph.nn.members import MemberModules
from mmgraph.schema import Relation

__all__ = ["PyGConv"]


class PyGConv(nn.Module):
    """Message passing by any PyTorch Geometric convolution.

    The signature of ``forward`` determines how the convolution is applied. One with
    ``x_dict`` (HGTConv, HANConv) is called once with all node types; one with
    ``edge_type`` (RGCNConv, RGATConv) is called once with the table of all nodes and
    the index of the relation of each edge; any other (GATv2Conv, SAGEConv, ...) is
    built once per relation, and the results are summed by target type.

    A convolution must return rows of width ``D``, and zero or a bias for a node without
    incoming edges. Disable self-loops for relations between two types.

    Args:
        build: Function without arguments that returns a new convolution.
        relations: Typed edges, at least one.
        members: Ensemble members, each with its own convolutions, or None for a single
            model.

    Raises:
        SchemaError: If ``build`` is not a function that returns a module, or the module
            does not take node states and edges.

    Example:
        >>> from torch_geometric.nn import SAGEConv
        >>> conv = nn.PyGConv(lambda: SAGEConv((16, 16), 16), [Relation("a", "b")])
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        relations: Sequence[Relation],
        *,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.relations, self.members = tuple(relations), members
        first = _first_of(build)
        names = set(inspect.signature(first.forward).parameters)
        self.kind = (
            "hetero"
            if "x_dict" in names
            else "typed"
            if "edge_type" in names
            else "pair"
        )
        if self.kind == "pair" and "edge_index" not in names:
            raise SchemaError(
                "A convolution must take x and edge_index, or x_dict and "
                f"edge_index_dict, got {type(first).__name__}{tuple(sorted(names))}."
            )
        rest = len(self.relations) - 1 if self.kind == "pair" else 0
        if members is None:
            self.convs = nn.ModuleList([first, *(build() for _ in range(rest))])
        else:
            each = (MemberModules(build, members) for _ in range(rest + 1))
            self.convs = nn.ModuleList(each)

    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        """Compute the messages that each target node receives.

        Args:
            h: ``[..., N, D]`` node states in the order of ``graph``, with an axis of
                members if there are any.
            graph: Nodes and relations.

        Returns:
            ``[..., N_t, D]`` messages by target type.

        Raises:
            SchemaError: If the states have an axis of members that the layer does not
                have, or a convolution returns another width.
        """
        if self.members is not None:
            states = h.expand(self.members, *h.shape[-2:])
            each = [self._messages(x, graph, e) for e, x in enumerate(states)]
            return {name: torch.stack([x[name] for x in each]) for name in each[0]}
        if h.ndim != 2:
            raise SchemaError(
                f"A PyG convolution must get states of shape [N, D], got "
                f"{list(h.shape)}. Build the layer with members={h.shape[0]}."
            )
        return self._messages(h, graph, None)

    def _messages(
        self, h: Tensor, graph: Graph, member: int | None
    ) -> dict[str, Tensor]:
        """Return the messages of one member, or of a single model."""
        convs: list[Callable[..., Any]] = list(self.convs)
        if member is not None:
            convs = [partial(conv, member) for conv in convs]
        calls = {"hetero": self._hetero, "typed": self._typed, "pair": self._pair}
        messages = calls[self.kind](convs, h, graph)
        for x in messages.values():
            if x.shape[-1] != h.shape[-1]:
                raise SchemaError(
                    f"A convolution must return rows of width {h.shape[-1]}, got "
                    f"{x.shape[-1]}. Set its output channels to hidden_channels."
                )
        return messages

    def _local(self, relation: Relation, graph: Graph) -> Tensor:
        edge_index = graph.edges(relation)
        starts = [graph.rows[relation.source].start, graph.rows[relation.target].start]
        return edge_index - edge_index.new_tensor(starts)[:, None]

    def _hetero(
        self, convs: Sequence[Callable[..., Any]], h: Tensor, graph: Graph
    ) -> dict[str, Tensor]:
        x_dict = {name: h[rows] for name, rows in graph.rows.items()}
        edges = {r.edge_type: self._local(r, graph) for r in self.relations}
        messages = convs[0](x_dict, edges)
        return {name: x for name, x in messages.items() if x is not None}

    def _typed(
        self, convs: Sequence[Callable[..., Any]], h: Tensor, graph: Graph
    ) -> dict[str, Tensor]:
        edges = [graph.edges(r) for r in self.relations]
        kinds = torch.cat([torch.full_like(edge[0], i) for i, edge in enumerate(edges)])
        messages = convs[0](h, torch.cat(edges, 1), kinds)
        targets = dict.fromkeys(r.target for r in self.relations)
        return {name: messages[graph.rows[name]] for name in targets}

    def _pair(
        self, convs: Sequence[Callable[..., Any]], h: Tensor, graph: Graph
    ) -> dict[str, Tensor]:
        messages: dict[str, Tensor] = {}
        for conv, relation in zip(convs, self.relations, strict=True):
            source, target = graph.rows[relation.source], graph.rows[relation.target]
            result = conv((h[source], h[target]), self._local(relation, graph))
            previous = messages.get(relation.target)
            if previous is not None:
                result = previous + result
            messages[relation.target] = result
        return messages


def _first_of(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the convolution of the first call.

    Raises:
        SchemaError: If ``build`` is not a function without arguments that returns a
            module.
    """
    result = build() if _takes_no_arguments(build) else None
    if isinstance(result, nn.Module):
        return result
    got: object = build if result is None else result
    kind = "the class " if isinstance(got, type) else ""
    name = getattr(got, "__name__", type(got).__name__)
    raise SchemaError(
        "conv must be a function without arguments that returns a convolution, got "
        f"{kind}{name}. Give lambda: SAGEConv((32, 32), 32)."
    )


def _takes_no_arguments(build: object) -> bool:
    """Return True for a callable, other than a module, without required arguments."""
    if isinstance(build, nn.Module) or not callable(build):
        return False
    try:
        inspect.signature(build).bind()
    except TypeError:
        return False
    return True
