"""Training losses over valid terms; a loss without a valid term is zero.

Pointwise losses compare predictions with labels that may be unknown; pairwise losses
are contrastive. The folder depends on torch only.
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
    squared_error,
    weighted_mean,
)

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
    "sigmoid_contrastive",
    "squared_error",
    "weighted_mean",
]
