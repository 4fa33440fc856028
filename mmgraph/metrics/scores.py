"""Titles and means of metrics by name."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Scores: TypeAlias = dict[str, float]

METRIC_TITLES = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "recall_at_1": "Recall@1",
    "recall_at_5": "Recall@5",
    "recall_at_10": "Recall@10",
    "mrr": "mean reciprocal rank",
    "map": "mAP",
    "auroc_random": "AUROC against random pairs",
    "auroc_hard": "AUROC against hard pairs",
    "concordance": "concordance index",
}
HEADINGS = {"mrr": "MRR", "auroc_random": "random pairs", "auroc_hard": "hard pairs"}


def metric_title(metric: str) -> str:
    """Return the title of a metric in tables and plots."""
    return METRIC_TITLES.get(metric, metric.replace("_", " "))


def mean_scores(scores: Mapping[str, Scores]) -> Scores:
    """Return the mean of each metric, without nan; nan if all are.

    Args:
        scores: Metrics by group; all groups have the same metrics.
    """
    names = next(iter(scores.values()))
    return {name: _nan_mean([s[name] for s in scores.values()]) for name in names}


def _nan_mean(values: list[float]) -> float:
    valid = [value for value in values if not np.isnan(value)]
    return float(np.mean(valid)) if valid else float("nan")
