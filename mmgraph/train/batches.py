"""Training batches, and the sources that they are drawn from.

Letters: ``N`` samples, ``B`` samples of a batch, ``M`` modalities, ``X`` base learners
of a modality, ``Y`` base learners of all modalities together, ``K`` outputs, ``E``
members.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mmgraph.data.batch import Batch
from mmgraph.data.column import AnyArray
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.errors import CheckpointError


def _no_joint_evidence(present: Tensor, rows: Tensor | None = None) -> None:
    """Return None: there are no base learners of all modalities together."""


@dataclass(frozen=True)
class TrainingBatch:
    """Samples of one optimizer step, with the evidence of the base learners.

    Attributes:
        batch: Packed rows.
        present: ``[B, M]`` Bool.
        evidence: ``[B, M, X, K]`` out-of-fold evidence.
        y: Targets of the task.
        member_weights: ``[E, B]`` weight of each sample for each member; samples of
            weight 0 are held out from that member.
        groups: ``[B]`` group numbers; samples of one group are not independent.
        joint_evidence: Maps ``[B, M]`` present modalities to the out-of-fold evidence
            ``[B, Y, K]`` of base learners of all modalities together; None if there
            are none.
        ids: ``[B]`` ids of the samples, for messages; None if they have none.
        sample_weight: ``[B]`` weights of mean 1, part of ``member_weights``, by which
            held-out samples count; None weights all equally.
        first: Number of samples of the batch that precede these, in other processes.
        total: Number of samples of the batch in all processes; default: these.
    """

    batch: Batch
    present: Tensor
    evidence: Tensor
    y: Tensor
    member_weights: Tensor
    groups: Tensor
    joint_evidence: Callable[[Tensor], Tensor | None] = _no_joint_evidence
    ids: AnyArray | None = None
    sample_weight: Tensor | None = None
    first: int = 0
    total: int | None = None

    def __len__(self) -> int:
        return len(self.present)


@runtime_checkable
class Batches(Protocol):
    """Endless iterator of batches whose position can be saved and restored."""

    def __iter__(self) -> "Batches":
        """Return the iterator itself."""

    def __next__(self) -> TrainingBatch:
        """Return the next batch. The iterator never ends."""

    def state(self) -> dict[str, Tensor]:
        """Return the position as tensors; the generator is saved by its owner."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a position that :meth:`state` returned."""


@runtime_checkable
class BatchSource(Protocol):
    """Source of training samples: memory or a stream."""

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most ``most`` random samples on which members are validated."""

    def batches(
        self, batch_size: int, generator: torch.Generator, processes: ProcessGroup
    ) -> Batches:
        """Return an endless iterator of this process's parts of random batches.

        A batch has about ``batch_size`` samples over all processes. The generator is
        shared with other draws of the training: it is used only when a batch is
        requested, and in the same way in every process.
        """


@dataclass(frozen=True)
class TrainingSet:
    """Training samples in memory; a :class:`BatchSource`.

    Attributes:
        batch_of: Packs the samples of given indices.
        present: ``[N, M]`` Bool.
        evidence: ``[N, M, X, K]`` out-of-fold evidence.
        y: Targets of the task.
        member_weights: ``[E, N]`` weight of each sample for each member; samples of
            weight 0 are held out from that member.
        groups: ``[N]`` group numbers; ungrouped samples have a number each.
        joint_evidence: As in :class:`TrainingBatch`, with the indices of the samples
            as second argument.
        ids: ``[N]`` ids of the samples, for messages; None if they have none.
        sample_weight: ``[N]`` weights, as in :class:`TrainingBatch`, or None.
    """

    batch_of: Callable[[Tensor], Batch]
    present: Tensor
    evidence: Tensor
    y: Tensor
    member_weights: Tensor
    groups: Tensor
    joint_evidence: Callable[[Tensor, Tensor], Tensor | None] = _no_joint_evidence
    ids: AnyArray | None = None
    sample_weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> TrainingBatch:
        """Return the samples of indices ``[B]``."""
        return TrainingBatch(
            self.batch_of(indices),
            self.present[indices],
            self.evidence[indices],
            self.y[indices],
            self.member_weights[:, indices],
            self.groups[indices],
            lambda present: self.joint_evidence(present, indices),
            None if self.ids is None else self.ids[indices.cpu().numpy()],
            None if self.sample_weight is None else self.sample_weight[indices],
        )

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most ``most`` random samples, in ascending order."""
        order = torch.randperm(len(self), generator=generator)
        return self.take(order[:most].sort().values)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> "IndexBatches":
        """Return this process's parts of the batches of successive permutations."""
        return IndexBatches(self, batch_size, generator, processes)


class IndexBatches:
    """Batches of successive permutations of the samples, nearly equal in size.

    Args:
        data: Training samples.
        batch_size: Approximate number of samples of a batch: an epoch has
            ``round(N / batch_size)`` batches.
        generator: Generator of the permutations, in the same state in every process.
        processes: Process group. Each process has a contiguous part of a batch.
    """

    def __init__(
        self,
        data: TrainingSet,
        batch_size: int,
        generator: torch.Generator,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.data, self.generator, self.processes = data, generator, processes
        count = max(1, round(len(data) / min(batch_size, len(data))))
        self.size = -(-len(data) // count)
        self.remaining = torch.empty(0, dtype=torch.int64)

    def __iter__(self) -> "IndexBatches":
        return self

    def __next__(self) -> TrainingBatch:
        if not len(self.remaining):
            self.remaining = torch.randperm(len(self.data), generator=self.generator)
        indices = self.remaining[: self.size]
        self.remaining = self.remaining[self.size :]
        rows = self.processes.share(len(indices))
        part = self.data.take(indices[rows])
        return replace(part, first=rows.start, total=len(indices))

    def state(self) -> dict[str, Tensor]:
        """Return the remaining indices of the current permutation."""
        return {"remaining": self.remaining}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the remaining indices of a permutation.

        Raises:
            CheckpointError: If they are not different indices of samples.
        """
        indices = state["remaining"]
        if not (
            indices.dtype == torch.int64
            and indices.ndim == 1
            and len(indices.unique()) == len(indices) <= len(self.data)
            and bool(((indices >= 0) & (indices < len(self.data))).all())
        ):
            raise CheckpointError("remaining must hold different indices of samples")
        self.remaining = indices
