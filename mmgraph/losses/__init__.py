"""Training losses over valid terms; a loss without a valid term is zero.

Pointwise losses compare predictions with labels that may be unknown; pairwise losses
are contrastive; soft-DTW compares sequences of any lengths. The folder depends on torch
only.
"""

from mmgraph.losses.pairwise import info_nce, sigmoid_contrastive
from mmgraph.losses.pointwise import (
    LossSums,
    at_least_float,
    binary_cross_entropy,
    cross_entropy,
    gaussian_nll,
    label_weight,
    masked_squared_error,
    ratio,
    relative_hazard,
    squared_error,
    weighted_mean,
)
from mmgraph.losses.warping import soft_dtw, soft_dtw_divergence

__all__ = [
    "LossSums",
    "at_least_float",
    "binary_cross_entropy",
    "cross_entropy",
    "gaussian_nll",
    "info_nce",
    "label_weight",
    "masked_squared_error",
    "ratio",
    "relative_hazard",
    "sigmoid_contrastive",
    "soft_dtw",
    "soft_dtw_divergence",
    "squared_error",
    "weighted_mean",
]
