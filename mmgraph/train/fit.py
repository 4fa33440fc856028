"""The loop of training: steps, checks, the weight of the graph.

Letters: ``E`` members.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool
from mmgraph.train.batches import BatchSource
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.resume import TrainerState
from mmgraph.train.step import TrainOptions, TrainStep
from mmgraph.train.validation import Validation

MAX_VALIDATION = 1000


@dataclass(frozen=True)
class History:
    """What training did.

    Attributes:
        steps: Optimiser steps.
        held_out_loss: ``[checks, E]``.
        beta_loss: Held-out loss of each candidate of ``BETAS``.
        resumed: Steps among these that an interrupted training had done before.
    """

    steps: int
    held_out_loss: tuple[tuple[float, ...], ...]
    beta_loss: tuple[float, ...]
    resumed: int = 0


def fit_members(
    graph: FusionModel,
    pool: Pool,
    data: BatchSource,
    options: TrainOptions,
    *,
    generator: torch.Generator,
    workers: ProcessGroup = SINGLE_PROCESS,
    folder: CheckpointDir | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> tuple[float, History]:
    """Fit the graph's members to the residual of the pool; choose beta.

    Every member minimises the task's loss of ``pool + share * graph`` on its own bag
    (see :func:`interaction_weight`), under
    modality dropout drawn anew for each batch, and keeps its parameters of the check
    with the lowest loss on the samples that its bag holds out.

    Args:
        graph: The members; the same in every process.
        pool: What adds up the evidence.
        data: Where batches come from; every process draws its part of each.
        options: How they are trained.
        generator: Of all randomness; in the same state in every process.
        workers: Who train together: they end with one model.
        folder: Where progress is kept; a training that is there goes on.
        on_step: Is told the number of each step.

    Returns:
        The weight of the graph's logits, chosen on held-out samples, and the history.
    """
    optimizer_step = TrainStep(graph, pool, options, generator, workers)
    batch = data.validation_batch(MAX_VALIDATION, generator)
    validation = Validation(graph, pool, batch, generator, workers)
    batches = data.batches(options.batch_size, generator, workers)
    every = max(1, options.max_steps // options.checks)
    progress = TrainerState(
        optimizer_step, validation, batches, generator, workers, folder
    )
    step = done = progress.resume()
    for step in range(done + 1, options.max_steps + 1):
        optimizer_step(next(batches))
        on_step(step)
        if step % every == 0:
            if validation.check() >= options.patience:
                break
            progress.save(step)
    validation.restore()
    beta, losses = validation.choose_beta()
    return beta, History(step, tuple(validation.losses), losses, done)
