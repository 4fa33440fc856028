"""PyTorch Geometric convolutions in the place of relational attention.

Letters: ``N`` nodes, ``D`` width.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph.graph import Graph
from mmgraph.schema import Relation

__all__ = ["PyGConv"]


class PyGConv(nn.Module):
    """Any PyTorch Geometric convolution over the edges of the schema.

    Which kind of convolution it is is read from its ``forward``: one that takes
    ``x_dict`` (HGTConv, HANConv) gets all types at once; one that takes ``edge_type``
    (RGCNConv, RGATConv) gets the table with numbered relations; any other (GATv2Conv,
    SAGEConv ...) is built once for each relation and its results are summed by target.

    A convolution must return rows of width ``D`` and treat a node without incoming
    edges as zero or bias; self-loops have to be off for relations between two types.

    Args:
        build: Called without arguments; returns the convolution.
        relations: The typed edges.

    Raises:
        SchemaError: Something else than a function that returns a convolution, or one
            that takes other things than states and edges.

    Example:
        >>> from torch_geometric.nn import SAGEConv
        >>> conv = nn.PyGConv(lambda: SAGEConv((16, 16), 16), [Relation("a", "b")])
    """

    def __init__(
        self, build: Callable[[], nn.Module], relations: Sequence[Relation]
    ) -> None:
        super().__init__()
        self.relations = tuple(relations)
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
        self.convs = nn.ModuleList([first, *(build() for _ in range(rest))])

    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        """Map ``h [N, D]`` to what each target type hears, ``[N_t, D]``.

        Raises:
            SchemaError: States of an ensemble, which convolutions cannot take.
        """
        if h.ndim != 2:
            raise SchemaError(
                f"A PyG convolution must get states of shape [N, D], got "
                f"{list(h.shape)}. Build the model with members=None."
            )
        return getattr(self, f"_{self.kind}")(h, graph)

    def _local(self, relation: Relation, graph: Graph) -> Tensor:
        edge_index = graph.edges(relation)
        starts = [graph.rows[relation.source].start, graph.rows[relation.target].start]
        return edge_index - edge_index.new_tensor(starts)[:, None]

    def _hetero(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        x_dict = {name: h[rows] for name, rows in graph.rows.items()}
        edges = {r.edge_type: self._local(r, graph) for r in self.relations}
        heard = self.convs[0](x_dict, edges)
        return {name: value for name, value in heard.items() if value is not None}

    def _typed(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        edges = [graph.edges(r) for r in self.relations]
        kinds = torch.cat([torch.full_like(edge[0], i) for i, edge in enumerate(edges)])
        heard = self.convs[0](h, torch.cat(edges, 1), kinds)
        targets = dict.fromkeys(r.target for r in self.relations)
        return {name: heard[graph.rows[name]] for name in targets}

    def _pair(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        heard: dict[str, Tensor] = {}
        for conv, relation in zip(self.convs, self.relations, strict=True):
            source, target = graph.rows[relation.source], graph.rows[relation.target]
            result = conv((h[source], h[target]), self._local(relation, graph))
            previous = heard.get(relation.target)
            heard[relation.target] = result if previous is None else previous + result
        return heard


def _first_of(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the first convolution that a function builds.

    Raises:
        SchemaError: Something else than such a function.
    """
    made = build() if _takes_nothing(build) else None
    if isinstance(made, nn.Module):
        return made
    got: object = build if made is None else made
    kind = "the class " if isinstance(got, type) else ""
    name = getattr(got, "__name__", type(got).__name__)
    raise SchemaError(
        "conv must be a function without arguments that returns a convolution, got "
        f"{kind}{name}. Give lambda: SAGEConv((32, 32), 32)."
    )


def _takes_nothing(build: object) -> bool:
    """Tell whether it can be called without arguments, to build something."""
    if isinstance(build, nn.Module) or not callable(build):
        return False
    try:
        inspect.signature(build).bind()
    except TypeError:
        return False
    return True
