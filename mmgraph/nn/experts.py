"""Experts: linear, additive in hinges, forests; of one modality, or of all.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``J`` fits computed together. Scores and evidence live in the space of
the link: log-probabilities (softmax), logits (sigmoid) or values (identity).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import Hinges, Standardiser
from mmgraph.nn.trees import Forest

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

__all__ = ["JointForest", "LinearExpert", "TreeExpert", "fit_linear"]

Link: TypeAlias = Literal["softmax", "sigmoid", "identity"]

_CURVATURE = {"softmax": 0.5, "sigmoid": 0.25, "identity": 1.0}
SMALLEST_PROBABILITY = 1e-4
MAX_TOGETHER = 2000  # features; fits of more have no memory beside each other


def to_score(logits: Tensor, link: Link) -> Tensor:
    """Bring raw outputs into the space of the link, bounded away from certainty."""
    if link == "identity":
        return logits
    bound = -math.log(SMALLEST_PROBABILITY)
    if link == "sigmoid":
        return logits.clamp(-bound, bound)
    return logits.log_softmax(-1).clamp(min=-bound)


def fit_linear(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    ridge: Tensor,
    link: Link,
    *,
    max_steps: int = 200,
    tolerance: float = 1e-3,
) -> Tensor:
    """Fit many ridge-penalised generalised linear models of the same rows at once.

    Minimises ``sum_n w_n loss(x_n W, y_n) + ridge/2 |W|^2`` (intercept free) by
    accelerated descent in the metric of a fixed upper bound of the Hessian, with
    restarts: every step is two matrix products for all fits. Of more than 2000
    features, fits are made one after the other, and in coordinates of the span of the
    rows where that has fewer: there the optimum lies, and its length stays the same.

    References:
        Multinomial Logistic Regression Algorithm, Boehning, 1992 (the bound). A Method
        of Solving a Convex Programming Problem with Convergence Rate O(1/k^2),
        Nesterov, 1983. Adaptive Restart for Accelerated Gradient Schemes, O'Donoghue,
        Candes, 2015.

    Args:
        x: ``[N, F]`` finite features.
        y: ``[N, K]`` targets (one-hot classes for softmax).
        weight: ``[J, N]`` weight of each row in each fit; 0 leaves it out.
        ridge: ``[J]`` penalties, above 0.
        link: What outputs are compared in.
        max_steps: Most steps.
        tolerance: Stop when no gradient entry exceeds this share of the total weight.

    Returns:
        ``[J, F + 1, K]`` weights; the last row is the intercept.
    """
    rest = (link, max_steps, tolerance)
    if x.shape[1] <= MAX_TOGETHER:
        return _descend(x, y, weight, ridge, *rest)
    basis = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None  # [F, N]
    rows = x if basis is None else x @ basis
    pairs = zip(weight.split(1), ridge.split(1), strict=True)
    fits = torch.cat([_descend(rows, y, w, r, *rest) for w, r in pairs])
    if basis is None:
        return fits
    return torch.cat([basis @ fits[:, :-1], fits[:, -1:]], dim=1)


def _descend(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    ridge: Tensor,
    link: Link,
    max_steps: int,
    tolerance: float,
) -> Tensor:
    """Return the weights of all fits at once; see :func:`fit_linear`."""
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    penalty = ridge[:, None, None] * torch.ones_like(x[0])[None, :, None]
    penalty[:, -1] = 1e-6 * ridge[:, None]
    gram = torch.stack([x.T @ (x * w[:, None]) for w in weight])
    metric = _CURVATURE[link] * gram + torch.diag_embed(penalty[..., 0])
    metric.diagonal(dim1=-2, dim2=-1).add_(1e-5 * weight.sum(1)[:, None])
    factor = torch.linalg.cholesky(metric)
    w = x.new_zeros(len(weight), x.shape[1], y.shape[1])
    ahead, momentum = w, x.new_ones(len(weight), 1, 1)
    bound = tolerance * weight.sum(1)[:, None, None]
    for _ in range(max_steps):
        residual = (_mean(x @ ahead, link) - y) * weight[..., None]
        gradient = x.T @ residual + penalty * ahead
        if bool((gradient.abs() <= bound).all()):
            break
        new = ahead - torch.cholesky_solve(gradient, factor)
        step = new - w
        uphill = (gradient * step).sum((1, 2), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = new + torch.where(uphill, 0.0, (momentum - 1) / following) * step
        w, momentum = new, following
    return ahead


def _mean(logits: Tensor, link: Link) -> Tensor:
    if link == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if link == "sigmoid" else logits


class LinearExpert(nn.Module):
    """A ridge-penalised linear model of one modality's features and missing cells.

    With knots it is additive in piecewise-linear functions of the features.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: What outputs are compared in.
        num_knots: Knots of all features together.
    """

    weight: Tensor

    def __init__(
        self,
        in_features: int,
        out_channels: int,
        link: Link,
        *,
        num_knots: int = 0,
    ) -> None:
        super().__init__()
        self.link = link
        self.hinges = Hinges(num_knots)
        self.scaler = Standardiser(in_features + num_knots)
        rows = self.scaler.out_channels + 1
        self.register_buffer("weight", torch.zeros(rows, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to scores ``[N, K]``."""
        logits = self.inputs(x) @ self.weight[:-1] + self.weight[-1]
        return to_score(logits, self.link)

    def inputs(self, x: Tensor) -> Tensor:
        """Return standardised values and flags ``[N, 2 (F + knots)]``."""
        return self.scaler(self.hinges(x))


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
        self.scaler = Standardiser(in_features)
        width = self.scaler.out_channels
        self.forest = Forest(
            width, out_channels, num_nodes=num_nodes, num_trees=num_trees
        )

    @classmethod
    def from_forest(
        cls, forest: "RandomForestRegressor", scaler: Standardiser, link: Link
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
        self.scalers = nn.ModuleList(Standardiser(width) for width in widths)
        width = 2 * sum(widths)
        self.forest = Forest(
            width, out_channels, num_nodes=num_nodes, num_trees=num_trees
        )

    def fit_scaling(self, features: Sequence[Tensor], present: Tensor) -> None:
        """Fit the standardisation of each modality to the rows that have it."""
        for scaler, x, seen in zip(self.scalers, features, present.T, strict=True):
            assert isinstance(scaler, Standardiser)
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


def score_of_mean(mean: Tensor, link: Link) -> Tensor:
    """Bring averaged probabilities or values into the space of the link."""
    if link == "identity":
        return mean
    p = mean.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if link == "sigmoid":
        return p.logit()
    return (p / p.sum(-1, keepdim=True)).log()
