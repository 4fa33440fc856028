"""Fitting the experts of one modality, each with what it says out of fold.

Letters: ``n`` samples that have the modality, ``F`` features, ``K`` outputs.
"""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.estimators.targets import link_of, targets_of
from mmgraph.nn.experts import (
    LinearExpert,
    TreeExpert,
    fit_linear,
    score_of_mean,
    to_score,
)
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import Hinges, Standardiser

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

RIDGES = (3.0, 30.0)
NUM_QUANTILES = (5, 2)  # knots a feature, of narrow and of wide modalities
NARROW_WIDTH, MAX_SPLINE_WIDTH = 64, 256
NUM_TREES = 200
MIN_LEAF = 5
MAX_BAG = 20_000
MIN_SHARED = 1000  # samples from which threads grow a forest faster than one alone
MIN_SAMPLES = 8

ExpertKind: TypeAlias = Literal["linear", "spline", "forest", "joint"]
_Fitted: TypeAlias = list[tuple[Tensor, nn.Module]]


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
            hinges = Hinges() if same == "linear" else _knots(x)
            fitted[kind] = _fit_ridges(x, y, task, folds, hinges)
    return [pair for kind in fitted.values() for pair in kind]


def _knots(x: Tensor) -> Hinges:
    """Return where the piecewise-linear functions of features ``[n, F]`` bend."""
    narrow, wide = NUM_QUANTILES
    return Hinges.at_quantiles(x, narrow if x.shape[1] <= NARROW_WIDTH else wide)


def _fit_ridges(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, hinges: Hinges
) -> _Fitted:
    """Return out-of-fold scores ``[n, K]`` and the expert, one for each ridge.

    Experts are additive in the features and in their piecewise-linear functions.
    """
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


def _fit_forest(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, grouped: bool, seed: int
) -> _Fitted:
    """Return out-of-bag (grouped: out-of-fold) scores and the forest as tensors."""
    link, (target, known) = link_of(task), targets_of(y, task)
    scaler = Standardiser(x.shape[1])
    scaler.fit(x)
    said = x.new_full((len(x), task.out_channels), torch.nan)
    learnt = known > 0
    if int(learnt.sum()) < MIN_SAMPLES:
        return [(said, TreeExpert(x.shape[1], task.out_channels, link))]
    z = scaler(x)
    grow = partial(_grow, link=link, seed=seed)
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
    return [(said, expert)]


def _grow(
    z: Tensor, target: Tensor, *, link: str, seed: int, out_of_bag: bool
) -> "RandomForestRegressor":
    """Fit a forest of regression trees; on one-hot targets their criterion is Gini's.

    References:
        Random Forests, Breiman, 2001.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        NUM_TREES,
        max_samples=min(MAX_BAG, len(z)),
        min_samples_leaf=MIN_LEAF,
        max_features=1 / 3 if link == "identity" else "sqrt",
        oob_score=out_of_bag,
        n_jobs=torch.get_num_threads() if len(z) >= MIN_SHARED else 1,
        random_state=seed,
    )
    with warnings.catch_warnings():  # a row may be in every bag of a tiny set
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB")
        return forest.fit(z.numpy(), target.squeeze(1).numpy())
