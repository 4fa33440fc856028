"""Estimators with scikit-learn's conventions, on data with missing modalities."""

from mmgraph.estimators.base import FusionEstimator
from mmgraph.estimators.classifier import FusionClassifier
from mmgraph.estimators.regressor import FusionRegressor

__all__ = ["FusionClassifier", "FusionEstimator", "FusionRegressor"]
