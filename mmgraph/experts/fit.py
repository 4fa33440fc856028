"""Fitting experts, pool and graph, in one process or in several, to the end.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``K`` outputs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.data.splits import (
    assign_folds,
    encode_groups,
    member_weights,
    num_feasible_folds,
)
from mmgraph.distributed import ProcessGroup
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.links import ExpertKind
from mmgraph.experts.pooling import fit_pool
from mmgraph.experts.serialization import ensemble_config, ensemble_from_config
from mmgraph.experts.stacking import Evidence, fit_evidence
from mmgraph.nn.heads import Task
from mmgraph.train import TrainingSet
from mmgraph.train.progress_dir import CheckpointDir

PART = "experts"
SAID = ("said", "present")


@dataclass(frozen=True)
class Fitting:
    """Labelled samples, and who fits a model to them.

    Attributes:
        data: Samples, with the modalities of the schema.
        y: Encoded targets.
        task: What is predicted.
        seed: Of everything that is random.
        workers: Who train together; all have the same samples.
        folder: Where progress is kept, or None.
    """

    data: MultimodalData
    y: Tensor
    task: Task
    seed: int
    workers: ProcessGroup
    folder: CheckpointDir | None

    @property
    def groups(self) -> npt.NDArray[Any] | None:
        """Groups that are held out together; None where all samples are of one."""
        groups = self.data.groups
        return None if num_feasible_folds(groups, len(self.data)) == 1 else groups

    @property
    def num_folds(self) -> int:
        """How many parts samples are dealt into, none of them empty."""
        return num_feasible_folds(self.groups, len(self.data))

    def experts(self, kinds: Sequence[ExpertKind]) -> tuple[Evidence, ExpertEnsemble]:
        """Fit the experts and their pool: the lead does, and sends them."""
        fitted: tuple[Evidence, ExpertEnsemble] | None = None

        def pack() -> tuple[dict[str, Tensor], dict[str, Any]]:
            nonlocal fitted
            kept = self.folder.load(PART) if self.folder else None
            if kept is not None:
                return kept
            fitted = self._fit_experts(kinds)
            packed = _pack(*fitted)
            if self.folder:
                self.folder.save(PART, *packed)
            return packed

        if self.workers.size == 1 and self.folder is None:
            return self._fit_experts(kinds)
        tensors, plain = self.workers.broadcast_state(pack)
        return fitted or self._unpack(tensors, plain)

    def training_set(
        self, evidence: Evidence, members: int, device: torch.device
    ) -> TrainingSet:
        """Return what the graph's members learn from."""
        data, groups = self.data, self.groups
        evidence = evidence.to(device)
        bags = member_weights(
            self.y.numpy(), groups, members, self.num_folds, seed=self.seed
        )
        return TrainingSet(
            batch_of=lambda indices: data.batch(indices.numpy()).to(device),
            present=evidence.present,
            evidence=evidence.out_of_fold,
            joint_evidence=evidence.joint_evidence,
            y=self.y.to(device),
            bags=torch.from_numpy(bags).to(device),
            groups=torch.from_numpy(encode_groups(groups, len(data))).to(device),
        )

    def _fit_experts(
        self, kinds: Sequence[ExpertKind]
    ) -> tuple[Evidence, ExpertEnsemble]:
        evidence = fit_evidence(
            self._features(),
            self.y,
            self.task,
            self._folds(),
            kinds=tuple(kinds),
            grouped=self.groups is not None,
            seed=self.seed,
        )
        pool = fit_pool(evidence, self.y, self.task, seed=self.seed)
        return evidence, ExpertEnsemble(evidence.experts, evidence.joint, pool)

    def _folds(self) -> Tensor:
        y, groups = self.y.numpy(), self.groups
        folds = assign_folds(y, groups, self.num_folds, seed=self.seed)
        return torch.from_numpy(folds)

    def _features(self) -> dict[str, Tensor]:
        return {k: torch.from_numpy(v) for k, v in self.data.features().items()}

    def _unpack(
        self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
    ) -> tuple[Evidence, ExpertEnsemble]:
        features = list(self._features().values())
        ensemble = ensemble_from_config(
            plain, [x.shape[1] for x in features], self.task
        )
        own = {k: x for k, x in tensors.items() if k not in SAID}
        ensemble.load_state_dict(own)
        evidence = Evidence(
            tensors["said"],
            tensors["present"].bool(),
            ensemble.experts,
            ensemble.pool.prior,
            features,
            self._folds(),
            ensemble.joint,
        )
        ensemble.pool.requires_grad_(False)
        return evidence, ensemble


def _pack(
    evidence: Evidence, ensemble: ExpertEnsemble
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    said = dict(zip(SAID, (evidence.out_of_fold, evidence.present), strict=True))
    return ensemble.state_dict() | said, ensemble_config(ensemble)


def fingerprint(data: MultimodalData, y: Tensor) -> str:
    """Return the SHA-256 of samples: their values, targets and groups."""
    digest = hashlib.sha256(data.schema.hash.encode())
    for array in _arrays(data, y):
        digest.update(str((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(data: MultimodalData, y: Tensor) -> Iterator[np.ndarray[Any, Any]]:
    yield y.numpy()
    if data.groups is not None:
        yield data.groups.astype(np.str_)
    for column in data.columns.values():
        yield column.values
        yield column.offsets
        if column.time is not None:
            yield column.time
