"""Fit of base learners and pool in one process or several, with saved progress.

Letters: ``N`` samples, ``M`` modalities, ``X`` base learners of a modality, ``K``
outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.data.batch import Batch
from mmgraph.data.splits import (
    assign_folds,
    encode_groups,
    member_weights,
    num_feasible_folds,
)
from mmgraph.distributed import ProcessGroup
from mmgraph.errors import CheckpointError
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.links import ExpertKind
from mmgraph.experts.own import OwnLearners
from mmgraph.experts.pooling import fit_pool
from mmgraph.experts.relations import ObjectView, RelationTraining, plan_objects
from mmgraph.experts.serialization import (
    count_objects,
    ensemble_config,
    ensemble_from_config,
    load_tensors,
)
from mmgraph.experts.stacking import Evidence, fit_evidence
from mmgraph.experts.submodels import Submodels
from mmgraph.experts.views import ViewKernels, fit_views, plan_views
from mmgraph.nn.heads import Task
from mmgraph.ops import present_rows
from mmgraph.train import TrainingSet
from mmgraph.train.progress_dir import CheckpointDir, restored

PART = "experts"
EVIDENCE = ("evidence", "present")
SUBMODELS = "submodel_scores"


@dataclass(frozen=True)
class Fitting:
    """Labeled samples and the settings of a fit.

    Attributes:
        data: Samples, with the modalities of the schema.
        y: Encoded targets.
        task: Prediction task.
        seed: Seed for folds, trees and pool.
        processes: Process group; all processes have the same samples.
        checkpoint_dir: Directory of the progress, or None.
        weight: ``[N]`` sample weights above 0; None weights all samples equally.
        texts: Names of the modalities of n-grams.
    """

    data: MultimodalData
    y: Tensor
    task: Task
    seed: int
    processes: ProcessGroup
    checkpoint_dir: CheckpointDir | None
    weight: Tensor | None = None
    texts: Sequence[str] = ()

    @property
    def groups(self) -> npt.NDArray[Any] | None:
        """Groups that are held out together; None if all samples are in one group."""
        groups = self.data.groups
        return None if num_feasible_folds(groups, len(self.data)) == 1 else groups

    @property
    def num_folds(self) -> int:
        """Number of folds, none of which is empty."""
        return num_feasible_folds(self.groups, len(self.data))

    def experts(
        self, kinds: Sequence[ExpertKind], own: OwnLearners = ()
    ) -> tuple[Evidence, ExpertEnsemble]:
        """Fit base learners and pool in the main process, and send them to all others.

        Saved progress of the same data and options is loaded instead.

        Args:
            kinds: Kinds of base learners.
            own: Estimators of scikit-learn by modality, which cannot be saved or sent.

        Returns:
            Out-of-fold evidence, and the fitted ensemble.
        """
        fitted: tuple[Evidence, ExpertEnsemble] | None = None

        def pack() -> tuple[dict[str, Tensor], dict[str, Any]]:
            nonlocal fitted
            saved = self.checkpoint_dir.load(PART) if self.checkpoint_dir else None
            if saved is not None:
                return saved
            fitted = self._fit_experts(kinds, own)
            packed = _pack(*fitted)
            if self.checkpoint_dir:
                self.checkpoint_dir.save(PART, *packed)
            return packed

        if self.processes.size == 1 and self.checkpoint_dir is None:
            return self._fit_experts(kinds, own)
        tensors, plain = self.processes.broadcast_state(pack)
        if fitted is not None or self.checkpoint_dir is None:
            return fitted or self._unpack(tensors, plain)
        with self.checkpoint_dir.restoring(PART, plain) as content:
            return self._unpack(tensors, content)

    def training_set(
        self, evidence: Evidence, members: int, device: torch.device
    ) -> TrainingSet:
        """Return the training data of the graph networks.

        Args:
            evidence: Evidence of the fitted base learners.
            members: Number of graph networks.
            device: Device of the tensors.
        """
        data, groups = self.data, self.groups
        evidence = evidence.to(device)
        used = member_weights(
            self.y.numpy(), groups, members, self.num_folds, seed=self.seed
        )
        weights, weight = torch.from_numpy(used), None
        if self.weight is not None:  # steps do not depend on the scale of weights
            weight = self.weight / self.weight.mean()
            weights = weights * weight
        return TrainingSet(
            batch_of=lambda indices: data.batch(indices.numpy()).to(device),
            present=evidence.present,
            evidence=evidence.out_of_fold,
            joint_evidence=evidence.joint_evidence,
            y=self.y.to(device),
            member_weights=weights.to(device),
            groups=torch.from_numpy(encode_groups(groups, len(data))).to(device),
            ids=data.ids,
            sample_weight=None if weight is None else weight.to(device),
        )

    def _fit_experts(
        self, kinds: Sequence[ExpertKind], own: OwnLearners
    ) -> tuple[Evidence, ExpertEnsemble]:
        features = self._features()
        evidence = fit_evidence(
            features,
            self.y,
            self.task,
            self._folds(),
            kinds=tuple(kinds),
            grouped=self.groups is not None,
            seed=self.seed,
            weight=self.weight,
            kernels=self._view_kernels(list(features.values()), kinds),
            relations=self._relation_training(kinds),
            own=own,
        )
        options: dict[str, Any] = {"seed": self.seed, "weight": self.weight}
        pool = fit_pool(evidence, self.y, self.task, **options)
        parts = evidence.experts, evidence.joint, pool, evidence.views
        return evidence, ExpertEnsemble(*parts)

    def _view_kernels(
        self, features: Sequence[Tensor], kinds: Sequence[ExpertKind]
    ) -> ViewKernels | None:
        """Fit the views that base learners read; None without sequences."""
        if not {"convolution", "submodels"} & set(kinds):
            return None
        widths = [x.shape[1] for x in features]
        alone = "submodels" not in kinds
        views = plan_views(self.data.schema, widths, sequences_only=alone)
        if not views:
            return None

        def read(rows: Tensor) -> tuple[Batch, list[Tensor]]:
            return self.data.batch(rows.numpy()), [x[rows] for x in features]

        names = self.data.schema.modality_names
        return fit_views(views, names, len(self.data), read, seed=self.seed)

    def _relation_training(
        self, kinds: Sequence[ExpertKind]
    ) -> RelationTraining | None:
        """Return texts and tables of objects; None without relations of texts."""
        if "relations" not in kinds:
            return None
        schema, columns = self.data.schema, self.data.columns
        longest = [
            int(columns[n].lengths.max(initial=0)) for n in schema.modality_names
        ]
        views = plan_objects(schema, longest)
        if not views and len(self.texts) < 2:
            return None
        tables = self._object_tables(views)
        return RelationTraining(views, tables, schema, self.texts)

    def _object_tables(self, views: Sequence[ObjectView]) -> list[Tensor]:
        batch = self.data.batch() if views else None
        return [] if batch is None else [view(batch, ()) for view in views]

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
        present = present_rows(features)
        if count_objects(plain) > len(tensors):
            raise CheckpointError("every base learner must have tensors")
        with torch.device("meta"):  # shapes are compared before memory is taken
            ensemble = ensemble_from_config(
                plain, [x.shape[1] for x in features], self.task
            )
        apart = {*EVIDENCE, SUBMODELS}
        own = {k: x.clone() for k, x in tensors.items() if k not in apart}
        load_tensors(ensemble, own)
        shape = len(self.data), len(features), len(plain["experts"][0])
        like = ensemble.pool.prior.new_empty(*shape, self.task.out_channels)
        out_of_fold = restored(tensors, EVIDENCE[0], like)
        if not torch.equal(restored(tensors, EVIDENCE[1], present), present):
            raise CheckpointError("present must be the modalities of the samples")
        features += self._object_tables(
            [view for view in ensemble.views if isinstance(view, ObjectView)]
        )
        submodel_scores = None
        for expert in ensemble.joint:
            if isinstance(expert, Submodels):
                shape = len(self.data), len(expert.subsets), self.task.out_channels
                like = out_of_fold.new_empty(shape)
                submodel_scores = restored(tensors, SUBMODELS, like)
        evidence = Evidence(
            out_of_fold,
            present,
            ensemble.experts,
            ensemble.pool.prior,
            features,
            self._folds(),
            ensemble.joint,
            ensemble.views,
            submodel_scores,
        )
        ensemble.pool.requires_grad_(False)
        return evidence, ensemble


def _pack(
    evidence: Evidence, ensemble: ExpertEnsemble
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = (evidence.out_of_fold, evidence.present)
    named = dict(zip(EVIDENCE, tensors, strict=True))
    if evidence.submodel_scores is not None:
        named[SUBMODELS] = evidence.submodel_scores
    return ensemble.state_dict() | named, ensemble_config(ensemble)
