"""Random forests of one modality.

Letters: ``n`` rows, ``F`` features, ``K`` outputs.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmgraph.experts.links import (
    FittedExperts,
    Link,
    link_of,
    score_of_mean,
    targets_of,
)
from mmgraph.experts.trees import Forest
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import StandardScaler

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.tree import DecisionTreeRegressor

NUM_TREES = 200
MIN_LEAF, MIN_HAZARD_LEAF = 5, 15
MAX_BOOTSTRAP = 20_000
MIN_SHARED = 1000  # samples from which several threads are faster than one
MIN_SAMPLES = 8


class TreeExpert(nn.Module):
    """Random forest on the features of one modality.

    Missing cells are imputed with the training mean, plus an indicator.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: Link function of the task.
        num_nodes: Number of nodes of all trees.
        num_trees: Number of trees.
    """

    def __init__(
        self,
        in_features: int,
        out_channels: int,
        link: Link,
        *,
        num_nodes: int = 1,
        num_trees: int = 1,
    ) -> None:
        super().__init__()
        self.link = link
        self.scaler = StandardScaler(in_features)
        width = self.scaler.out_channels
        self.forest = Forest(
            width, out_channels, num_nodes=num_nodes, num_trees=num_trees
        )

    @classmethod
    def from_forest(
        cls,
        forest: "RandomForestRegressor | HazardForest",
        scaler: StandardScaler,
        link: Link,
    ) -> "TreeExpert":
        """Copy a fitted forest of regression trees on standardized features.

        Args:
            forest: Forest that was fitted on ``scaler(x)``, with one target per output.
            scaler: Standardization of the features.
            link: Link function of the task.
        """
        trees = Forest.from_trees([each.tree_ for each in forest.estimators_])
        expert = cls(scaler.channels, trees.value.shape[1], link)
        expert.forest = trees
        expert.scaler.load_state_dict(scaler.state_dict())
        return expert

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[n, F]``, NaN if missing, to scores ``[n, K]``."""
        return score_of_mean(self.forest(self.scaler(x)), self.link)


def fit_forest(
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    grouped: bool,
    seed: int,
    weight: Tensor | None = None,
) -> FittedExperts:
    """Fit a forest; return out-of-bag scores and the forest.

    The scores are out of fold if samples are grouped, or weighted: a heavy sample can
    be in every bootstrap. With too few labeled samples, all scores are NaN and the
    forest has no trees.
    """
    link, (target, known) = link_of(task), targets_of(y, task, weight)
    by_fold = grouped or weight is not None
    scaler = StandardScaler(x.shape[1])
    scaler.fit(x)
    scores = x.new_full((len(x), task.out_channels), torch.nan)
    labeled = known > 0
    if int(labeled.sum()) < MIN_SAMPLES:
        return [(scores, TreeExpert(x.shape[1], task.out_channels, link))]
    z = scaler(x)

    def fit(
        rows: Tensor, *, out_of_bag: bool
    ) -> "RandomForestRegressor | HazardForest":
        weights = None if weight is None and link != "log" else known[rows]
        options: dict[str, Any] = {"link": link, "seed": seed, "out_of_bag": out_of_bag}
        return _fit_trees(z[rows], target[rows], weights, **options)

    forest = fit(labeled, out_of_bag=not by_fold)
    expert = TreeExpert.from_forest(forest, scaler, link)
    if by_fold:
        for j in torch.unique(folds):
            kept = labeled & (folds != j)
            if int(kept.sum()) >= MIN_SAMPLES:
                part = fit(kept, out_of_bag=False)
                fold = folds == j
                scores[fold] = TreeExpert.from_forest(part, scaler, link)(x[fold])
    else:
        scores = expert(x)  # of rows without a label; the others are out of bag
        mean = torch.from_numpy(forest.oob_prediction_).float()
        scores[labeled] = score_of_mean(mean.reshape(-1, task.out_channels), link)
    return [(scores, expert)]


def _fit_trees(
    z: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    link: str,
    seed: int,
    out_of_bag: bool,
) -> "RandomForestRegressor | HazardForest":
    """Fit a forest of regression trees; with one-hot targets, splits minimize Gini.

    References:
        Random Forests, Breiman, 2001.
    """
    from sklearn.ensemble import RandomForestRegressor

    if link == "log":
        assert weight is not None
        return HazardForest.fit(z, target, weight, seed=seed)
    forest = RandomForestRegressor(
        NUM_TREES,
        max_samples=min(MAX_BOOTSTRAP, len(z)),
        min_samples_leaf=MIN_LEAF,
        max_features=1 / 3 if link == "identity" else "sqrt",
        oob_score=out_of_bag,
        n_jobs=torch.get_num_threads() if len(z) >= MIN_SHARED else 1,
        random_state=seed,
    )
    with warnings.catch_warnings():  # tiny data: a row can be in every bootstrap
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB")
        weights = None if weight is None else weight.numpy()
        return forest.fit(z.numpy(), target.squeeze(1).numpy(), weights)


@dataclass(frozen=True)
class HazardForest:
    """Random forest of relative hazards, with the attributes of scikit-learn's forests.

    The hazard of a leaf is its number of events per exposure, and splits minimize the
    deviance. Unlike in scikit-learn's forests, samples are drawn with equal
    probability: exposures are the denominator of the hazards, and a short exposure
    makes no event less likely to be drawn.

    References:
        Relative Risk Trees for Censored Survival Data, LeBlanc, Crowley, 1992.

    Attributes:
        estimators_: Trees.
        oob_prediction_: ``[n]`` mean hazard over the trees without a sample; NaN
            without such trees.
    """

    estimators_: "list[DecisionTreeRegressor]"
    oob_prediction_: npt.NDArray[np.float64]

    @classmethod
    def fit(
        cls, z: Tensor, target: Tensor, exposure: Tensor, *, seed: int
    ) -> "HazardForest":
        """Fit trees to bootstraps of the samples.

        Args:
            z: ``[n, F]`` features.
            target: ``[n, 1]`` events per exposure.
            exposure: ``[n]`` exposures above 0.
            seed: Seed of bootstraps and trees.
        """
        from sklearn.tree import DecisionTreeRegressor

        x, y, weight = z.numpy(), target[:, 0].numpy(), exposure.numpy()
        rng = np.random.default_rng(seed)
        size = min(MAX_BOOTSTRAP, len(x))
        trees, total, count = [], np.zeros(len(x)), np.zeros(len(x))
        for _ in range(NUM_TREES):
            drawn = np.bincount(rng.integers(len(x), size=size), minlength=len(x))
            rows = np.flatnonzero(drawn)
            tree = DecisionTreeRegressor(
                criterion="poisson" if y[rows].any() else "squared_error",
                min_samples_leaf=min(MIN_HAZARD_LEAF, max(len(rows) // 4, 1)),
                max_features="sqrt",
                random_state=int(rng.integers(2**31)),
            )
            trees.append(tree.fit(x[rows], y[rows], (drawn * weight)[rows]))
            outside = drawn == 0
            if outside.any():
                total[outside] += tree.predict(x[outside])
                count[outside] += 1
        missing = count == 0
        return cls(trees, np.where(missing, np.nan, total / np.maximum(count, 1)))
