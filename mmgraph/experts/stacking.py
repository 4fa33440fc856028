"""Out-of-fold evidence of base learners.

Evidence is the score of a base learner minus the prior, on the scale of the link.

Letters: ``N`` samples, ``n`` rows of a modality, ``M`` modalities, ``X`` base learners
of a modality, ``Y`` base learners of all modalities together, ``F`` features, ``K``
outputs.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmgraph.experts.ensemble import predict_joint
from mmgraph.experts.forest import fit_forest
from mmgraph.experts.joint import fit_boosted, fit_joint
from mmgraph.experts.linear import MAX_SPLINE_WIDTH, fit_ridges, quantile_knots
from mmgraph.experts.links import (
    JOINT_KINDS,
    ExpertKind,
    FittedExperts,
    prior_of,
    targets_of,
)
from mmgraph.experts.own import OwnLearners, fit_own
from mmgraph.experts.relations import RelationTraining, fit_relations
from mmgraph.experts.submodels import (
    FittedSubmodels,
    PriorExpert,
    RidgeTraining,
    fit_convolution,
    fit_submodels,
)
from mmgraph.experts.text_pairs import fit_text_pairs
from mmgraph.experts.views import ViewKernels
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import PiecewiseLinear
from mmgraph.ops import present_rows


@dataclass(frozen=True)
class Evidence:
    """Out-of-fold evidence of training samples, and the fitted base learners.

    Attributes:
        out_of_fold: ``[N, M, X, K]`` scores minus the prior; zero where missing.
        present: ``[N, M]`` Bool.
        experts: Base learners fitted to all samples, ``M`` lists of ``X``.
        prior: ``[K]`` scores of a sample without any modality.
        features: Tables that base learners of all modalities read: ``[N, F_m]`` for
            each modality, then those of objects.
        folds: ``[N]`` fold of each sample, from 0.
        joint: ``Y`` base learners of all modalities together.
        views: Views that base learners read.
        submodel_scores: ``[N, S, K]`` out-of-fold scores of submodels; None without.
    """

    out_of_fold: Tensor
    present: Tensor
    experts: nn.ModuleList
    prior: Tensor
    features: Sequence[Tensor]
    folds: Tensor
    joint: nn.ModuleList
    views: nn.ModuleList = field(default_factory=nn.ModuleList)
    submodel_scores: Tensor | None = None

    def joint_evidence(
        self, present: Tensor, rows: Tensor | None = None
    ) -> Tensor | None:
        """Return out-of-fold evidence of base learners of all modalities.

        Args:
            present: ``[n, M]`` Bool; other modalities are not read.
            rows: ``[n]`` indices of samples; default: all samples.

        Returns:
            ``[n, Y, K]``, or None without such base learners.
        """
        which = slice(None) if rows is None else rows
        features, folds = [x[which] for x in self.features], self.folds[which]
        scores = self.submodel_scores
        scores = None if scores is None else scores[which]
        training = features, present, self.prior, folds
        return predict_joint(self.joint, *training, submodel_scores=scores)

    def to(self, device: torch.device) -> "Evidence":
        """Return the evidence with tensors and base learners on a device."""
        scores = self.submodel_scores
        return replace(
            self,
            out_of_fold=self.out_of_fold.to(device),
            present=self.present.to(device),
            experts=self.experts.to(device),
            prior=self.prior.to(device),
            features=[x.to(device) for x in self.features],
            folds=self.folds.to(device),
            joint=self.joint.to(device),
            views=self.views.to(device),
            submodel_scores=None if scores is None else scores.to(device),
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
    weight: Tensor | None = None,
    kernels: ViewKernels | None = None,
    relations: RelationTraining | None = None,
    own: OwnLearners = (),
) -> Evidence:
    """Fit all base learners, and compute their out-of-fold evidence.

    Args:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        y: Encoded targets; every sample has one.
        task: Prediction task.
        folds: ``[N]`` fold of each sample, from 0.
        kinds: Kinds of base learners of each modality; "joint" are those of all
            modalities together, if there are several modalities or no other kinds.
        grouped: Folds keep groups together. Forests are then fitted by fold, because
            out-of-bag samples can belong to groups of the bootstrap.
        seed: Seed of the trees.
        weight: ``[N]`` sample weights; None weights all samples equally.
        kernels: Kernels of the views that "convolution" and "submodels" read; None
            leaves these out.
        relations: Texts and objects that "relations" read; None leaves these out.
        own: Estimators of scikit-learn by modality; other modalities have the prior.

    References:
        Stacked Generalization, Wolpert, 1992.
    """
    prior = prior_of(task, y, weight)
    parts = list(features.values())
    present = present_rows(parts)
    ridges = None
    if kernels is not None:
        ridges = RidgeTraining(kernels, present, y, task, folds, prior, weight)
    by_modality = bool(own) or not set(kinds) <= set(JOINT_KINDS)
    has_joint = len(parts) > 1 or not by_modality
    evidence, experts = [], nn.ModuleList()
    options: dict[str, Any]
    for m, (name, x) in enumerate(features.items()):
        rows = torch.nonzero(present[:, m])[:, 0]
        training = x[rows], y[rows], task, folds[rows]
        weights = None if weight is None else weight[rows]
        options = {"grouped": grouped, "seed": seed, "weight": weights}
        fitted = fit_unimodal(kinds, *training, **options)
        if ridges is not None and "convolution" in kinds:
            scores, expert = fit_convolution(ridges, m)
            fitted.append((scores[rows], expert))
        elif by_modality and not fitted and not own:
            fitted.append(_nothing(x[rows], prior))
        for learners in own:
            fitted.append(
                fit_own(learners[name], *training, prior, seed=seed, weight=weights)
                if name in learners
                else _nothing(x[rows], prior)
            )
        part = x.new_zeros(len(rows), 0, len(prior))
        if fitted:
            part = torch.stack([score for score, _ in fitted], dim=1) - prior
        table = part.new_zeros(len(y), *part.shape[1:])
        evidence.append(table.index_copy(0, rows, torch.where(part.isnan(), 0, part)))
        experts.append(nn.ModuleList(expert for _, expert in fitted))
    joint, submodels = nn.ModuleList(), None
    if "joint" in kinds and has_joint:
        samples = parts, present, y, task, folds
        joint.extend(_fit_forests(*samples, seed=seed, weight=weight))
    if ridges is not None and "submodels" in kinds and has_joint:
        submodels = fit_submodels(ridges, smallest=2 if by_modality else 1)
    joint.extend([] if submodels is None else [submodels.model])
    views, tables = _views_of(kernels, submodels), list(parts)
    if relations is not None and "relations" in kinds:
        samples = parts, present, y, task, folds
        options = {"seed": seed, "weight": weight}
        schema, texts = relations.schema, relations.texts
        joint.extend(fit_text_pairs(schema, texts, *samples, prior, **options))
        related = fit_relations(relations, *samples, prior, **options)
        joint.extend(related)
        views.extend(relations.views if related else [])
        tables += relations.tables if related else []
    return Evidence(
        torch.stack(evidence, dim=1),
        present,
        experts,
        prior,
        tables,
        folds,
        joint,
        views,
        None if submodels is None else submodels.scores,
    )


def _nothing(x: Tensor, prior: Tensor) -> tuple[Tensor, nn.Module]:
    """Return scores without evidence for rows of a modality that is not read."""
    scores = x.new_full((len(x), len(prior)), torch.nan)
    return scores, PriorExpert(prior.clone())


def _fit_forests(
    parts: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    **options: Any,  # noqa: ANN401
) -> list[nn.Module]:
    """Fit the forests of all modalities; none without usable samples."""
    usable = present.any(1) & (targets_of(y, task)[1] > 0)
    if not bool(usable.any()):
        return []
    training = parts, present, y, task, folds
    boosted = fit_boosted(*training, **options)
    return [fit_joint(*training, **options), *([] if boosted is None else [boosted])]


def _views_of(
    kernels: ViewKernels | None, submodels: FittedSubmodels | None
) -> nn.ModuleList:
    """Return the views that base learners read: without submodels, the single ones."""
    if kernels is None:
        return nn.ModuleList()
    used = range(kernels.num_single) if submodels is None else submodels.views
    return nn.ModuleList(kernels.views[v] for v in used)


def fit_unimodal(
    kinds: Sequence[ExpertKind],
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    grouped: bool = False,
    seed: int = 0,
    weight: Tensor | None = None,
) -> FittedExperts:
    """Fit the base learners of one modality.

    Splines of a wide modality have no knots: they equal its linear base learners.

    Args:
        kinds: Kinds of base learners; those of all modalities and of views are ignored
            here.
        x: ``[n, F]`` features of the samples that have the modality.
        y: Encoded targets of these samples.
        task: Prediction task.
        folds: ``[n]`` fold of each sample.
        grouped: Fit forests by fold in place of out-of-bag predictions.
        seed: Seed of the forests.
        weight: ``[n]`` sample weights; None weights all samples equally.

    Returns:
        For each base learner, out-of-fold scores ``[n, K]``, NaN without a fit outside
        the fold, and the module fitted to all samples.
    """
    fitted: dict[str, FittedExperts] = {}
    for kind in kinds:
        wide = kind == "spline" and x.shape[1] > MAX_SPLINE_WIDTH
        same = "linear" if wide else kind
        if same in fitted:
            fitted[kind] = [(scores, deepcopy(e)) for scores, e in fitted[same]]
        elif same == "forest":
            fitted[kind] = fit_forest(x, y, task, folds, grouped, seed, weight)
        elif same in ("linear", "spline"):
            hinges = PiecewiseLinear() if same == "linear" else quantile_knots(x)
            fitted[kind] = fit_ridges(x, y, task, folds, hinges, weight)
    return [pair for kind in fitted.values() for pair in kind]
