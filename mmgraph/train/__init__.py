"""Training the members of an ensemble together, on what the evidence leaves over."""

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
