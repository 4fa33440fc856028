"""The models that a result is compared with: one interface, no tuning.

All read `data.features()`: one vector per sample and modality (sequences as
statistics, text as hashed word counts), all NaN where missing.
"""

from mmgraph.baselines.base import Baseline
from mmgraph.baselines.experts import BestSingle, LateForest, LateLogistic
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

__all__ = [
    "BASELINES",
    "CCA",
    "RETRIEVAL_BASELINES",
    "Baseline",
    "BestSingle",
    "ConcatMLPBaseline",
    "HistGradientBoosting",
    "KNNLogistic",
    "LateForest",
    "LateLogistic",
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
    "concat_mlp": ConcatMLPBaseline,
    "token_transformer": TokenTransformerBaseline,
}

RETRIEVAL_BASELINES: dict[str, type[RetrievalBaseline]] = {
    "cca": CCA,
    "ridge_pca": RidgePCA,
    "semantic_matching": SemanticMatching,
    "two_tower": TwoTower,
}
