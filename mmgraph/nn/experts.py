"""Unimodal experts: linear, additive in hinges, forests.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``J`` fits computed together. Scores and evidence live in the space of
the link: log-probabilities (softmax), logits (sigmoid) or values (identity).
"""

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.nn.scaling import Hinges, Standardiser

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

__all__ = ["LinearExpert", "TreeExpert", "fit_linear"]

Link: TypeAlias = Literal["softmax", "sigmoid", "identity"]

_CURVATURE = {"softmax": 0.5, "sigmoid": 0.25, "identity": 1.0}
SMALLEST_PROBABILITY = 1e-4


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
    restarts: every step is two matrix products for all fits.

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
    """A forest of one modality's features, evaluated as tensor look-ups.

    Built from a fitted scikit-learn forest; holds plain tensors, so it is saved and
    moved like any module. Missing cells are read as the training mean plus a flag.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: What outputs are compared in.
        num_nodes: Nodes of all trees together.
        num_trees: Trees.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    root: Tensor
    depth: Tensor

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
        self.register_buffer("feature", torch.zeros(num_nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(num_nodes))
        self.register_buffer("child", torch.zeros(num_nodes, 2, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(num_nodes, out_channels))
        self.register_buffer("root", torch.zeros(num_trees, dtype=torch.int64))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

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
        trees = [estimator.tree_ for estimator in forest.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.cumsum(sizes) - sizes
        columns = trees[0].value.shape[1]
        expert = cls(
            scaler.channels,
            columns,
            link,
            num_nodes=int(sizes.sum()),
            num_trees=len(trees),
        )
        left = np.concatenate([tree.children_left for tree in trees])
        right = np.concatenate([tree.children_right for tree in trees])
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        shift, itself = np.repeat(roots, sizes), np.arange(sizes.sum())
        leaf = left < 0
        child = np.stack([left + shift, right + shift], axis=1)
        child[leaf] = itself[leaf, None]
        expert.child.copy_(torch.from_numpy(child))
        expert.feature.copy_(torch.from_numpy(np.where(leaf, 0, feature)))
        expert.threshold.copy_(torch.from_numpy(_round_down(threshold)))
        value = np.concatenate([tree.value[..., 0] for tree in trees])
        expert.value.copy_(torch.from_numpy(value))
        expert.root.copy_(torch.from_numpy(roots))
        expert.depth.fill_(max(tree.max_depth for tree in trees))
        expert.scaler.load_state_dict(scaler.state_dict())
        return expert

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to scores ``[N, K]``."""
        z = self.scaler(x)
        node = self.root.expand(len(z), -1)  # [N, trees]
        for _ in range(int(self.depth)):  # a leaf is its own child
            cell = z.gather(1, self.feature[node].long())
            right = (cell > self.threshold[node]).long()
            node = self.child[node].gather(2, right[..., None])[..., 0].long()
        mean = F.embedding_bag(node, self.value, mode="mean")
        return score_of_mean(mean, self.link)


def _round_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Largest float32 not above each threshold: float32 cells compare as before."""
    rounded = threshold.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, lower, rounded)


def score_of_mean(mean: Tensor, link: Link) -> Tensor:
    """Bring averaged probabilities or values into the space of the link."""
    if link == "identity":
        return mean
    p = mean.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if link == "sigmoid":
        return p.logit()
    return (p / p.sum(-1, keepdim=True)).log()
