"""Random and boosted trees on all modalities, out of fold, under modality dropout.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``K`` outputs, ``J`` folds.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmgraph.experts.boosting import MAX_INPUTS, boosted_trees
from mmgraph.experts.links import Link, link_of, score_of_mean, targets_of, to_score
from mmgraph.experts.trees import Forest
from mmgraph.missing import modality_dropout
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import StandardScaler

if TYPE_CHECKING:
    from sklearn.tree import ExtraTreeRegressor

Float32Array: TypeAlias = npt.NDArray[np.float32]

NUM_TREES = 200
MIN_LEAF, MIN_HAZARD_LEAF = 5, 15
SPLIT_SHARE, MIN_SPLIT, MAX_SPLIT = 0.2, 6, 750  # candidate features of a split
DROPOUT = 0.35
MAX_BOOTSTRAP = 20_000
COPIES = 3
MAX_COST = 20_000_000


class JointForest(nn.Module):
    """Forest on all modalities, in which each tree is fitted without one fold.

    Trees are fitted under modality dropout, so that the forest predicts from any subset
    of modalities. Missing cells, and all cells of a missing modality, are imputed with
    the training mean, plus an indicator.

    Args:
        widths: ``F_m`` of each modality.
        out_channels: ``K``.
        link: Link function of the task.
        boosted: Trees sum up to scores; otherwise, each tree predicts the target.
        num_nodes: Number of nodes of all trees.
        num_trees: Number of trees, a multiple of ``J``; tree t is fitted without fold
            ``t mod J``.
        num_folds: ``J``.
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
        """Fit the standardization of each modality to the rows that have it."""
        for scaler, x, seen in zip(self.scalers, features, present.T, strict=True):
            assert isinstance(scaler, StandardScaler)
            scaler.fit(x[seen])

    def modality_of_inputs(self) -> Tensor:
        """Return the index of the modality of each input, ``[2 F]``."""
        widths = 2 * torch.tensor(self.widths)
        return torch.arange(len(widths)).repeat_interleave(widths)

    def inputs(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Return standardized values and missing indicators, ``[N, 2 F]``.

        Args:
            features: ``[N, F_m]`` for each modality; further tables are not read.
            present: ``[N, M]`` Bool; features of missing modalities are not read.
        """
        parts = [
            scaler(torch.where(seen[:, None], x, torch.nan))
            for scaler, x, seen in zip(
                self.scalers,
                features[: len(self.widths)],
                present.unbind(1),
                strict=True,
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
            fold: ``[N]`` folds of training samples; only trees that were fitted without
                the fold of a sample are averaged. Default: all trees.
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
    weight: Tensor | None = None,
) -> JointForest:
    """Fit extremely randomized trees to all modalities, each without one fold.

    A tree is fitted to a bootstrap of the samples outside its fold, under modality
    dropout, so that the forest models interaction of whatever modalities are present.
    Out-of-fold predictions average the trees that were fitted without the fold.

    Args:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        present: ``[N, M]`` Bool.
        y: Targets of the task.
        task: Prediction task.
        folds: ``[N]`` fold of each sample, from 0.
        seed: Seed of bootstraps, dropout and trees.
        weight: ``[N]`` sample weights; None weights all samples equally.

    References:
        Extremely Randomized Trees, Geurts, Ernst, Wehenkel, 2006.
    """
    forest, training = _prepare(features, present, y, task, folds, weight)
    rounds = max(1, NUM_TREES // forest.num_folds)
    numbers = range(rounds * forest.num_folds)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        trees = threads.map(
            lambda t: training.fit_tree(t, t % forest.num_folds, seed), numbers
        )
        forest.forest = Forest.from_trees([tree.tree_ for tree in trees])
    return forest


def _prepare(
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    weight: Tensor | None,
    **options: bool,
) -> tuple[JointForest, "_TreeTrainingData"]:
    """Return a forest without trees, its scaling fitted, and its training data."""
    widths = [x.shape[1] for x in features]
    forest = JointForest(
        widths,
        task.out_channels,
        link_of(task),
        num_folds=int(folds.max()) + 1,
        **options,
    )
    forest.fit_scaling(features, present)
    targets = targets_of(y, task, weight)
    data = _TreeTrainingData.of(forest, features, present, targets, folds)
    weighted = weight is not None or forest.link == "log"  # weights are exposures
    return forest, data if weighted else replace(data, weight=None)


def fit_boosted(
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    *,
    seed: int = 0,
    weight: Tensor | None = None,
) -> JointForest | None:
    """Fit boosted trees to all modalities, once without each fold.

    Each model is fitted to three copies of a sample, each under independent modality
    dropout. The prediction for a new sample is the mean over the models.

    Args:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        present: ``[N, M]`` Bool.
        y: Targets of the task.
        task: Prediction task.
        folds: ``[N]`` fold of each sample, from 0.
        seed: Seed of dropout and trees.
        weight: ``[N]`` sample weights; None weights all samples equally.

    Returns:
        All models as one forest. None if the fit would take too long (samples x inputs
        x outputs x copies above 20 million, with at most 1500 inputs), or if the
        classes outside a fold are fewer than two or differ between folds.

    References:
        Greedy Function Approximation: A Gradient Boosting Machine, Friedman, 2001.
    """
    given = features, present, y, task, folds, weight
    forest, training = _prepare(*given, boosted=True)
    rows, inputs = min(len(y), MAX_BOOTSTRAP), min(training.z.shape[1], MAX_INPUTS)
    cost = COPIES * rows * inputs * task.out_channels
    if cost > MAX_COST:
        return None
    fits = []
    for fold in range(forest.num_folds):
        x, target, weights = training.bootstrap(fold, COPIES, seed + fold)
        trees = boosted_trees(x, target, task, seed, weights)
        if trees is None:
            return None
        fits.append(trees)
    if len({len(trees) for trees in fits}) > 1:
        return None
    rounds = zip(*fits, strict=True)
    forest.forest = Forest.from_trees([tree for each in rounds for tree in each])
    return forest


@dataclass(frozen=True)
class _TreeTrainingData:
    """Training data of the trees.

    Attributes:
        z: ``[N, 2 F]`` inputs of the samples.
        nothing: ``[1, 2 F]`` inputs of a sample without any modality.
        modality: ``[2 F]`` index of the modality of each input.
        present: ``[N, M]`` Bool.
        target: ``[N, K]`` targets.
        usable: ``[N]`` Bool, True if a sample has a label and a modality.
        folds: ``[N]`` fold of each sample.
        weight: ``[N]`` sample weights; None weights all samples equally.
        link: Link function of the task.
    """

    z: npt.NDArray[np.float32]
    nothing: npt.NDArray[np.float32]
    modality: npt.NDArray[np.int64]
    present: Tensor
    target: Tensor
    usable: Tensor
    folds: Tensor
    weight: Tensor | None
    link: Link

    @classmethod
    def of(
        cls,
        forest: JointForest,
        features: Sequence[Tensor],
        present: Tensor,
        targets: tuple[Tensor, Tensor],
        folds: Tensor,
    ) -> "_TreeTrainingData":
        """Return the training data of a forest whose scaling is fitted."""
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
            known,
            forest.link,
        )

    def bootstrap(
        self, fold: int, copies: int, seed: int
    ) -> tuple[Float32Array, Float32Array, Float32Array | None]:
        """Draw inputs, targets and weights outside a fold, or of all if there are none.

        Args:
            fold: Fold to leave out.
            copies: Number of copies of each sample; 0: a bootstrap of the samples.
            seed: Seed of the draw and of the modality dropout of each row.

        Returns:
            ``[n, 2 F]`` inputs, ``[n, K]`` targets, and ``[n]`` weights or None.
        """
        generator = torch.Generator().manual_seed(seed)
        outside = self.usable & (self.folds != fold)
        rows = torch.nonzero(outside if bool(outside.any()) else self.usable)[:, 0]
        size = min(len(rows), MAX_BOOTSTRAP)
        if copies:
            drawn = torch.randperm(len(rows), generator=generator)[:size].repeat(copies)
        else:
            drawn = torch.randint(len(rows), (size,), generator=generator)
        rows = rows[drawn]
        kept = modality_dropout(self.present[rows], DROPOUT, generator).numpy()
        seen = np.where(kept[:, self.modality], self.z[rows.numpy()], self.nothing)
        weight = None if self.weight is None else self.weight[rows].numpy()
        return seen, self.target[rows].numpy(), weight

    def fit_tree(self, number: int, fold: int, seed: int) -> "ExtraTreeRegressor":
        """Fit one tree to a bootstrap of the samples outside a fold."""
        from sklearn.tree import ExtraTreeRegressor

        own, hazards = (seed * 1_000_003 + number) % 2**32, self.link == "log"
        seen, target, weight = self.bootstrap(fold, 0, own)
        width = seen.shape[1]
        candidates = min(max(round(SPLIT_SHARE * width), MIN_SPLIT), MAX_SPLIT)
        tree = ExtraTreeRegressor(
            criterion="poisson" if hazards and target.any() else "squared_error",
            min_samples_leaf=MIN_HAZARD_LEAF if hazards else MIN_LEAF,
            max_features=min(width, candidates),
            random_state=own,
        )
        target = target.squeeze(1) if target.shape[1] == 1 else target
        return tree.fit(seen, target, sample_weight=weight)
