"""Heterogeneous Graph Transformer layer, and import of weights of PyG's HGTConv.

Letters: ``N`` nodes, ``D`` width, ``H`` heads, ``d = D / H``, ``R`` relations.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmgraph.errors import SchemaError
from mmgraph.graph.graph import Graph
from mmgraph.nn.conv import Execution, RelationalAttention
from mmgraph.schema import Relation

if TYPE_CHECKING:
    from torch_geometric.nn import HGTConv

__all__ = ["HGTLayer", "relational_from_hgt"]


class HGTLayer(nn.Module):
    """Relational attention with the gated skip connection of HGT.

    ``g out + (1 - g) h`` with the gate ``g = sigmoid(skip[t])`` of the target type t. A
    node without incoming edges receives zero, so that its result is
    ``g bias[t] + (1 - g) h``. Types that are not the target of any relation are not in
    the result.

    References:
        Heterogeneous Graph Transformer, Hu, Dong, Wang, Sun, 2020, arXiv 2003.01332.

    Args:
        relations: Typed edges, at least one.
        channels: ``D``, a multiple of ``num_heads``.
        num_heads: ``H``.
        execution: See :class:`mmgraph.nn.RelationalAttention`.
    """

    def __init__(
        self,
        relations: Sequence[Relation],
        channels: int,
        *,
        num_heads: int = 1,
        execution: Execution = "auto",
    ) -> None:
        super().__init__()
        self.attention = RelationalAttention(
            relations,
            channels,
            num_heads=num_heads,
            capacity="full",
            null_sink=False,
            gelu=True,
            execution=execution,
        )
        self.skip = nn.Parameter(torch.ones(len(self.attention.targets)))

    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        """Return the new states ``[N_t, D]`` by target type, from ``h [N, D]``."""
        gates = self.skip.sigmoid()
        attended = self.attention(h, graph)
        return {
            name: gate * attended[name] + (1 - gate) * h[..., graph.rows[name], :]
            for gate, name in zip(gates, self.attention.targets, strict=True)
        }


def relational_from_hgt(
    conv: "HGTConv", relations: Sequence[Relation], *, execution: Execution = "auto"
) -> HGTLayer:
    """Convert a PyTorch Geometric ``HGTConv`` to a layer with the same weights.

    The layer computes the same function as ``conv`` on the same edges. The prior of a
    relation in HGT becomes the scale of its keys; the biases of relations are zero.

    Args:
        conv: Convolution with equal input and output width.
        relations: Edge types of ``conv`` that are used. Node types that only other edge
            types reach are in the result of ``conv``, but not in that of the layer.
        execution: See :class:`mmgraph.nn.RelationalAttention`.

    Returns:
        A layer with the device and dtype of ``conv``.

    Raises:
        SchemaError: If ``conv`` is not an ``HGTConv`` or changes the width, or if a
            relation is not one of its edge types.

    Example:
        >>> from torch_geometric.nn import HGTConv
        >>> conv = HGTConv(8, 8, (["a", "b"], [("a", "to", "b")]), heads=2)
        >>> from mmgraph.nn.hgt import relational_from_hgt
        >>> relational_from_hgt(conv, [Relation("a", "b")]).attention.num_heads
        2
    """
    _check(conv, relations)
    layer = HGTLayer(
        relations, conv.out_channels, num_heads=conv.heads, execution=execution
    )
    with torch.no_grad():
        _copy_types(conv, layer)
        _copy_relations(conv, layer.attention)
    weight = conv.k_rel.weight
    return layer.to(device=weight.device, dtype=weight.dtype)


def _check(conv: "HGTConv", relations: Sequence[Relation]) -> None:
    from torch_geometric.nn import HGTConv

    if not isinstance(conv, HGTConv):
        raise SchemaError(f"conv must be an HGTConv, got {type(conv).__name__}.")
    widths = {*conv.in_channels.values(), conv.out_channels}
    if len(widths) > 1:
        raise SchemaError(
            "HGTConv must have in_channels equal to out_channels, got widths "
            f"{sorted(widths)}. Map every type to one width first."
        )
    for relation in relations:
        if relation.edge_type not in conv.edge_types_map:
            raise SchemaError(
                f"Relation {relation.edge_type} must be an edge type of the HGTConv, "
                f"which has: {', '.join(map(str, conv.edge_types))}."
            )


def _copy_types(conv: "HGTConv", layer: HGTLayer) -> None:
    """Copy the parameters of node types; HGTConv stores key, query, value in order."""
    attention = layer.attention
    for i, name in enumerate(attention.targets):
        inner, outer = conv.kqv_lin.lins[name], conv.out_lin.lins[name]
        attention.query.weight[i] = inner.weight.chunk(3)[1].T
        attention.query.bias[i, 0] = inner.bias.chunk(3)[1]
        attention.out.weight[i] = outer.weight.T
        attention.out.bias[i, 0] = outer.bias
        layer.skip[i] = conv.skip[name][0]
    for i, name in enumerate(attention.sources):
        inner = conv.kqv_lin.lins[name]
        key, _, value = inner.weight.chunk(3)
        attention.key_value.weight[i] = torch.cat([key, value]).T
        key, _, value = inner.bias.chunk(3)
        attention.key_value.bias[i, 0] = torch.cat([key, value])


def _copy_relations(conv: "HGTConv", attention: RelationalAttention) -> None:
    """Copy the parameters of relations; HGTConv stores its d x d maps head by head."""
    shape = (conv.heads, len(conv.edge_types))
    key_map = conv.k_rel.weight.unflatten(0, shape)
    value_map = conv.v_rel.weight.unflatten(0, shape)
    for i, relation in enumerate(attention.relations):
        number = conv.edge_types_map[relation.edge_type]
        attention.key_map[i] = key_map[:, number]
        attention.value_map[i] = value_map[:, number]
        attention.key_scale[i] = conv.p_rel["__".join(relation.edge_type)][0]
