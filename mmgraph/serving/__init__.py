"""Fitted estimators as one file for ONNX Runtime, without Python, torch or pickle."""

from mmgraph.serving.export import export
from mmgraph.serving.exported_model import ExportedModel, load
from mmgraph.serving.program import inputs_of

__all__ = ["ExportedModel", "export", "inputs_of", "load"]
