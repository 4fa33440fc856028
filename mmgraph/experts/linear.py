"""Ridge-penalized linear and spline base learners of one modality.

Letters: ``N`` samples, ``n`` rows of a modality, ``F`` features, ``K`` outputs, ``J``
fits that are computed together.
"""

import torch
from torch import Tensor, nn

from mmgraph.experts.links import FittedExperts, Link, link_of, targets_of, to_score
from mmgraph.nn.heads import Task
from mmgraph.nn.scaling import PiecewiseLinear, StandardScaler

RIDGES = (3.0, 30.0)
NUM_QUANTILES = (5, 2)  # knots of a feature, of narrow and of wide modalities
NARROW_WIDTH, MAX_SPLINE_WIDTH = 64, 256
MAX_TOGETHER = 2000  # features up to which several fits share memory
MAX_NEWTON, MIN_STEP = 30, 1e-4
_CURVATURE = {"softmax": 0.5, "sigmoid": 0.25, "identity": 1.0}


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
    """Fit several ridge-penalized generalized linear models of the same rows at once.

    Minimizes ``sum_n w_n loss(x_n W, y_n) + ridge/2 |W|^2`` (no penalty on the
    intercept) by accelerated gradient descent in the metric of a fixed upper bound of
    the Hessian, with restarts: every step is two matrix products for all fits. With
    more than 2000 features, models are fitted one at a time and, if there are fewer
    rows than features, in an orthonormal basis of the span of the rows, which contains
    the optimum and preserves the penalty.

    The Hessian of the log link has no bound: its models are fitted one at a time by
    Newton's method with step halving, in double precision.

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
        link: Link function of the task.
        max_steps: Maximum number of steps.
        tolerance: Stop when no entry of the gradient exceeds this share of the total
            weight.

    Returns:
        ``[J, F + 1, K]`` weights; the last row is the intercept.
    """
    rest = (link, max_steps, tolerance)
    if x.shape[1] <= MAX_TOGETHER and link != "log":
        return _descend(x, y, weight, ridge, *rest)
    basis = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None  # [F, N]
    rows = x if basis is None else x @ basis
    pairs = zip(weight.split(1), ridge.split(1), strict=True)
    if link == "log":
        fits = torch.stack([_newton(rows, y, w[0], r, tolerance) for w, r in pairs])
    else:
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
    """Return the weights of all fits; see :func:`fit_linear`."""
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


def _newton(
    x: Tensor, y: Tensor, weight: Tensor, ridge: Tensor, tolerance: float
) -> Tensor:
    """Return the weights ``[F + 1, 1]`` of a Poisson regression; see `fit_linear`."""
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
    y, weight = y[:, 0].double(), weight.double()
    penalty = ridge.double().expand(x.shape[1]).clone()
    penalty[-1] *= 1e-6

    def objective(w: Tensor) -> Tensor:
        score = x @ w
        loss = weight * (score.exp() - y * score)
        return loss.sum() + (penalty * w.square()).sum() / 2

    w, bound = x.new_zeros(x.shape[1]), tolerance * weight.sum()
    value = objective(w)
    for _ in range(MAX_NEWTON):
        mean = weight * (x @ w).exp()
        gradient = x.T @ (mean - weight * y) + penalty * w
        if bool((gradient.abs() <= bound).all()):
            break
        hessian = x.T @ (x * mean[:, None]) + torch.diag(penalty)
        step = torch.linalg.solve(hessian, gradient)
        scale = 1.0
        while scale > MIN_STEP and not bool(objective(w - scale * step) <= value):
            scale /= 2
        if scale <= MIN_STEP:
            break
        w = w - scale * step
        value = objective(w)
    return w.float()[:, None]


def _mean(logits: Tensor, link: Link) -> Tensor:
    if link == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if link == "sigmoid" else logits


class LinearExpert(nn.Module):
    """Ridge-penalized linear model of one modality's features and missing indicators.

    With knots, it is additive in piecewise-linear functions of the features.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: Link function of the task.
        num_knots: Number of knots of all features.
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
        """Map features ``[N, F]``, NaN if missing, to scores ``[N, K]``."""
        logits = self.inputs(x) @ self.weight[:-1] + self.weight[-1]
        return to_score(logits, self.link)

    def inputs(self, x: Tensor) -> Tensor:
        """Return standardized values and missing indicators ``[N, 2 (F + knots)]``."""
        return self.scaler(self.hinges(x))


def quantile_knots(x: Tensor) -> PiecewiseLinear:
    """Return piecewise-linear functions of features ``[n, F]``, knots at quantiles."""
    narrow, wide = NUM_QUANTILES
    return PiecewiseLinear.at_quantiles(
        x, narrow if x.shape[1] <= NARROW_WIDTH else wide
    )


def fit_ridges(
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    hinges: PiecewiseLinear,
    weight: Tensor | None = None,
) -> FittedExperts:
    """Fit one base learner for each ridge penalty.

    They are additive in the features and in their piecewise-linear functions. A fold
    whose complement is empty has NaN scores.
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
    # the indicators of piecewise-linear functions equal those of their features
    used = torch.nonzero((z.amax(0) > z.amin(0))[: 2 * width + num_knots])[:, 0]
    names = torch.unique(folds)
    kept = torch.stack([(folds != j).float() for j in names] + [torch.ones(len(x))])
    target, known = targets_of(y, task, weight)
    fits = fit_linear(
        z[:, used],
        target,
        (kept * known).repeat(len(RIDGES), 1),
        torch.tensor(RIDGES).repeat_interleave(len(kept)),
        link,
    ).unflatten(0, (len(RIDGES), len(kept)))
    which = torch.searchsorted(names, folds)
    unfitted = (kept[:-1].sum(1) == 0)[which]
    fitted: FittedExperts = []
    for expert, w in zip(experts, fits, strict=True):
        expert.hinges.load_state_dict(hinges.state_dict())
        expert.scaler.load_state_dict(scaler.state_dict())
        columns = torch.cat([used, torch.tensor([z.shape[1]])])
        expert.weight.index_copy_(0, columns, w[-1])
        logits = torch.einsum("nf,jfk->jnk", z[:, used], w[:-1, :-1]) + w[:-1, -1:]
        own = to_score(logits[which, torch.arange(len(x))], link)
        fitted.append((torch.where(unfitted[:, None], torch.nan, own), expert))
    return fitted
