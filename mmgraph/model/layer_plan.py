"""Pruning of relations and node types that cannot influence the readout."""

from dataclasses import dataclass

from mmgraph.errors import SchemaError
from mmgraph.schema import Relation, Schema


@dataclass(frozen=True)
class LayerPlan:
    """Relations and node types of one layer.

    Attributes:
        relations: Relations whose messages can reach the readout in later layers.
        types: Node types that the layer updates, because later steps read them.
    """

    relations: tuple[Relation, ...]
    types: tuple[str, ...]


def plan_layers(
    schema: Schema, num_layers: int, *, completion: bool = False
) -> tuple[LayerPlan, ...]:
    """Return the relations and node types of each layer that can reach the readout.

    Args:
        schema: Node types and relations.
        num_layers: Number of layers, at least 1.
        completion: Whether placeholder nodes of all modalities are read before the last
            layer.

    Returns:
        One plan per layer, first to last.

    Raises:
        SchemaError: If ``num_layers`` is below 1, or a relation cannot reach the
            readout from any layer.
    """
    if num_layers < 1:
        raise SchemaError(f"num_layers must be at least 1, got {num_layers}.")
    needed = set(schema.readout or ())
    plans: list[LayerPlan] = []
    for layer in reversed(range(num_layers)):
        if completion and layer == max(num_layers - 2, 0):
            needed |= set(schema.modality_names)
        live = tuple(r for r in schema.relations if r.target in needed)
        types = tuple(name for name in schema.node_types if name in needed)
        plans.insert(0, LayerPlan(live, types))
        needed |= {r.source for r in live}
    _check_all_live(schema, plans)
    return tuple(plans)


def _check_all_live(schema: Schema, plans: list[LayerPlan]) -> None:
    live = {r for plan in plans for r in plan.relations}
    for relation in schema.relations:
        if relation not in live:
            raise SchemaError(
                f"Relation {relation.edge_type} must be able to reach the readout "
                f"({', '.join(schema.readout or ())}), but cannot in {len(plans)} "
                "layer(s). Use more layers or leave it out."
            )
