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

from mmgraph.experts.boosting import MAX_INPUTS, boosted_trees
from mmgraph.experts.links import link_of, targets_of
from mmgraph.experts.trees import Forest
from mmgraph.missing import modality_dropout
from mmgraph.nn.heads import Task

if TYPE_CHECKING:
    from sklearn.tree import ExtraTreeRegressor

from typing import TYPE_CHECKING

from torch import nn

from mmgraph.nn.scaling import StandardScaler

if TYPE_CHECKING:
    pass
from mmgraph.experts.links import Link, score_of_mean, to_score

NUM_TREES = 200
MIN_LEAF = 5
SHARE_TRIED, MIN_TRIED, MAX_TRIED = 0.2, 6, 750  # features a split may choose from
DROPOUT = 0.35
MAX_BAG = 20_000
COPIES = 3
MAX_COST = 20_000_000


class JointForest(nn.Module):
    """A forest over all modalities at once, each tree grown without one fold.

    Every tree has seen samples under a modality dropout of its own, so that the forest
    predicts from any subset. Cells of a missing modality, like missing cells, are read
    as the training mean plus a flag.

    Args:
        widths: ``F_m`` of each modality.
        out_channels: ``K``.
        link: What outputs are compared in.
        num_nodes: Nodes of all trees together.
        num_trees: Trees, ``J`` for each turn; tree t has not seen fold ``t mod J``.
        num_folds: ``J``.
        boosted: Trees add up to scores, in place of each being a prediction.
    """

    def __init__(
        self,
        widths: Sequence[int],
        out_channels: int,
        link: Link,
        *,
        boosted: bool = False,
        num_nodes: int = 1,
        num_trees: int = 1,
        num_folds: int = 1,
    ) -> None:
        super().__init__()
        self.widths, self.link, self.num_folds = tuple(widths), link, num_folds
        self.boosted = boosted
        self.scalers = nn.ModuleList(StandardScaler(width) for width in widths)
        width = 2 * sum(widths)
        self.forest = Forest(
            width, out_channels, num_nodes=num_nodes, num_trees=num_trees
        )

    def fit_scaling(self, features: Sequence[Tensor], present: Tensor) -> None:
        """Fit the standardisation of each modality to the rows that have it."""
        for scaler, x, seen in zip(self.scalers, features, present.T, strict=True):
            assert isinstance(scaler, StandardScaler)
            scaler.fit(x[seen])

    def modality_of_inputs(self) -> Tensor:
        """Return the number of the modality of each input, ``[2 F]``."""
        widths = 2 * torch.tensor(self.widths)
        return torch.arange(len(widths)).repeat_interleave(widths)

    def inputs(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Return what trees read, ``[N, 2 F]``.

        Args:
            features: ``[N, F_m]`` for each modality.
            present: ``[N, M]`` Bool; features of what is not present are not read.
        """
        parts = [
            scaler(torch.where(seen[:, None], x, torch.nan))
            for scaler, x, seen in zip(
                self.scalers, features, present.unbind(1), strict=True
            )
        ]
        return torch.cat(parts, dim=1)

    def forward(
        self, features: Sequence[Tensor], present: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Map features to scores ``[N, K]``; see :meth:`inputs`.

        Args:
            features: ``[N, F_m]`` for each modality.
            present: ``[N, M]`` Bool.
            fold: ``[N]`` Ask only the trees that have not seen this fold of the
                training samples; default: all.
        """
        root = None
        if fold is not None:
            root = self.forest.root.unflatten(0, (-1, self.num_folds)).T[fold]
        mean = self.forest(self.inputs(features, present), root)
        return (to_score if self.boosted else score_of_mean)(mean, self.link)


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
    forest, ground = _prepare(features, present, y, task, folds)
    turns = max(1, NUM_TREES // forest.num_folds)
    numbers = range(turns * forest.num_folds)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        grown = threads.map(
            lambda t: ground.fit_tree(t, t % forest.num_folds, seed), numbers
        )
        forest.forest = Forest.from_trees([tree.tree_ for tree in grown])
    return forest


def _prepare(
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    **options: bool,
) -> tuple[JointForest, "_TreeTrainingData"]:
    """Return a forest without trees, its scaling fitted, and what they fit_tree on."""
    widths = [x.shape[1] for x in features]
    forest = JointForest(
        widths,
        task.out_channels,
        link_of(task),
        num_folds=int(folds.max()) + 1,
        **options,
    )
    forest.fit_scaling(features, present)
    targets = targets_of(y, task)
    return forest, _TreeTrainingData.of(forest, features, present, targets, folds)


def fit_boosted(
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    seed: int = 0,
) -> JointForest | None:
    """Boost trees over all modalities, once without each fold.

    Each fit sees three copies of a sample, under a modality dropout of its own each.
    The answer to a new sample is the mean over the fits.

    References:
        Greedy Function Approximation: A Gradient Boosting Machine, Friedman, 2001.

    Args:
        features: As in :func:`fit_joint`, like the others.
        present: ``[N, M]`` Bool.
        y: Targets of the task.
        task: What is predicted.
        folds: ``[N]`` fold of each sample, from 0.
        seed: Of dropout and trees.

    Returns:
        The fits as one forest; None where they would take too long (more than 20
        million of samples x inputs x outputs x copies, where no more than 1500 inputs
        count), or a fold leaves fewer than two classes, or others than the rest.
    """
    forest, ground = _prepare(features, present, y, task, folds, boosted=True)
    rows, inputs = min(len(y), MAX_BAG), min(ground.z.shape[1], MAX_INPUTS)
    cost = COPIES * rows * inputs * task.out_channels
    if cost > MAX_COST:
        return None
    fits = []
    for fold in range(forest.num_folds):
        bootstrap = ground.bootstrap(fold, COPIES, seed + fold)
        trees = boosted_trees(*bootstrap, task, seed)
        if trees is None:
            return None
        fits.append(trees)
    if len({len(trees) for trees in fits}) > 1:
        return None
    turns = zip(*fits, strict=True)
    forest.forest = Forest.from_trees([tree for turn in turns for tree in turn])
    return forest


@dataclass(frozen=True)
class _TreeTrainingData:
    """What trees fit_tree on.

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
    ) -> "_TreeTrainingData":
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

    def bootstrap(
        self, fold: int, copies: int, seed: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Draw inputs and targets outside a fold (inside, where nothing is outside).

        Args:
            fold: What is left out.
            copies: 0: a bootstrap; else so many copies of each sample.
            seed: Of the draw, and of the modality dropout of each row.
        """
        generator = torch.Generator().manual_seed(seed)
        outside = self.usable & (self.folds != fold)
        rows = torch.nonzero(outside if bool(outside.any()) else self.usable)[:, 0]
        size = min(len(rows), MAX_BAG)
        if copies:
            drawn = torch.randperm(len(rows), generator=generator)[:size].repeat(copies)
        else:
            drawn = torch.randint(len(rows), (size,), generator=generator)
        rows = rows[drawn]
        kept = modality_dropout(self.present[rows], DROPOUT, generator).numpy()
        seen = np.where(kept[:, self.modality], self.z[rows.numpy()], self.nothing)
        return seen, self.target[rows].numpy()

    def fit_tree(self, number: int, fold: int, seed: int) -> "ExtraTreeRegressor":
        """Grow one tree on a bootstrap outside a fold."""
        from sklearn.tree import ExtraTreeRegressor

        own = (seed * 1_000_003 + number) % 2**32
        seen, target = self.bootstrap(fold, 0, own)
        width = seen.shape[1]
        share = min(max(round(SHARE_TRIED * width), MIN_TRIED), MAX_TRIED)
        tree = ExtraTreeRegressor(
            min_samples_leaf=MIN_LEAF,
            max_features=min(width, share),
            random_state=own,
        )
        return tree.fit(seen, target.squeeze(1) if target.shape[1] == 1 else target)
