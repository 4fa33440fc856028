"""Scores of a fitted model on samples that it has not seen, by missing pattern."""

from mmgraph.evaluation.evaluate import evaluate
from mmgraph.evaluation.result import Evaluation, ScoreRow

__all__ = ["Evaluation", "ScoreRow", "evaluate"]
