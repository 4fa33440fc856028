"""Export of fitted estimators as a single file, and prediction by ONNX Runtime.

Prediction from an ONNX file needs neither torch nor pickle. The folder depends on
``estimators``; only the command line uses it.
"""

from mmgraph.estimators.base import batch_invariant
from mmgraph.serving.export import export
from mmgraph.serving.exported_model import ExportedModel, load
from mmgraph.serving.program import inputs_of

__all__ = ["ExportedModel", "batch_invariant", "export", "inputs_of", "load"]
