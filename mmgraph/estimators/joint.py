"""Fitting the forest over all modalities, out of fold and under modality dropout.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``K`` outputs, ``J`` folds.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.estimators.targets import link_of, targets_of
from mmgraph.missing import modality_dropout
from mmgraph.nn.experts import JointForest
from mmgraph.nn.heads import Task
from mmgraph.nn.trees import Forest

if TYPE_CHECKING:
    from sklearn.tree import ExtraTreeRegressor

NUM_TREES = 200
MIN_LEAF = 5
SHARE_TRIED, MIN_TRIED = 0.2, 6  # features a split may choose from
DROPOUT = 0.35
MAX_BAG = 20_000


def fit_joint(
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    seed: int = 0,
) -> JointForest:
    """Grow random trees over all modalities, each without one fold.

    A tree learns from a bootstrap of the samples outside its fold, each with a
    modality dropout of its own, so that the forest says something about interaction
    whatever is missing; trees that leave a fold out speak about it in training.

    References:
        Extremely Randomized Trees, Geurts, Ernst, Wehenkel, 2006.

    Args:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        present: ``[N, M]`` Bool.
        y: Targets of the task.
        task: What is predicted.
        folds: ``[N]`` fold of each sample, from 0.
        seed: Of bags, dropout and trees.
    """
    num_folds = int(folds.max()) + 1
    widths = [x.shape[1] for x in features]
    link = link_of(task)
    forest = JointForest(widths, task.out_channels, link, num_folds=num_folds)
    forest.fit_scaling(features, present)
    ground = _Ground.of(forest, features, present, targets_of(y, task), folds)
    turns = max(1, NUM_TREES // num_folds)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        numbers = range(turns * num_folds)
        trees = threads.map(lambda t: ground.grow(t, t % num_folds, seed + t), numbers)
        forest.forest = Forest.from_trees([tree.tree_ for tree in trees])
    return forest


@dataclass(frozen=True)
class _Ground:
    """What trees grow on.

    Attributes:
        z: ``[N, 2 F]`` inputs of the samples.
        nothing: ``[1, 2 F]`` inputs of a sample without any modality.
        modality: ``[2 F]`` number of the modality of each input.
        present: ``[N, M]`` Bool.
        target: ``[N, K]``.
        usable: ``[N]`` Bool: has a label and a modality.
        folds: ``[N]``.
    """

    z: npt.NDArray[np.float32]
    nothing: npt.NDArray[np.float32]
    modality: npt.NDArray[np.int64]
    present: Tensor
    target: Tensor
    usable: Tensor
    folds: Tensor

    @classmethod
    def of(
        cls,
        forest: JointForest,
        features: Sequence[Tensor],
        present: Tensor,
        targets: tuple[Tensor, Tensor],
        folds: Tensor,
    ) -> "_Ground":
        """Prepare samples for a forest whose scaling is fitted."""
        target, known = targets
        first = [x[:1] for x in features]
        nothing = forest.inputs(first, torch.zeros_like(present[:1]))
        return cls(
            forest.inputs(features, present).numpy(),
            nothing.numpy(),
            forest.modality_of_inputs().numpy(),
            present,
            target,
            present.any(1) & (known > 0),
            folds,
        )

    def grow(self, number: int, fold: int, seed: int) -> "ExtraTreeRegressor":
        """Grow one tree on a bag outside a fold (inside, where nothing is outside)."""
        from sklearn.tree import ExtraTreeRegressor

        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        outside = self.usable & (self.folds != fold)
        rows = torch.nonzero(outside if bool(outside.any()) else self.usable)[:, 0]
        draws = (min(len(rows), MAX_BAG),)
        bag = rows[torch.randint(len(rows), draws, generator=generator)]
        kept = modality_dropout(self.present[bag], DROPOUT, generator).numpy()
        seen = np.where(kept[:, self.modality], self.z[bag.numpy()], self.nothing)
        width = self.z.shape[1]
        tree = ExtraTreeRegressor(
            min_samples_leaf=MIN_LEAF,
            max_features=min(width, max(MIN_TRIED, round(SHARE_TRIED * width))),
            random_state=seed % 2**32,
        )
        return tree.fit(seen, self.target[bag].squeeze(1).numpy())
