"""Training the members of an ensemble together, on what the evidence leaves over."""

from mmgraph.train.batches import (
    Batches,
    BatchSource,
    IndexBatches,
    TrainingBatch,
    TrainingSet,
)
from mmgraph.train.fit import History, fit_members
from mmgraph.train.judge import BETAS, Judge, shrunk_beta
from mmgraph.train.step import TrainOptions, TrainStep

__all__ = [
    "BETAS",
    "BatchSource",
    "Batches",
    "History",
    "IndexBatches",
    "Judge",
    "TrainOptions",
    "TrainStep",
    "TrainingBatch",
    "TrainingSet",
    "fit_members",
    "shrunk_beta",
]
