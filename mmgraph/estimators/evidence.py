"""Fitting experts out of fold, and the pool of what they say.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``Y`` experts of all modalities together, ``J`` folds.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.estimators.joint import fit_boosted, fit_joint
from mmgraph.estimators.panel import ask_together
from mmgraph.estimators.targets import link_of, prior_of, targets_of
from mmgraph.missing import modality_dropout
from mmgraph.nn.experts import (
    LinearExpert,
    TreeExpert,
    fit_linear,
    score_of_mean,
    to_score,
)
from mmgraph.nn.heads import Task
from mmgraph.nn.pool import EvidencePool
from mmgraph.nn.scaling import Hinges, Standardiser

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

ExpertKind: TypeAlias = Literal["linear", "spline", "forest", "joint"]

RIDGES = (3.0, 30.0)
NUM_QUANTILES = (5, 2)  # knots a feature, of narrow and of wide modalities
NARROW_WIDTH, MAX_SPLINE_WIDTH = 64, 256
NUM_TREES = 100  # of each forest
MIN_LEAVES = (5, 2)  # rows of the smallest leaf, a forest each
MAX_BAG = 20_000
MIN_SHARED = 1000  # samples from which threads grow a forest faster than one alone
MIN_SAMPLES = 8
POOL_MASKS = 4
POOL_PENALTY = 1.0  # on the scale of the summed loss
MAX_PATTERNS, MIN_PATTERN_COUNT = 64, 5


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

    def together(self, present: Tensor, rows: Tensor | None = None) -> Tensor | None:
        """Return ``[n, Y, K]`` out-of-fold scores of all modalities together.

        Args:
            present: ``[n, M]`` Bool; the scores know nothing else.
            rows: ``[n]`` numbers of samples; default: all.
        """
        features, folds = self.features, self.folds
        if rows is not None:
            features, folds = [x[rows] for x in features], folds[rows]
        return ask_together(self.joint, features, present, self.prior, folds)

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
    present = torch.stack([~x.isnan().all(1) for x in features.values()], dim=1)
    scores, experts = [], nn.ModuleList()
    for m, x in enumerate(features.values()):
        rows = torch.nonzero(present[:, m])[:, 0]
        by_kind = [
            _FITTERS[kind](x[rows], y[rows], task, folds[rows], grouped, seed)
            for kind in kinds
            if kind != "joint"
        ]
        fitted = [pair for pairs in by_kind for pair in pairs]
        said = torch.stack([score for score, _ in fitted], dim=1) - prior
        table = said.new_zeros(len(y), *said.shape[1:])
        scores.append(table.index_copy(0, rows, torch.where(said.isnan(), 0, said)))
        experts.append(nn.ModuleList(expert for _, expert in fitted))
    parts = list(features.values())
    joint = nn.ModuleList()
    if "joint" in kinds and len(parts) > 1 and bool(present.any()):
        joint.append(fit_joint(parts, present, y, task, folds, seed=seed))
        boosted = fit_boosted(parts, present, y, task, folds, seed=seed)
        joint.extend([] if boosted is None else [boosted])
    said = torch.stack(scores, dim=1)
    return Evidence(said, present, experts, prior, parts, folds, joint)


_Fitted: TypeAlias = list[tuple[Tensor, nn.Module]]


def _fit_linear_experts(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, grouped: bool, seed: int
) -> _Fitted:
    """Return out-of-fold scores ``[n, K]`` and the expert, one for each ridge."""
    return _fit_ridges(x, y, task, folds, Hinges())


def _fit_spline_experts(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, grouped: bool, seed: int
) -> _Fitted:
    """As the linear experts, additive in piecewise-linear functions of the features."""
    narrow, wide = NUM_QUANTILES
    hinges = Hinges()
    if x.shape[1] <= MAX_SPLINE_WIDTH:
        count = narrow if x.shape[1] <= NARROW_WIDTH else wide
        hinges = Hinges.at_quantiles(x, count)
    return _fit_ridges(x, y, task, folds, hinges)


def _fit_ridges(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, hinges: Hinges
) -> _Fitted:
    link, width, num_knots = link_of(task), x.shape[1], len(hinges.knot)
    experts = [
        LinearExpert(width, task.out_channels, link, num_knots=num_knots)
        for _ in RIDGES
    ]
    if not len(x):
        return [(x.new_zeros(0, task.out_channels), expert) for expert in experts]
    scaler = experts[0].scaler
    scaler.fit(hinges(x))
    z = scaler(hinges(x))
    # flags of hinges repeat those of their features
    used = torch.nonzero((z.amax(0) > z.amin(0))[: 2 * width + num_knots])[:, 0]
    names = torch.unique(folds)
    weight = torch.stack([(folds != j).float() for j in names] + [torch.ones(len(x))])
    target, known = targets_of(y, task)
    fits = fit_linear(
        z[:, used],
        target,
        (weight * known).repeat(len(RIDGES), 1),
        torch.tensor(RIDGES).repeat_interleave(len(weight)),
        link,
    ).unflatten(0, (len(RIDGES), len(weight)))
    which = torch.searchsorted(names, folds)
    starved = (weight[:-1].sum(1) == 0)[which]
    fitted: _Fitted = []
    for expert, w in zip(experts, fits, strict=True):
        expert.hinges.load_state_dict(hinges.state_dict())
        expert.scaler.load_state_dict(scaler.state_dict())
        columns = torch.cat([used, torch.tensor([z.shape[1]])])
        expert.weight.index_copy_(0, columns, w[-1])
        logits = torch.einsum("nf,jfk->jnk", z[:, used], w[:-1, :-1]) + w[:-1, -1:]
        own = to_score(logits[which, torch.arange(len(x))], link)
        fitted.append((torch.where(starved[:, None], torch.nan, own), expert))
    return fitted


def _fit_forests(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, grouped: bool, seed: int
) -> _Fitted:
    """Return out-of-bag (grouped: out-of-fold) scores and the forest, by leaf."""
    return [
        _fit_forest(x, y, task, folds, grouped, seed + number, leaf)
        for number, leaf in enumerate(MIN_LEAVES)
    ]


def _fit_forest(
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    grouped: bool,
    seed: int,
    leaf: int,
) -> tuple[Tensor, nn.Module]:
    link, (target, known) = link_of(task), targets_of(y, task)
    scaler = Standardiser(x.shape[1])
    scaler.fit(x)
    said = x.new_full((len(x), task.out_channels), torch.nan)
    learnt = known > 0
    if int(learnt.sum()) < MIN_SAMPLES:
        return said, TreeExpert(x.shape[1], task.out_channels, link)
    z = scaler(x)
    grow = partial(_grow, link=link, seed=seed, leaf=leaf)
    forest = grow(z[learnt], target[learnt], out_of_bag=not grouped)
    expert = TreeExpert.from_forest(forest, scaler, link)
    if grouped:
        for j in torch.unique(folds):
            kept = learnt & (folds != j)
            if int(kept.sum()) >= MIN_SAMPLES:
                part = grow(z[kept], target[kept], out_of_bag=False)
                here = folds == j
                said[here] = TreeExpert.from_forest(part, scaler, link)(x[here])
    else:
        said = expert(x)  # right for rows without a label; the others are out of bag
        mean = torch.from_numpy(forest.oob_prediction_).float()
        said[learnt] = score_of_mean(mean.reshape(-1, task.out_channels), link)
    return said, expert


def _grow(
    z: Tensor, target: Tensor, *, link: str, seed: int, leaf: int, out_of_bag: bool
) -> "RandomForestRegressor":
    """Fit a forest of regression trees; on one-hot targets their criterion is Gini's.

    References:
        Random Forests, Breiman, 2001.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        NUM_TREES,
        max_samples=min(MAX_BAG, len(z)),
        min_samples_leaf=leaf,
        max_features=1 / 3 if link == "identity" else "sqrt",
        oob_score=out_of_bag,
        n_jobs=torch.get_num_threads() if len(z) >= MIN_SHARED else 1,
        random_state=seed,
    )
    with warnings.catch_warnings():  # a row may be in every bag of a tiny set
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB")
        return forest.fit(z.numpy(), target.squeeze(1).numpy())


_FITTERS = {
    "linear": _fit_linear_experts,
    "spline": _fit_spline_experts,
    "forest": _fit_forests,
}


def fit_pool(
    evidence: Evidence, y: Tensor, task: Task, *, seed: int = 0
) -> EvidencePool:
    """Fit how much each expert is trusted, on out-of-fold evidence.

    The fit sees the true pattern of missing modalities and four random thinnings of
    it, so that the pool is calibrated for fewer modalities too.
    """
    _, num_modalities, num_experts, width = evidence.out_of_fold.shape
    patterns = frequent_patterns(evidence.present)
    pool = EvidencePool(
        num_modalities,
        num_experts,
        width,
        num_joint=len(evidence.joint),
        num_patterns=len(patterns),
    )
    pool.prior.copy_(evidence.prior)
    pool.patterns.copy_(patterns)
    generator = torch.Generator().manual_seed(seed)
    masks = [evidence.present] + [
        modality_dropout(evidence.present, 0.5, generator) for _ in range(POOL_MASKS)
    ]
    asked = [(mask, evidence.together(mask)) for mask in masks]
    optimiser = torch.optim.LBFGS(
        pool.parameters(), max_iter=100, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        losses = [
            task.loss(pool(evidence.out_of_fold, mask, joint), y)
            for mask, joint in asked
        ]
        loss = torch.stack(losses).mean() + POOL_PENALTY * pool.penalty() / len(y)
        loss.backward()
        return loss

    optimiser.step(closure)
    return pool.requires_grad_(False)


def frequent_patterns(present: Tensor) -> Tensor:
    """Return the combinations of modalities that are common, ``[P, M]`` Bool.

    These are the 64 most frequent that at least five samples have; none where all
    samples have the same one, which then tells nothing.
    """
    found, count = torch.unique(present, dim=0, return_counts=True)
    if len(found) == 1:
        return found[:0]
    order = torch.argsort(count, descending=True, stable=True)[:MAX_PATTERNS]
    return found[order[count[order] >= MIN_PATTERN_COUNT]]
