"""FusionModel and its parts: what each layer does, its nodes, its ghosts."""

from mmgraph.model.fusion import FusionModel, FusionOutput
from mmgraph.model.layer_plan import LayerPlan, plan_layers
from mmgraph.model.node_builder import build_encoder

__all__ = ["FusionModel", "FusionOutput", "LayerPlan", "build_encoder", "plan_layers"]
