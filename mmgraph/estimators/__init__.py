"""Estimators with scikit-learn's conventions, on data with missing modalities."""

from mmgraph.estimators.base import FusionEstimator
from mmgraph.estimators.classifier import FusionClassifier
from mmgraph.estimators.matcher import FusionMatcher
from mmgraph.estimators.regressor import FusionRegressor
from mmgraph.estimators.retriever import FusionRetriever
from mmgraph.estimators.survival import FusionSurvival

__all__ = [
    "FusionClassifier",
    "FusionEstimator",
    "FusionMatcher",
    "FusionRegressor",
    "FusionRetriever",
    "FusionSurvival",
]
