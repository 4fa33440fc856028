"""Kernel ridge regression on views: of one modality, and of each subset of several.

Letters: ``N`` training samples, ``B`` samples of a batch, ``F`` features of a view,
``M`` modalities, ``V`` views, ``S`` subsets of modalities, ``L`` landmarks, ``K``
outputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmgraph.experts.links import Link, link_of, targets_of, to_score
from mmgraph.experts.views import ViewKernels
from mmgraph.kernels import fit_landmark_ridge, fit_ridge
from mmgraph.nn.heads import Task
from mmgraph.optim import minimize

RIDGE = 0.01  # relative to the mean of the diagonal of the kernel
MIN_ROWS = 8
MAX_COMPLETE = 6  # modalities up to which every subset has a submodel
MAX_PATTERNS = 64  # of present modalities that have one otherwise
PAIR_WEIGHTS = (0.0, 1.0, 2.0)  # of the kernel of a pair of modalities
PRODUCT_WEIGHTS = (0.0, 1.0)  # of the product of the kernels of two views
MAX_TRIALS = 4  # largest subsets by which these weights are chosen
SLOPES: dict[Link, float] = {
    **{"softmax": 8.0, "sigmoid": 4.0, "log": 1.0, "identity": 1.0}
}
OFFSET_PENALTY, SLOPE_PENALTY = 30.0, 1.0  # on the scale of the summed loss
MAX_ITERATIONS = 50


class ConvolutionExpert(nn.Module):
    """Linear model of the view of one modality, fitted by kernel ridge regression.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        link: Link function of the task.
        view: Index of the view that it reads.
    """

    weight: Tensor

    def __init__(
        self, in_features: int, out_channels: int, link: Link, *, view: int
    ) -> None:
        super().__init__()
        self.link, self.view = link, view
        self.register_buffer("weight", torch.zeros(in_features + 1, out_channels))

    def forward(self, z: Tensor) -> Tensor:
        """Map the table of the view ``[B, F]`` to scores ``[B, K]``."""
        return to_score(z @ self.weight[:-1] + self.weight[-1], self.link)


class PriorExpert(nn.Module):
    """Scores of the prior, for a modality that a kind of base learner does not read.

    Args:
        prior: ``[K]`` scores.
    """

    prior: Tensor

    def __init__(self, prior: Tensor) -> None:
        super().__init__()
        self.register_buffer("prior", prior)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prior for each row of features ``[B, F]``, ``[B, K]``."""
        return self.prior.expand(x.shape[0], -1)


class Submodels(nn.Module):
    """One linear model of the present views for each subset of modalities.

    A sample is predicted by the submodel of its present modalities or, if there is
    none, by that of the largest subset of them that has one. It gets the prior where no
    subset of its modalities has a submodel. Nothing is imputed.

    Args:
        num_modalities: ``M``.
        needs: Indices of the modalities of each view.
        subsets: Indices of the modalities of each subset, in ascending order of size.
        widths: Number of features of each view.
        out_channels: ``K``.
        link: Link function of the task.

    References:
        Missing Data and Prediction: The Pattern Submodel, Fletcher Mercaldo, Blume,
        2018.
    """

    subset: Tensor
    bias: Tensor
    prior: Tensor

    def __init__(
        self,
        num_modalities: int,
        needs: Sequence[Sequence[int]],
        subsets: Sequence[Sequence[int]],
        widths: Sequence[int],
        out_channels: int,
        link: Link,
    ) -> None:
        super().__init__()
        self.link, self.out_channels = link, out_channels
        self.needs, self.subsets = needs, subsets
        every = [[m in subset for m in range(num_modalities)] for subset in subsets]
        self.register_buffer("subset", torch.tensor(every))
        self.register_buffer("bias", torch.zeros(len(subsets), out_channels))
        self.register_buffer("prior", torch.zeros(out_channels))
        self.members = [
            [s for s, subset in enumerate(subsets) if set(need) <= set(subset)]
            for need in needs
        ]
        for v, (width, inside) in enumerate(zip(widths, self.members, strict=True)):
            shape = width, len(inside), out_channels
            self.register_buffer(f"weight{v}", torch.zeros(shape))

    def forward(
        self, tables: Sequence[Tensor], present: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Map tables to scores ``[B, K]``.

        Args:
            tables: Description tables of the ``M`` modalities, then those of the views.
            present: ``[B, M]`` Bool.
            fold: Not read; see :attr:`Evidence.submodel_scores`.
        """
        return self.select(self.scores(tables), present)

    def scores(self, tables: Sequence[Tensor]) -> Tensor:
        """Return the scores of all submodels, ``[B, S, K]``.

        Those of a subset of which a sample lacks a modality mean nothing.

        Args:
            tables: Description tables of the ``M`` modalities, then those of the views.
        """
        views = tables[self.subset.shape[1] :]
        logits = self.bias.expand(views[0].shape[0], -1, -1)
        for v, inside in enumerate(self.members):
            z = torch.where(views[v].isnan(), 0, views[v])
            part = (z @ getattr(self, f"weight{v}").flatten(1)).unflatten(
                1, (-1, self.out_channels)
            )
            place = torch.tensor(inside, device=z.device)
            logits = logits.index_add(1, place, part)
        return to_score(logits, self.link)

    def select(self, scores: Tensor, present: Tensor) -> Tensor:
        """Return the scores of the submodel of each sample, ``[B, K]``.

        Args:
            scores: ``[B, S, K]``.
            present: ``[B, M]`` Bool.
        """
        fits = (present[:, None] | ~self.subset).all(-1)  # [B, S]
        order = torch.arange(1, self.subset.shape[0] + 1, device=present.device)
        rank = (fits * order).amax(1)  # the last one is the largest
        index = (rank - 1).clamp(min=0)[:, None, None].expand(-1, 1, scores.shape[2])
        chosen = scores.gather(1, index)[:, 0]
        return torch.where(rank[:, None] > 0, chosen, self.prior)


@dataclass(frozen=True)
class RidgeFit:
    """Calibrated kernel ridge regression.

    Attributes:
        coefficient: ``[L, K]`` coefficients of the landmarks, in the units of the
            scores.
        bias: ``[K]`` scores of a sample with a kernel of zero.
        scores: ``[N, K]`` out-of-fold scores; of other samples than those of the fit,
            they are predictions, which mean nothing where a modality is missing.
        loss: Mean out-of-fold loss.
    """

    coefficient: Tensor
    bias: Tensor
    scores: Tensor
    loss: float


@dataclass(frozen=True)
class RidgeTraining:
    """Training data of ridge regressions on different kernels.

    Attributes:
        kernels: Kernels of all views.
        present: ``[N, M]`` Bool.
        y: Encoded targets.
        task: Prediction task.
        folds: ``[N]`` fold of each sample.
        prior: ``[K]`` scores of the prior.
        weight: ``[N]`` sample weights; None weights all samples equally.
    """

    kernels: ViewKernels
    present: Tensor
    y: Tensor
    task: Task
    folds: Tensor
    prior: Tensor
    weight: Tensor | None = None

    def fit(self, views: Mapping[int, float], subset: Tensor) -> RidgeFit | None:
        """Fit a ridge regression to the samples that have a subset of modalities.

        Args:
            views: Weight of the kernel of each view, by index.
            subset: ``[M]`` Bool.

        Returns:
            None with fewer than 8 such samples.
        """
        target, known = targets_of(self.y, self.task, self.weight)
        usable = (self.present | ~subset).all(1) & (known > 0)
        rows = torch.nonzero(usable)[:, 0]
        if len(rows) < MIN_ROWS:
            return None
        kernel = sum(w * self.kernels.kernels[v].double() for v, w in views.items())
        assert isinstance(kernel, Tensor)
        places = torch.nonzero(usable[self.kernels.landmarks])[:, 0]
        own = torch.searchsorted(rows, self.kernels.landmarks[places])
        if not len(places):
            return None
        target, known = target[rows].double(), known[rows].double()
        target -= (known[:, None] * target).sum(0) / known.sum()
        gram = kernel[rows[:, None], places]
        level = RIDGE * gram[own, torch.arange(len(own))].mean().clamp(min=1e-12)
        training = target, self.folds[rows], level * known.mean() / known
        if len(places) == len(rows):
            solved, predicted = fit_ridge(gram, *training)
        else:
            diagonal = sum(
                w * self.kernels.diagonal[v][rows].double() for v, w in views.items()
            )
            assert isinstance(diagonal, Tensor)
            solved, predicted = fit_landmark_ridge(gram, own, *training, diagonal)
        coefficient = solved.new_zeros(kernel.shape[1], target.shape[1])
        coefficient[places] = solved
        response = (kernel @ coefficient).index_copy(0, rows, predicted).float()
        weight = None if self.weight is None else self.weight[rows]
        slope, bias, loss = calibrate(
            response[rows], self.y[rows], self.task, self.prior, weight
        )
        scores = to_score(bias + slope * response, link_of(self.task))
        return RidgeFit(slope * coefficient.float(), bias, scores, loss)


def calibrate(
    response: Tensor, y: Tensor, task: Task, prior: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, float]:
    """Fit one slope and the offset of each output to out-of-fold responses.

    Args:
        response: ``[n, K]`` responses of a ridge regression.
        y: Encoded targets.
        task: Prediction task.
        prior: ``[K]`` scores of the prior.
        weight: ``[n]`` sample weights; None weights all samples equally.

    Returns:
        Slope, offsets ``[K]`` that include the prior, and the mean loss.

    References:
        On Calibration of Modern Neural Networks, Guo, Pleiss, Sun, Weinberger, 2017
        (temperature scaling).
    """
    start = math.log(SLOPES[link_of(task)])
    power = torch.tensor(start, requires_grad=True)
    offset = torch.zeros(len(prior), requires_grad=True)

    def loss() -> Tensor:
        logits = prior + offset + power.exp() * response
        penalty = OFFSET_PENALTY * offset.square().sum()
        penalty = penalty + SLOPE_PENALTY * (power - start).square()
        return task.loss(logits, y, weight) + penalty / len(y)

    minimize((power, offset), loss, MAX_ITERATIONS)
    slope, bias = power.detach().exp(), prior + offset.detach()
    return slope, bias, float(task.loss(bias + slope * response, y, weight))


def fit_convolution(training: RidgeTraining, modality: int) -> tuple[Tensor, nn.Module]:
    """Fit the base learner of the view of one modality.

    Args:
        training: Training data.
        modality: Index of the modality.

    Returns:
        Out-of-fold scores ``[N, K]``, NaN without a fit, and the base learner: the
        prior if the modality has no view of a sequence, or too few samples.
    """
    kernels, prior = training.kernels, training.prior
    subset = torch.arange(kernels.needs.shape[1]) == modality
    views = [v for v, need in enumerate(kernels.needs) if torch.equal(need, subset)]
    sequences = [v for v in views if kernels.views[v].is_single_sequence]
    fitted = training.fit({sequences[0]: 1.0}, subset) if sequences else None
    if fitted is None:
        return prior.new_full((len(training.y), len(prior)), torch.nan), PriorExpert(
            prior.clone()
        )
    (view,) = sequences
    width = kernels.basis[view].shape[1]
    expert = ConvolutionExpert(width, len(prior), link_of(training.task), view=view)
    weight = kernels.basis[view].T @ fitted.coefficient
    expert.weight.copy_(torch.cat([weight, fitted.bias[None]]))
    return fitted.scores, expert


@dataclass(frozen=True)
class FittedSubmodels:
    """Fitted submodels.

    Attributes:
        model: The submodels.
        scores: ``[N, S, K]`` out-of-fold scores.
        views: Indices of the views that they read.
    """

    model: Submodels
    scores: Tensor
    views: list[int]


def fit_submodels(training: RidgeTraining, smallest: int = 2) -> FittedSubmodels | None:
    """Fit a submodel for each subset of modalities.

    Up to six modalities, every subset of at least ``smallest`` has one; otherwise those
    that occur, those without one more modality, and all of the smallest size. The
    kernel of a subset is the sum of the kernels of its views. Those of pairs have the
    weight 0, 1 or 2, and those of products 0 or 1 times the weight of their factors,
    whichever combination has the smallest out-of-fold loss over the largest subsets.
    Views of weight 0 are not part of the model.

    Args:
        training: Training data.
        smallest: Number of modalities of the smallest subsets, 1 or 2.

    Returns:
        None without a subset of enough samples.
    """
    search = _Search(training, {})
    fits: list[tuple[Tensor, dict[int, float], RidgeFit]] = []
    subsets = list(_subsets_to_fit(training.present, smallest))
    weights = search.weights(subsets)
    for subset in subsets:
        fitted = search.fit(subset, weights)
        if fitted is not None:
            fits.append((subset, search.views(subset, weights), fitted))
    if not fits:
        return None
    kernels, task = training.kernels, training.task
    used = torch.nonzero(search.weight_of_views(weights))[:, 0].tolist()
    needs, basis = kernels.needs[used], [kernels.basis[v] for v in used]
    model = Submodels(
        needs.shape[1],
        [_indices(need) for need in needs],
        [_indices(subset) for subset, _, _ in fits],
        [z.shape[1] for z in basis],
        task.out_channels,
        link_of(task),
    )
    model.prior.copy_(training.prior)
    model.bias.copy_(torch.stack([fitted.bias for _, _, fitted in fits]))
    for place, (v, inside) in enumerate(zip(used, model.members, strict=True)):
        parts = [fits[s][1][v] * fits[s][2].coefficient for s in inside]
        if parts:
            weight = kernels.basis[v].T @ torch.cat(parts, 1)
            buffer = model.get_buffer(f"weight{place}")
            buffer.copy_(weight.unflatten(1, (len(parts), -1)))
    scores = torch.stack([fitted.scores for _, _, fitted in fits], 1)
    return FittedSubmodels(model, scores, used)


class _Weights(NamedTuple):
    """Weights of the kernels of pairs of sequences, and of products."""

    pair: float
    product: float


@dataclass(frozen=True)
class _Search:
    """Ridge regressions of subsets, each fitted once.

    Attributes:
        training: Training data.
        fits: Fits by subset and weights.
    """

    training: RidgeTraining
    fits: dict[tuple[tuple[int, ...], _Weights], RidgeFit | None]

    def weight_of_views(self, weights: _Weights) -> Tensor:
        """Return the weight of each view, ``[V]``."""
        kernels = self.training.kernels
        several = kernels.needs.sum(1) > 1 + kernels.is_product.long()
        of_factor = torch.where(several, weights.pair, 1.0)
        return of_factor * torch.where(kernels.is_product, weights.product, 1.0)

    def views(self, subset: Tensor, weights: _Weights) -> dict[int, float]:
        """Return the weight of each view of a subset by index, those above 0."""
        inside = (subset | ~self.training.kernels.needs).all(1)
        each = self.weight_of_views(weights) * inside
        return {v: float(w) for v, w in enumerate(each) if w > 0}

    def fit(self, subset: Tensor, weights: _Weights) -> RidgeFit | None:
        """Return the fit of a subset."""
        views = self.views(subset, weights)
        key = tuple(_indices(subset)), weights
        if key not in self.fits:
            self.fits[key] = self.training.fit(views, subset) if views else None
        return self.fits[key]

    def weights(self, subsets: Sequence[Tensor]) -> _Weights:
        """Return the weights of the smallest loss over the largest subsets.

        Args:
            subsets: Subsets in ascending order of size; those without a view of several
                modalities are not compared.
        """
        kernels, none = self.training.kernels, _Weights(0.0, 0.0)
        several = kernels.needs.sum(1) > 1
        needs = kernels.needs[several]
        trials = [s for s in subsets if bool((s | ~needs).all(1).any())]
        trials = [s for s in trials if self.fit(s, none) is not None]
        if not trials:
            return none
        with_pairs = bool((several & ~kernels.is_product).any())
        with_products = bool(kernels.is_product.any())
        choices = [
            _Weights(pair, product)
            for product in (PRODUCT_WEIGHTS if with_products else (0.0,))
            for pair in (PAIR_WEIGHTS if with_pairs else (0.0,))
        ]
        losses = []
        for weights in choices:
            fits = [self.fit(s, weights) for s in trials[-MAX_TRIALS:]]
            losses.append(sum(f.loss for f in fits if f is not None))
        return choices[losses.index(min(losses))]


def _subsets_to_fit(present: Tensor, smallest: int) -> Sequence[Tensor]:
    """Return the subsets ``[M]`` of modalities that get a submodel."""
    width = present.shape[1]
    seen = _indices(present.any(0))
    if width <= MAX_COMPLETE:
        chosen = {
            each
            for size in range(smallest, len(seen) + 1)
            for each in combinations(seen, size)
        }
    else:
        patterns, count = torch.unique(present, dim=0, return_counts=True)
        order = torch.argsort(count, descending=True, stable=True)[:MAX_PATTERNS]
        chosen = {tuple(_indices(pattern)) for pattern in patterns[order]}
        chosen |= {
            each[:i] + each[i + 1 :] for each in chosen for i in range(len(each))
        }
        chosen |= set(combinations(seen, smallest))
    ordered = sorted((len(each), each) for each in chosen if len(each) >= smallest)
    places = torch.arange(width)
    return [torch.isin(places, torch.tensor(each)) for _, each in ordered]


def _indices(mask: Tensor) -> list[int]:
    return torch.nonzero(mask)[:, 0].tolist()
