"""Fitting experts, pool and graph, in one process or in several, to the end.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``K`` outputs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.data import MultimodalData
from mmgraph.distributed import Workers
from mmgraph.estimators.evidence import Evidence, ExpertKind, fit_evidence, fit_pool
from mmgraph.estimators.folds import assign_folds, member_bags, number_groups
from mmgraph.estimators.saving import build_expert, describe_expert
from mmgraph.nn.heads import Task
from mmgraph.nn.pool import EvidencePool
from mmgraph.train import TrainingSet
from mmgraph.train.folder import TrainingFolder

NUM_FOLDS = 5
PART = "experts"


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
    workers: Workers
    folder: TrainingFolder | None

    @property
    def num_folds(self) -> int:
        """How many parts samples are dealt into."""
        return min(NUM_FOLDS, len(self.data))

    def experts(self, kinds: Sequence[ExpertKind]) -> tuple[Evidence, EvidencePool]:
        """Fit the experts and their pool: the lead does, and sends them."""
        fitted: tuple[Evidence, EvidencePool] | None = None

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
        tensors, plain = self.workers.parcel(pack)
        return fitted or self._unpack(tensors, plain)

    def training_set(
        self, evidence: Evidence, members: int, device: torch.device
    ) -> TrainingSet:
        """Return what the graph's members learn from."""
        data, groups = self.data, self.data.groups
        bags = member_bags(
            self.y.numpy(), groups, members, self.num_folds, seed=self.seed
        )
        return TrainingSet(
            batch_of=lambda indices: data.batch(indices.numpy()).to(device),
            present=evidence.present.to(device),
            evidence=evidence.out_of_fold.to(device),
            y=self.y.to(device),
            bags=torch.from_numpy(bags).to(device),
            groups=torch.from_numpy(number_groups(groups, len(data))).to(device),
        )

    def _fit_experts(
        self, kinds: Sequence[ExpertKind]
    ) -> tuple[Evidence, EvidencePool]:
        groups = self.data.groups
        folds = assign_folds(self.y.numpy(), groups, self.num_folds, seed=self.seed)
        evidence = fit_evidence(
            self._features(),
            self.y,
            self.task,
            torch.from_numpy(folds),
            kinds=tuple(kinds),
            grouped=groups is not None,
            seed=self.seed,
        )
        return evidence, fit_pool(evidence, self.y, self.task, seed=self.seed)

    def _features(self) -> dict[str, Tensor]:
        return {k: torch.from_numpy(v) for k, v in self.data.features().items()}

    def _unpack(
        self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
    ) -> tuple[Evidence, EvidencePool]:
        described = plain["experts"]
        widths = [x.shape[1] for x in self._features().values()]
        experts = nn.ModuleList(
            nn.ModuleList(build_expert(item, width, self.task) for item in items)
            for items, width in zip(described, widths, strict=True)
        )
        pool = EvidencePool(
            len(widths),
            len(described[0]),
            self.task.out_channels,
            num_patterns=plain["num_patterns"],
        )
        parts = nn.ModuleDict({"experts": experts, "pool": pool})
        named = {k: x for k, x in tensors.items() if k.startswith(tuple(parts))}
        parts.load_state_dict(named)
        said, present, prior = (tensors[k] for k in ("said", "present", "prior"))
        return Evidence(said, present.bool(), experts, prior), pool.requires_grad_(
            False
        )


def _pack(
    evidence: Evidence, pool: EvidencePool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    parts = nn.ModuleDict({"experts": evidence.experts, "pool": pool})
    tensors = dict(parts.state_dict())
    tensors["said"], tensors["prior"] = evidence.out_of_fold, evidence.prior
    tensors["present"] = evidence.present
    lists = [each for each in evidence.experts if isinstance(each, nn.ModuleList)]
    described = [[describe_expert(expert) for expert in each] for each in lists]
    return tensors, {"experts": described, "num_patterns": len(pool.patterns)}


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
