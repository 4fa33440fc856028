"""State of a training, saved to resume it after an interruption."""

from typing import Any

import torch
from torch import Tensor

from mmgraph.distributed import ProcessGroup
from mmgraph.errors import CheckpointError
from mmgraph.train.balance import BalanceMonitor
from mmgraph.train.batches import Batches
from mmgraph.train.progress_dir import CheckpointDir, restored
from mmgraph.train.step import TrainStep
from mmgraph.train.validation import Validation

PART = "steps"
VALIDATION = "validation"
BALANCE = "balance"


class TrainerState:
    """Everything that the next optimizer step depends on.

    Args:
        optimizer_step: Parameters, optimizer and learning-rate schedule.
        validation: Best parameters of the members so far.
        monitor: Record of the modality balance.
        batches: Iterator of the batches.
        generator: Random generator.
        processes: Process group; the main process reads and writes.
        checkpoint_dir: Directory of the progress, or None.
    """

    def __init__(
        self,
        optimizer_step: TrainStep,
        validation: Validation,
        monitor: BalanceMonitor,
        batches: Batches,
        generator: torch.Generator,
        processes: ProcessGroup,
        checkpoint_dir: CheckpointDir | None,
    ) -> None:
        self.optimizer_step, self.validation = optimizer_step, validation
        self.monitor, self.batches, self.generator = monitor, batches, generator
        self.processes, self.checkpoint_dir = processes, checkpoint_dir

    def save(self, step: int) -> None:
        """Save the state after a step, unless the last save was too recent."""
        target = self.checkpoint_dir
        if target is None or not self.processes.is_main_process:
            return
        if target.is_due(PART):
            target.save(PART, *self._state(step))

    def resume(self) -> int:
        """Restore a saved state, if any; return its number of completed steps."""
        source = self.checkpoint_dir
        if source is None:
            return 0
        saved = self.processes.broadcast_state(lambda: source.load(PART) or ({}, {}))
        tensors, plain = saved
        if not plain:
            return 0
        with source.restoring(PART, plain) as content:
            return self._restore(tensors, content)

    def _restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> int:
        """Restore a state after checks of every tensor; return its number of steps."""
        step = plain["step"]
        if type(step) is not int or not 0 < step <= self.optimizer_step.max_steps:
            raise CheckpointError(f"step must be a number of steps, got {step!r}")
        state = plain["optimizer_step"]
        self.optimizer_step.load_state(_under("step", tensors), state, step)
        self.validation.load_state(_under(VALIDATION, tensors), plain[VALIDATION])
        self.monitor.load_state(plain[BALANCE])
        self.batches.load_state(_under("batches", tensors))
        generator = restored(tensors, "generator", self.generator.get_state())
        self.generator.set_state(generator)
        return step

    def _state(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        moments, schedule = self.optimizer_step.state()
        best, measured = self.validation.state()
        parts = {"step": moments, VALIDATION: best, "batches": self.batches.state()}
        tensors = {
            f"{part}.{name}": value
            for part, values in parts.items()
            for name, value in values.items()
        }
        tensors["generator"] = self.generator.get_state()
        plain = {"step": step, "optimizer_step": schedule, VALIDATION: measured}
        return tensors, plain | {BALANCE: self.monitor.state()}


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a part, without that prefix."""
    prefix = f"{part}."
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name] for name in names}
