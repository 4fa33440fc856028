"""Training loop: steps, validation, and the weight of the graph networks.

Letters: ``E`` members.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool
from mmgraph.train.balance import BalanceCheck, BalanceMonitor
from mmgraph.train.batches import BatchSource
from mmgraph.train.divergence import DivergenceError, warn_divergence
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.resume import TrainerState
from mmgraph.train.step import TrainOptions, TrainStep
from mmgraph.train.validation import Validation

MAX_VALIDATION = 1000


@dataclass(frozen=True)
class History:
    """Record of a training.

    Attributes:
        steps: Number of optimizer steps.
        held_out_loss: ``[checks, E]`` loss of each member on its held-out samples.
        beta_loss: Mean held-out loss for each candidate weight of ``BETAS``.
        resumed: Number of these steps that an interrupted training had completed.
        balance: Scores of single modalities, where the networks predict from single
            modalities: of the final parameters, or of every validation if the training
            corrects imbalance.
    """

    steps: int
    held_out_loss: tuple[tuple[float, ...], ...]
    beta_loss: tuple[float, ...]
    resumed: int = 0
    balance: tuple[BalanceCheck, ...] = ()


def fit_members(
    graph: FusionModel,
    pool: Pool,
    data: BatchSource,
    options: TrainOptions,
    *,
    generator: torch.Generator,
    processes: ProcessGroup = SINGLE_PROCESS,
    checkpoint_dir: CheckpointDir | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> tuple[float, History]:
    """Fit the members of the graph to the residual of the pool, and choose beta.

    Every member minimizes the task's loss of ``pool + interaction_weight * graph`` on
    its own weighted samples, under modality dropout drawn independently for each batch,
    and keeps the parameters of the validation with the lowest loss on the samples that
    are held out from it. A loss that is not finite stops the training with a
    ``ConvergenceWarning`` that names samples and modalities. See
    :func:`mmgraph.nn.evidence_pool.interaction_weight`.

    Args:
        graph: Ensemble of graph networks, with equal parameters in every process.
        pool: Fitted pool of the evidence.
        data: Source of the batches; every process draws its part of each.
        options: Training options.
        generator: Random generator, in the same state in every process.
        processes: Process group; all processes end with the same parameters.
        checkpoint_dir: Directory of the progress, which an interrupted training of the
            same data and options resumes; None: progress is not saved.
        on_step: Called with the number of each completed step.

    Returns:
        The weight beta of the graph's logits, chosen on held-out samples, and the
        history.
    """
    optimizer_step = TrainStep(graph, pool, options, generator, processes)
    batch = data.validation_batch(MAX_VALIDATION, generator)
    validation = Validation(graph, pool, batch, generator, processes)
    batches = data.batches(options.batch_size, generator, processes)
    every = max(1, options.max_steps // options.checks)
    monitor = BalanceMonitor(validation, optimizer_step.correction)
    state = TrainerState(
        optimizer_step,
        validation,
        monitor,
        batches,
        generator,
        processes,
        checkpoint_dir,
    )
    monitor.start()
    step = done = state.resume()
    graph.train()
    for step in range(done + 1, options.max_steps + 1):
        try:
            optimizer_step(next(batches))
            on_step(step)
            if step % every == 0:
                graph.eval()  # without dropout of custom modules
                if validation.check() >= options.patience:
                    break
                if options.balance is not None:
                    monitor.check(step)
                graph.train()
                state.save(step)
        except DivergenceError as error:
            if processes.is_main_process:
                warn_divergence(step, error, options.learning_rate)
            break
    validation.restore()
    graph.eval()
    if options.monitor:
        monitor.check(step)
    beta, losses = validation.choose_beta()
    checks = tuple(monitor.checks)
    return beta, History(step, tuple(validation.losses), losses, done, checks)
