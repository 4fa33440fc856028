"""FusionModel and its parts: what each layer does, its nodes, its ghosts."""

from mmgraph.model.fusion import FusionModel, FusionOutput
from mmgraph.model.nodes import build_encoder
from mmgraph.model.plan import LayerPlan, plan_layers

__all__ = ["FusionModel", "FusionOutput", "LayerPlan", "build_encoder", "plan_layers"]
