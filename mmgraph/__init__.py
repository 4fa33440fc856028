"""Graph fusion of multimodal data with missing modalities.

``__all__`` is the public API. Names are imported on first use, so that
``import mmgraph`` takes little longer than ``import torch``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmgraph import (
        alignment,
        baselines,
        corruption,
        kernels,
        metrics,
        missing,
        nn,
        objectives,
        plotting,
    )
    from mmgraph.data import MultimodalData, MultimodalStream
    from mmgraph.data.batch import Batch
    from mmgraph.datasets import load_dataset
    from mmgraph.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        DataWarning,
        MMGraphError,
        PeerError,
        SchemaError,
    )
    from mmgraph.estimators import (
        FusionClassifier,
        FusionMatcher,
        FusionRegressor,
        FusionRetriever,
        FusionSurvival,
    )
    from mmgraph.evaluation import Evaluation
    from mmgraph.evaluation.contribution import contributions
    from mmgraph.evaluation.evaluate import evaluate
    from mmgraph.evaluation.registry import register_model
    from mmgraph.evaluation.time_contributions import time_contributions
    from mmgraph.missing import MaskPlan
    from mmgraph.model import FusionModel
    from mmgraph.nn.heads import Classification, MultiLabel, Regression
    from mmgraph.pretrained import PretrainedEncoder
    from mmgraph.retrieval import Index
    from mmgraph.schema import (
        Custom,
        Full,
        KNearest,
        Latent,
        Modality,
        Relation,
        SameIndex,
        Schema,
        TimeWindow,
    )

__version__ = "0.2.0"

_HOME = {
    "Batch": "data.batch",
    "CheckpointError": "errors",
    "Classification": "nn.heads",
    "ConfigError": "errors",
    "Custom": "schema",
    "DataError": "errors",
    "DataWarning": "errors",
    "Evaluation": "evaluation",
    "Full": "schema",
    "FusionClassifier": "estimators",
    "FusionMatcher": "estimators",
    "FusionModel": "model",
    "FusionRegressor": "estimators",
    "FusionRetriever": "estimators",
    "FusionSurvival": "estimators",
    "Index": "retrieval",
    "KNearest": "schema",
    "Latent": "schema",
    "MMGraphError": "errors",
    "PeerError": "errors",
    "PretrainedEncoder": "pretrained",
    "MaskPlan": "missing",
    "Modality": "schema",
    "MultiLabel": "nn.heads",
    "MultimodalData": "data",
    "MultimodalStream": "data",
    "Regression": "nn.heads",
    "Relation": "schema",
    "SameIndex": "schema",
    "Schema": "schema",
    "SchemaError": "errors",
    "TimeWindow": "schema",
    "contributions": "evaluation.contribution",
    "evaluate": "evaluation",
    "load_dataset": "datasets",
    "register_model": "evaluation.registry",
    "time_contributions": "evaluation.time_contributions",
}
_MODULES = (
    *("alignment", "baselines", "corruption", "kernels", "metrics", "missing", "nn"),
    "objectives",
    "plotting",
)

__all__ = [
    "Batch",
    "CheckpointError",
    "Classification",
    "ConfigError",
    "Custom",
    "DataError",
    "DataWarning",
    "Evaluation",
    "Full",
    "FusionClassifier",
    "FusionMatcher",
    "FusionModel",
    "FusionRegressor",
    "FusionRetriever",
    "FusionSurvival",
    "Index",
    "KNearest",
    "Latent",
    "MMGraphError",
    "MaskPlan",
    "Modality",
    "MultiLabel",
    "MultimodalData",
    "MultimodalStream",
    "PeerError",
    "PretrainedEncoder",
    "Regression",
    "Relation",
    "SameIndex",
    "Schema",
    "SchemaError",
    "TimeWindow",
    "alignment",
    "baselines",
    "contributions",
    "corruption",
    "evaluate",
    "kernels",
    "load_dataset",
    "metrics",
    "missing",
    "nn",
    "objectives",
    "plotting",
    "register_model",
    "time_contributions",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(f"mmgraph.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"mmgraph.{name}")
    else:
        raise AttributeError(f"module 'mmgraph' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
