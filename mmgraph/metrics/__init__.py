"""Metrics: pure functions of NumPy arrays.

Classes are codes 0 to K - 1, and column k of `proba` is the probability of class k.
Exclude samples without a label (NaN, or code -1) before the call. Without samples,
metrics are nan.
"""

from mmgraph.metrics.alignment import (
    foscttm,
    label_transfer,
    linear_cka,
    uniformity_alignment,
    warping_error,
)
from mmgraph.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    brier,
    classification_scores,
    expected_calibration_error,
    log_loss,
    macro_f1,
    matching_scores,
    reliability_curve,
)
from mmgraph.metrics.comparison import (
    PairedDifference,
    aurc,
    equity,
    holm,
    monotonicity_violations,
    paired_difference,
)
from mmgraph.metrics.operating_point import (
    DecisionCurve,
    OperatingPoint,
    choose_threshold,
    decision_curve,
    operating_point,
)
from mmgraph.metrics.regression import (
    r2,
    regression_scores,
    rmse,
)
from mmgraph.metrics.retrieval import (
    average_precisions,
    first_ranks,
    mean_average_precision,
    mean_reciprocal_rank,
    median_rank,
    ndcg,
    rank_scores,
    recall_at_k,
    retrieval_scores,
    same_key,
)
from mmgraph.metrics.survival import (
    SurvivalCurve,
    brier_scores,
    concordance_index,
    integrated_brier_score,
    kaplan_meier,
    survival_grid,
    survival_scores,
)

__all__ = [
    "DecisionCurve",
    "OperatingPoint",
    "PairedDifference",
    "SurvivalCurve",
    "accuracy",
    "aurc",
    "auroc",
    "average_precision",
    "average_precisions",
    "balanced_accuracy",
    "brier",
    "brier_scores",
    "choose_threshold",
    "classification_scores",
    "concordance_index",
    "decision_curve",
    "equity",
    "expected_calibration_error",
    "first_ranks",
    "foscttm",
    "holm",
    "integrated_brier_score",
    "kaplan_meier",
    "label_transfer",
    "linear_cka",
    "log_loss",
    "macro_f1",
    "matching_scores",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "median_rank",
    "monotonicity_violations",
    "ndcg",
    "operating_point",
    "paired_difference",
    "r2",
    "rank_scores",
    "recall_at_k",
    "regression_scores",
    "reliability_curve",
    "retrieval_scores",
    "rmse",
    "same_key",
    "survival_grid",
    "survival_scores",
    "uniformity_alignment",
    "warping_error",
]
