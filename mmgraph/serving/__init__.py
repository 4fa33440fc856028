"""Export of fitted estimators, prediction by ONNX Runtime and on running recordings.

Prediction from an ONNX file needs neither torch nor pickle. The folder depends on
``estimators``; only the command line uses it.
"""

from mmgraph.estimators.base import batch_invariant
from mmgraph.serving.export import export
from mmgraph.serving.exported_model import ExportedModel, load
from mmgraph.serving.live import WindowPrediction, WindowPredictor
from mmgraph.serving.program import inputs_of

__all__ = [
    "ExportedModel",
    "WindowPrediction",
    "WindowPredictor",
    "batch_invariant",
    "export",
    "inputs_of",
    "load",
]
