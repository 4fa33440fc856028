"""Random forests of one modality."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmgraph.experts.trees import Forest
from mmgraph.nn.scaling import StandardScaler

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor
import warnings
from functools import partial
from typing import TYPE_CHECKING

from mmgraph.experts.links import Link, link_of, score_of_mean, targets_of
from mmgraph.nn.heads import Task

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor
from mmgraph.experts.links import _Fitted


class TreeExpert(nn.Module):
    """A forest of one modality's features.

    Missing cells are read as the training mean plus a flag.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: What outputs are compared in.
        num_nodes: Nodes of all trees together.
        num_trees: Trees.
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
        cls, forest: "RandomForestRegressor", scaler: StandardScaler, link: Link
    ) -> "TreeExpert":
        """Copy a fitted forest of regression trees on standardised features.

        Args:
            forest: Fitted on ``scaler(x)`` and one target column for each output.
            scaler: What it was fitted through.
            link: What outputs are compared in.
        """
        trees = Forest.from_trees([each.tree_ for each in forest.estimators_])
        expert = cls(scaler.channels, trees.value.shape[1], link)
        expert.forest = trees
        expert.scaler.load_state_dict(scaler.state_dict())
        return expert

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to scores ``[N, K]``."""
        return score_of_mean(self.forest(self.scaler(x)), self.link)


NUM_TREES = 200

MIN_LEAF = 5

MAX_BAG = 20_000

MIN_SHARED = 1000  # samples from which threads grow a forest faster than one alone

MIN_SAMPLES = 8


def _fit_forest(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, grouped: bool, seed: int
) -> _Fitted:
    """Return out-of-bag (grouped: out-of-fold) scores and the forest as tensors."""
    link, (target, known) = link_of(task), targets_of(y, task)
    scaler = StandardScaler(x.shape[1])
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
