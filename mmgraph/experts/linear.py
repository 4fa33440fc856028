"""Experts: linear, additive in hinges, forests; of one modality, or of all.

Letters: ``N`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``J`` fits computed together. Scores and evidence live in the space of
the link: log-probabilities (softmax), logits (sigmoid) or values (identity).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import PiecewiseLinear, StandardScaler

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.joint import JointForest
from mmgraph.experts.links import Link, link_of, targets_of, to_score
from mmgraph.nn.heads import Task

if TYPE_CHECKING:
    pass
from mmgraph.experts.links import _Fitted

__all__ = ["JointForest", "LinearExpert", "TreeExpert", "fit_linear"]


_CURVATURE = {"softmax": 0.5, "sigmoid": 0.25, "identity": 1.0}
MAX_TOGETHER = 2000  # features; fits of more have no memory beside each other


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
        self.hinges = PiecewiseLinear(num_knots)
        self.scaler = StandardScaler(in_features + num_knots)
        rows = self.scaler.out_channels + 1
        self.register_buffer("weight", torch.zeros(rows, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to scores ``[N, K]``."""
        logits = self.inputs(x) @ self.weight[:-1] + self.weight[-1]
        return to_score(logits, self.link)

    def inputs(self, x: Tensor) -> Tensor:
        """Return standardised values and flags ``[N, 2 (F + knots)]``."""
        return self.scaler(self.hinges(x))


RIDGES = (3.0, 30.0)

NUM_QUANTILES = (5, 2)  # knots a feature, of narrow and of wide modalities

NARROW_WIDTH, MAX_SPLINE_WIDTH = 64, 256


def _knots(x: Tensor) -> PiecewiseLinear:
    """Return where the piecewise-linear functions of features ``[n, F]`` bend."""
    narrow, wide = NUM_QUANTILES
    return PiecewiseLinear.at_quantiles(
        x, narrow if x.shape[1] <= NARROW_WIDTH else wide
    )


def _fit_ridges(
    x: Tensor, y: Tensor, task: Task, folds: Tensor, hinges: PiecewiseLinear
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
