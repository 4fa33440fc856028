"""The fusion model: node construction, layer plan, placeholder nodes, forward pass.

The folder combines the blocks of ``nn``; training and estimators use it.
"""

from mmgraph.model.fusion import FusionModel, FusionOutput
from mmgraph.model.layer_plan import LayerPlan, plan_layers
from mmgraph.model.node_builder import build_encoder

__all__ = ["FusionModel", "FusionOutput", "LayerPlan", "build_encoder", "plan_layers"]
