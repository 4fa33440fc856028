"""Training loop for ensembles of graph networks.

The members of an ensemble are trained together on the residual of an evidence pool,
from samples in memory or from a stream, in one process or several. Imported by
``experts``, ``embedding`` and ``estimators``; it may import ``checkpoint``,
``distributed``, ``model``, ``nn`` and below.
"""

from mmgraph.train.balance import Balance, BalanceCheck
from mmgraph.train.batches import (
    Batches,
    BatchSource,
    IndexBatches,
    TrainingBatch,
    TrainingSet,
)
from mmgraph.train.fit import History, fit_members
from mmgraph.train.step import TrainOptions, TrainStep
from mmgraph.train.validation import BETAS, Validation, shrunk_beta

__all__ = [
    "BETAS",
    "Balance",
    "BalanceCheck",
    "BatchSource",
    "Batches",
    "History",
    "IndexBatches",
    "TrainOptions",
    "TrainStep",
    "TrainingBatch",
    "TrainingSet",
    "Validation",
    "fit_members",
    "shrunk_beta",
]
