"""Relational attention: parameters, and selection of an execution path.

Letters: ``N`` nodes, ``H`` heads, ``D`` width, ``d = D / H``. Leading axes ``...`` are
the members of an ensemble.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, TypeAlias

from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph.graph import Graph, TypedRows
from mmgraph.nn.attention.dense import attend_dense
from mmgraph.nn.attention.groups import group_relations
from mmgraph.nn.attention.kernel import FusedAttention
from mmgraph.nn.attention.sparse import Attention, attend_sparse, edge_weights
from mmgraph.nn.attention.time_encoding import TimeEncoding
from mmgraph.nn.attention.weights import RelationWeights
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.nn.segment_linear import segment_linear
from mmgraph.ops import gelu
from mmgraph.schema import Custom, EdgeType, Full, Relation

Capacity: TypeAlias = Literal["bias", "scalar", "full"]
Execution: TypeAlias = Literal["auto", "dense", "sparse"]

MAX_PADDING = 8  # slots per node above which sparse execution is selected


class RelationalAttention(nn.Module):
    r"""Multi-head attention over all incoming edges of a node, with a null sink.

    For a target node i of type t, an edge e = (j -> i) of relation r, and head h:

    ``l_e = mu[r,h] <q_i, k_j> / sqrt(d) + b[r,h] + w[r,h] . phi(dt_e) + log rho_j``
    ``a_e = exp l_e / (exp n[t,h] + sum_e' exp l_e')``,
    ``out_i = W_O[t] sum_e a_e s[r,h] v_j + b_O[t]``,

    with the time encoding ``phi(dt) = [dt, sin(omega_k dt + p_k)]`` for relations
    between types with time, the null sink n, and the reliability rho of completed
    nodes. A node without incoming edges receives ``b_O[t]``.

    References:
        Heterogeneous Graph Transformer, Hu, Dong, Wang, Sun, 2020, arXiv 2003.01332
        (typed projections, relation priors). Multi-Time Attention Networks for
        Irregularly Sampled Time Series, Shukla, Marlin, 2021, arXiv 2101.10318 (phi).

    Args:
        relations: Typed edges, at least one.
        channels: ``D``, a multiple of ``num_heads``.
        timed: Node types that have time.
        learned_clocks: Node types whose times are shifted by a learned offset; time
            encodings of their relations to other types are symmetric, which determines
            the offset.
        num_heads: ``H``.
        capacity: Relation parameterization: the parameters that each relation has.
            ``"bias"``: the bias b; ``"scalar"``: also the scales mu and s; ``"full"``:
            also ``d x d`` maps of keys and values per head, as in HGT. More parameters
            need more data; ``"bias"`` is the fastest.
        null_sink: Add a null sink to the softmax, so that a node can ignore all its
            sources. Without it, attention weights sum to one.
        gelu: Apply GELU before the output map, as HGT does.
        execution: ``"dense"`` slots, ``"sparse"`` edges, or ``"auto"``: a compiled
            kernel where it applies (float32 on CPUs, capacity "bias", Full relations
            without time), else sparse where a topology is Custom or most slots would be
            padding, else dense. The results are equal up to rounding.
        members: Ensemble members computed together, or None for a single model.

    Raises:
        SchemaError: If ``channels`` is not a multiple of ``num_heads``, or
            ``execution`` is unknown.

    Example:
        >>> from mmgraph.graph import Graph, NodeSet
        >>> samples = torch.tensor([0, 1])  # one node per sample
        >>> graph = Graph({n: NodeSet(samples, 2) for n in ("labs", "ecg")}, 2)
        >>> attention = nn.RelationalAttention([Relation("labs", "ecg")], channels=8)
        >>> messages = attention(torch.randn(4, 8), graph)  # two nodes of each type
        >>> {name: tuple(x.shape) for name, x in messages.items()}
        {'ecg': (2, 8)}
    """

    def __init__(
        self,
        relations: Sequence[Relation],
        channels: int,
        *,
        timed: Iterable[str] = (),
        learned_clocks: Collection[str] = (),
        num_heads: int = 4,
        capacity: Capacity = "bias",
        null_sink: bool = True,
        gelu: bool = False,
        execution: Execution = "auto",
        members: int | None = None,
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise SchemaError(
                f"channels must be a multiple of num_heads={num_heads}, got {channels}."
            )
        if execution not in ("auto", "dense", "sparse"):
            raise SchemaError(
                f"execution must be 'auto', 'dense' or 'sparse', got {execution!r}."
            )
        self.relations = tuple(relations)
        self.targets = tuple(dict.fromkeys(r.target for r in self.relations))
        self.sources = tuple(dict.fromkeys(r.source for r in self.relations))
        self.num_heads, self.capacity, self.gelu = num_heads, capacity, gelu
        self.execution = execution
        self.members = members
        width = channels // num_heads
        self.query = TypedLinear(self.targets, channels, channels, members=members)
        self.key_value = TypedLinear(
            self.sources, channels, 2 * channels, members=members
        )
        self.out = TypedLinear(self.targets, channels, channels, members=members)
        count = len(self.relations)
        self.bias = parameter(count, num_heads, members=members)
        if capacity != "bias":
            self.key_scale = parameter(count, num_heads, members=members, fill=1.0)
            self.value_scale = parameter(count, num_heads, members=members, fill=1.0)
        if capacity == "full":
            shape = (count, num_heads, width, width)
            bound = math.sqrt(3 / width)
            self.key_map = parameter(*shape, members=members, bound=bound)
            self.value_map = parameter(*shape, members=members, bound=bound)
        sinks = len(self.targets)
        self.sink = parameter(sinks, num_heads, members=members) if null_sink else None
        timed = set(timed)
        self.timed = tuple(
            r for r, x in enumerate(self.relations) if {x.source, x.target} <= timed
        )
        if self.timed:
            ends = [self.relations[r] for r in self.timed]
            symmetric = [
                number
                for number, x in enumerate(ends)
                if x.source != x.target and {x.source, x.target} & set(learned_clocks)
            ]
            self.time_encoding = TimeEncoding(
                len(self.timed), num_heads, symmetric=symmetric, members=members
            )
        self._groups = group_relations(self.relations, joint=capacity == "bias")
        self._fused = FusedAttention(self._groups, self.targets, self.sources)

    def forward(self, h: Tensor, graph: Graph) -> TypedRows:
        """Compute the messages that each target node receives.

        Args:
            h: ``[..., N, D]`` node states in the order of ``graph``.
            graph: Nodes and relations.

        Returns:
            ``[..., N_t, D]`` messages by target type. Types without incoming relations
            are not in the result.
        """
        rows = graph.rows
        query, source = segment_linear(
            h, self.query.segment_params(rows), self.key_value.segment_params(rows)
        )
        if self._is_fused(query, graph):
            attended = self._fused(query, source, self.bias, self.sink, graph)
        else:
            key, value = (x.contiguous() for x in source.chunk(2, -1))
            weights = self._weights()
            if self._is_dense(graph):
                attended = attend_dense(weights, self._groups, query, key, value, graph)
            else:
                attended = attend_sparse(weights, query, key, value, graph)
        if self.gelu:
            attended = gelu(attended)
        target_rows = graph.rows_among(self.targets)
        return graph.split(self.out(attended, target_rows), target_rows)

    def weights(self, h: Tensor, graph: Graph) -> dict[EdgeType, Attention]:
        """Compute the attention weights of all edges, by relation.

        Args:
            h: ``[..., N, D]`` node states in the order of ``graph``.
            graph: Nodes and relations.

        Returns:
            Weights of the edges of each relation. They do not depend on ``execution``,
            up to rounding.
        """
        rows = graph.rows
        query, source = segment_linear(
            h, self.query.segment_params(rows), self.key_value.segment_params(rows)
        )
        key, value = source.chunk(2, -1)
        return edge_weights(self._weights(), query, key, value, graph)

    def _weights(self) -> RelationWeights:
        scaled, mapped = self.capacity != "bias", self.capacity == "full"
        return RelationWeights(
            self.relations,
            self.targets,
            self.sources,
            self.num_heads,
            self.members,
            self.bias,
            self.sink,
            (self.key_scale, self.value_scale) if scaled else None,
            (self.key_map, self.value_map) if mapped else None,
            self.timed,
            self.time_encoding if self.timed else None,
        )

    def _is_dense(self, graph: Graph) -> bool:
        if self.execution != "auto":
            return self.execution == "dense"
        if any(isinstance(r.topology, Custom) for r in self.relations):
            return False
        if all(graph.nodes[name].is_even for name in self.sources):
            return True
        rows = sum(len(graph.nodes[name]) for name in self.sources)
        slots = graph.num_samples * sum(graph.nodes[s].width for s in self.sources)
        return slots <= MAX_PADDING * max(rows, 1)

    def _is_fused(self, query: Tensor, graph: Graph) -> bool:
        """Return True if logits depend on types alone, and a kernel applies."""
        if self.execution != "auto" or self.capacity != "bias":
            return False
        if self.timed or any(not isinstance(r.topology, Full) for r in self.relations):
            return False
        return self._fused.supports(query, self.bias, graph)
