"""What experts say out of fold.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``Y`` experts of all modalities together, ``J`` folds.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmgraph.experts.ensemble import predict_joint
from mmgraph.experts.joint import fit_boosted, fit_joint
from mmgraph.experts.links import (
    ExpertKind,
    prior_of,
    targets_of,
)
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import PiecewiseLinear
from mmgraph.ops import present_rows

if TYPE_CHECKING:
    pass
from mmgraph.experts.forest import _fit_forest
from mmgraph.experts.linear import MAX_SPLINE_WIDTH, _fit_ridges, _knots
from mmgraph.experts.links import _Fitted


@dataclass(frozen=True)
class Evidence:
    """What experts say about training samples that they were not fitted on.

    Attributes:
        out_of_fold: ``[N, M, X, K]`` scores beyond the prior; zero where missing.
        present: ``[N, M]`` Bool.
        experts: Experts refitted on all samples, ``M`` lists of ``X``.
        prior: ``[K]`` what is said of a sample without any modality.
        features: ``[N, F_m]`` by modality, for the experts of all together.
        folds: ``[N]`` fold of each sample, from 0.
        joint: Experts of all modalities together.
    """

    out_of_fold: Tensor
    present: Tensor
    experts: nn.ModuleList
    prior: Tensor
    features: Sequence[Tensor]
    folds: Tensor
    joint: nn.ModuleList

    def joint_evidence(
        self, present: Tensor, rows: Tensor | None = None
    ) -> Tensor | None:
        """Return ``[n, Y, K]`` out-of-fold scores of all modalities together.

        Args:
            present: ``[n, M]`` Bool; the scores know nothing else.
            rows: ``[n]`` numbers of samples; default: all.
        """
        features, folds = self.features, self.folds
        if rows is not None:
            features, folds = [x[rows] for x in features], folds[rows]
        return predict_joint(self.joint, features, present, self.prior, folds)

    def to(self, device: torch.device) -> "Evidence":
        """Move tensors and experts to a device."""
        return Evidence(
            self.out_of_fold.to(device),
            self.present.to(device),
            self.experts.to(device),
            self.prior.to(device),
            [x.to(device) for x in self.features],
            self.folds.to(device),
            self.joint.to(device),
        )


def fit_evidence(
    features: Mapping[str, Tensor],
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    kinds: Sequence[ExpertKind] = ("linear", "spline", "forest", "joint"),
    grouped: bool = False,
    seed: int = 0,
) -> Evidence:
    """Fit the experts of every modality.

    Args:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        y: Targets of the task; every sample has one.
        task: What is predicted.
        folds: ``[N]`` fold of each sample, from 0.
        kinds: Which experts a modality has; "joint" is one of all together, where
            there are several modalities.
        grouped: Folds keep groups together, so that out-of-bag predictions of forests
            would see the group of a sample: forests are then fitted by fold.
        seed: Of the forests.
    """
    prior = prior_of(task, y)
    present = present_rows(features.values())
    scores, experts = [], nn.ModuleList()
    for m, x in enumerate(features.values()):
        rows = torch.nonzero(present[:, m])[:, 0]
        own = x[rows], y[rows], task, folds[rows]
        fitted = fit_unimodal(kinds, *own, grouped=grouped, seed=seed)
        said = torch.stack([score for score, _ in fitted], dim=1) - prior
        table = said.new_zeros(len(y), *said.shape[1:])
        scores.append(table.index_copy(0, rows, torch.where(said.isnan(), 0, said)))
        experts.append(nn.ModuleList(expert for _, expert in fitted))
    parts = list(features.values())
    joint = nn.ModuleList()
    usable = present.any(1) & (targets_of(y, task)[1] > 0)
    if "joint" in kinds and len(parts) > 1 and bool(usable.any()):
        joint.append(fit_joint(parts, present, y, task, folds, seed=seed))
        boosted = fit_boosted(parts, present, y, task, folds, seed=seed)
        joint.extend([] if boosted is None else [boosted])
    said = torch.stack(scores, dim=1)
    return Evidence(said, present, experts, prior, parts, folds, joint)


def fit_unimodal(
    kinds: Sequence[ExpertKind],
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    grouped: bool = False,
    seed: int = 0,
) -> _Fitted:
    """Fit the experts of one modality, kind by kind.

    Splines of a wide modality have no knots: they are its linear experts once more.

    Args:
        kinds: Which experts; "joint" is none of a single modality.
        x: ``[n, F]`` features of the samples that have it.
        y: Their targets.
        task: What is predicted.
        folds: ``[n]`` fold of each.
        grouped: Forests are fitted by fold; out of bag would be in the group.
        seed: Of the forests.

    Returns:
        Out-of-fold scores ``[n, K]``, NaN where there are none, and the expert.
    """
    fitted: dict[str, _Fitted] = {}
    for kind in kinds:
        wide = kind == "spline" and x.shape[1] > MAX_SPLINE_WIDTH
        same = "linear" if wide else kind
        if same in fitted:
            fitted[kind] = [(said, deepcopy(e)) for said, e in fitted[same]]
        elif same == "forest":
            fitted[kind] = _fit_forest(x, y, task, folds, grouped, seed)
        elif same != "joint":
            hinges = PiecewiseLinear() if same == "linear" else _knots(x)
            fitted[kind] = _fit_ridges(x, y, task, folds, hinges)
    return [pair for kind in fitted.values() for pair in kind]
