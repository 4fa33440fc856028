"""Which relations and node types matter in which layer."""

from dataclasses import dataclass

from mmgraph.errors import SchemaError
from mmgraph.schema import Relation, Schema


@dataclass(frozen=True)
class LayerPlan:
    """What one layer has to do.

    Attributes:
        relations: Relations whose messages can still reach the readout.
        types: Node types that are needed afterwards.
    """

    relations: tuple[Relation, ...]
    types: tuple[str, ...]


def plan_layers(
    schema: Schema, num_layers: int, *, completion: bool = False
) -> tuple[LayerPlan, ...]:
    """Keep of each layer what can still reach the readout.

    Args:
        schema: Node types and relations.
        num_layers: At least 1.
        completion: PlaceholderNodes of all modalities are read before the last layer.

    Raises:
        SchemaError: A relation that cannot matter in any layer, or no layer.
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
