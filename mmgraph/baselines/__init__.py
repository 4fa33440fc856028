"""Baselines of the benchmark: one interface and default parameters.

All use `data.features()`: one vector per sample and modality (sequences as statistics,
text as hashed word counts), NaN where the modality is missing. The package may import
data, kernels, missing and metrics, and nothing above them.
"""

from mmgraph.baselines.augmented import (
    Blend,
    BoostingDropout,
    ExtraTreesDropout,
    LogisticDropout,
)
from mmgraph.baselines.base import Baseline
from mmgraph.baselines.kernels import KernelFusion
from mmgraph.baselines.networks import ConcatMLPBaseline, TokenTransformerBaseline
from mmgraph.baselines.retrieval import (
    CCA,
    RetrievalBaseline,
    RidgePCA,
    SemanticMatching,
)
from mmgraph.baselines.tables import (
    HistGradientBoosting,
    KNNLogistic,
    MeanForest,
    MeanLogistic,
)
from mmgraph.baselines.two_tower import TwoTower
from mmgraph.baselines.unimodal import BestSingle, LateForest, LateLogistic

__all__ = [
    "BASELINES",
    "CCA",
    "RETRIEVAL_BASELINES",
    "Baseline",
    "BestSingle",
    "Blend",
    "BoostingDropout",
    "ConcatMLPBaseline",
    "ExtraTreesDropout",
    "HistGradientBoosting",
    "KNNLogistic",
    "KernelFusion",
    "LateForest",
    "LateLogistic",
    "LogisticDropout",
    "MeanForest",
    "MeanLogistic",
    "RetrievalBaseline",
    "RidgePCA",
    "SemanticMatching",
    "TokenTransformerBaseline",
    "TwoTower",
]

BASELINES: dict[str, type[Baseline]] = {
    "best_single": BestSingle,
    "mean_logistic": MeanLogistic,
    "mean_forest": MeanForest,
    "hist_gradient_boosting": HistGradientBoosting,
    "knn_logistic": KNNLogistic,
    "late_logistic": LateLogistic,
    "late_forest": LateForest,
    "kernel_fusion": KernelFusion,
    "concat_mlp": ConcatMLPBaseline,
    "token_transformer": TokenTransformerBaseline,
    "logistic_drop": LogisticDropout,
    "extra_trees_drop": ExtraTreesDropout,
    "boosting_drop": BoostingDropout,
    "blend": Blend,
}

RETRIEVAL_BASELINES: dict[str, type[RetrievalBaseline]] = {
    "cca": CCA,
    "ridge_pca": RidgePCA,
    "semantic_matching": SemanticMatching,
    "two_tower": TwoTower,
}
