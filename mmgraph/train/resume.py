"""Going on with a training that was interrupted."""

from typing import Any

import torch
from torch import Tensor

from mmgraph.distributed import ProcessGroup
from mmgraph.train.batches import Batches
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.step import TrainStep
from mmgraph.train.validation import Validation

PART = "steps"
VALIDATION = "judge"  # its name in files that are there


class TrainerState:
    """How far a training is: all that the next step depends on.

    Args:
        optimizer_step: Parameters, optimiser and schedule.
        validation: The best members so far.
        batches: Where the samples come from.
        generator: Of all randomness.
        workers: Who train together; the lead reads and writes.
        folder: Where progress is kept, or None.
    """

    def __init__(
        self,
        optimizer_step: TrainStep,
        validation: Validation,
        batches: Batches,
        generator: torch.Generator,
        workers: ProcessGroup,
        folder: CheckpointDir | None,
    ) -> None:
        self.optimizer_step, self.validation, self.batches = (
            optimizer_step,
            validation,
            batches,
        )
        self.generator, self.workers, self.folder = generator, workers, folder

    def save(self, step: int) -> None:
        """Keep the state after a step, unless the last time was just now."""
        folder = self.folder
        if folder is not None and self.workers.is_main_process and folder.is_due(PART):
            folder.save(PART, *self._state(step))

    def resume(self) -> int:
        """Take up what was kept; returns the number of steps that were done."""
        folder = self.folder
        if folder is None:
            return 0
        kept = self.workers.broadcast_state(lambda: folder.load(PART) or ({}, {}))
        tensors, plain = kept
        if not plain:
            return 0
        self.optimizer_step.load_state(_under("step", tensors), plain["optimizer_step"])
        self.validation.load_state(_under(VALIDATION, tensors), plain[VALIDATION])
        self.batches.load_state(_under("batches", tensors))
        self.generator.set_state(tensors["generator"])
        return int(plain["step"])

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
        return tensors, {"step": step, "optimizer_step": schedule, VALIDATION: measured}


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}."
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name] for name in names}
