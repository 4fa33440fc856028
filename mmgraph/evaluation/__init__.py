"""Scores of a fitted model on samples that it has not seen, by missing pattern."""

from mmgraph.evaluation.evaluate import evaluate
from mmgraph.evaluation.result import Evaluation, Line

__all__ = ["Evaluation", "Line", "evaluate"]
