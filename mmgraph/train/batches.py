"""What the loop of training reads: batches, and the sources that they come from.

Letters: ``N`` samples, ``B`` samples of a batch, ``M`` modalities, ``X`` experts a
modality, ``K`` outputs, ``E`` members.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mmgraph.data.batch import Batch
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup


def _nothing(present: Tensor, rows: Tensor | None = None) -> None:
    """Say nothing: there are no experts of all modalities together."""


@dataclass(frozen=True)
class TrainingBatch:
    """Samples to learn from, with what the experts say about them.

    Attributes:
        batch: Packed rows.
        present: ``[B, M]`` Bool.
        evidence: ``[B, M, X, K]`` out-of-fold evidence.
        y: Targets of the task.
        bags: ``[E, B]`` weight of each sample for each member; 0 is held out.
        groups: ``[B]`` numbers of what belongs together.
        joint_evidence: Gives, of ``[B, M]`` present modalities, what experts of all of
            them together say out of fold, ``[B, Y, K]``; or None where there are none.
        first: Samples of the batch that other processes hold before these.
        total: Samples of the batch in all processes; default: these.
    """

    batch: Batch
    present: Tensor
    evidence: Tensor
    y: Tensor
    bags: Tensor
    groups: Tensor
    joint_evidence: Callable[[Tensor], Tensor | None] = _nothing
    first: int = 0
    total: int | None = None

    def __len__(self) -> int:
        return len(self.present)


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of batches that can stop and go on."""

    def __iter__(self) -> "Batches":
        """Return itself."""

    def __next__(self) -> TrainingBatch:
        """Return the next batch; there always is one."""

    def state(self) -> dict[str, Tensor]:
        """Return where it is, as tensors; the generator is saved by its owner."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on where another one was."""


@runtime_checkable
class BatchSource(Protocol):
    """Where training takes its samples from: memory, or a stream."""

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most so many samples, drawn at random, to validate members on."""

    def batches(
        self, batch_size: int, generator: torch.Generator, workers: ProcessGroup
    ) -> Batches:
        """Return an endless iterator of this process's parts of random batches.

        A batch has about ``batch_size`` samples over all processes. It draws from the
        generator, which other draws of the training share, only when a batch is asked
        for, and the same on every process.
        """


@dataclass(frozen=True)
class TrainingSet:
    """Samples in memory that members learn from; a :class:`BatchSource`.

    Attributes:
        batch_of: Packs samples by their numbers.
        present: ``[N, M]`` Bool.
        evidence: ``[N, M, X, K]`` out-of-fold evidence.
        y: Targets of the task.
        bags: ``[E, N]`` weight of each sample for each member; 0 is held out.
        groups: ``[N]`` numbers of what belongs together (each sample alone, or not).
        joint_evidence: As in :class:`TrainingBatch`, of the samples of given numbers.
    """

    batch_of: Callable[[Tensor], Batch]
    present: Tensor
    evidence: Tensor
    y: Tensor
    bags: Tensor
    groups: Tensor
    joint_evidence: Callable[[Tensor, Tensor], Tensor | None] = _nothing

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> TrainingBatch:
        """Return the samples of these numbers ``[B]``."""
        return TrainingBatch(
            self.batch_of(indices),
            self.present[indices],
            self.evidence[indices],
            self.y[indices],
            self.bags[:, indices],
            self.groups[indices],
            lambda present: self.joint_evidence(present, indices),
        )

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most so many samples, in their order."""
        order = torch.randperm(len(self), generator=generator)
        return self.take(order[:most].sort().values)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> "IndexBatches":
        """Return parts of the batches of one permutation after the other."""
        return IndexBatches(self, batch_size, generator, workers)


class IndexBatches:
    """Batches of one permutation after the other, nearly equal in size.

    Args:
        data: The samples.
        batch_size: Samples of a batch, about: an epoch has ``round(N / batch_size)``.
        generator: Of the permutations; in the same state on every process.
        workers: Who share a batch, in parts that follow each other.
    """

    def __init__(
        self,
        data: TrainingSet,
        batch_size: int,
        generator: torch.Generator,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.data, self.generator, self.workers = data, generator, workers
        count = max(1, round(len(data) / min(batch_size, len(data))))
        self.size = -(-len(data) // count)
        self.left = torch.empty(0, dtype=torch.int64)

    def __iter__(self) -> "IndexBatches":
        return self

    def __next__(self) -> TrainingBatch:
        if not len(self.left):
            self.left = torch.randperm(len(self.data), generator=self.generator)
        indices, self.left = self.left[: self.size], self.left[self.size :]
        rows = self.workers.share(len(indices))
        part = self.data.take(indices[rows])
        return replace(part, first=rows.start, total=len(indices))

    def state(self) -> dict[str, Tensor]:
        """Return what is left of the permutation."""
        return {"left": self.left}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with what another one had left."""
        self.left = state["left"]
