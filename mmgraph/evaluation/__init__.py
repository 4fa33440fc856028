"""Evaluation of fitted models under scenarios of missing modalities.

``evaluate`` scores classifiers, regressors, retrievers and matchers; each has its
own module; scenarios and pairs are shared. The package may import estimators, metrics,
missing and data, and nothing above them.
"""

from mmgraph.evaluation.evaluate import evaluate
from mmgraph.evaluation.result import Evaluation, ScoreRow

__all__ = ["Evaluation", "ScoreRow", "evaluate"]
