"""Base learner on pairs of texts: kernel ridge regression on products of kernels.

Letters: ``N`` training samples, ``n`` of them that a fit reads, ``B`` samples of a
batch, ``F`` n-grams of a modality, ``U`` distinct texts of a modality, ``J`` folds,
``K`` outputs, ``P`` fits at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgraph.experts.links import Link, link_of, targets_of, to_score
from mmgraph.experts.submodels import calibrate
from mmgraph.experts.views import related_pairs
from mmgraph.kernels import mean_squared_distance, multiscale_rbf
from mmgraph.nn.heads import Classification, Task
from mmgraph.schema import Schema

MAX_PAIRS = 4  # of modalities
MAX_SAMPLES = 8000  # of a fit, whose kernel has at most as many rows and columns
MIN_SAMPLES = 50
MAX_OUTPUTS = 16
OFFSET = 0.5  # added to the kernel of each side
RIDGES = (0.3, 1.0, 3.0)  # the kernel of a sample with itself is (1 + OFFSET)^2
MAX_STEPS, TOLERANCE = 100, 1e-3  # of conjugate gradients
BLOCK_ROWS = 1024


class PairKernelExpert(nn.Module):
    r"""Kernel ridge regression on the product of the kernels of two texts.

    The kernel of the samples (a, b) and (a', b') is

    .. math:: (c + k(a, a')) (c + l(b, b')) = c^2 + c k + c l + k l,

    with a mean of Gaussian kernels of n-gram vectors at three scales for each side. Its
    last term is large only if both texts are similar: a label that depends on how two
    texts fit together, such as a molecule and a protein, is a function in its span,
    but not in that of the others. A sample without one of both texts gets the prior.

    There is one fit without each fold, and one to all samples. The module holds the
    n-gram vectors of the distinct training texts.

    Args:
        widths: ``F`` of both modalities.
        sizes: ``U`` of both modalities.
        num_samples: ``n``.
        out_channels: ``K``.
        link: Link function of the task.
        left: Index of the first modality.
        right: Index of the second modality.
        num_folds: ``J``.
        has_products: False leaves out the products: the kernel is ``k + l``.

    References:
        Kernel Methods for Predicting Protein-Protein Interactions, Ben-Hur, Noble,
        2005 (products of the kernels of both sides). Toward More Realistic Drug-Target
        Interaction Predictions, Pahikkala, Airola, Pietila, Shakyawar, Szwajda, Tang,
        Aittokallio, 2015.
    """

    left_rows: Tensor
    right_rows: Tensor
    left_index: Tensor
    right_index: Tensor
    spread: Tensor
    coefficient: Tensor
    bias: Tensor
    prior: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        sizes: Sequence[int],
        num_samples: int,
        out_channels: int,
        link: Link,
        *,
        left: int,
        right: int,
        num_folds: int = 1,
        has_products: bool = True,
    ) -> None:
        super().__init__()
        self.link, self.left, self.right = link, left, right
        self.num_folds, self.has_products = num_folds, has_products
        indices = torch.zeros(num_samples, dtype=torch.int64)
        for name, size, width in zip(("left", "right"), sizes, widths, strict=True):
            self.register_buffer(f"{name}_rows", torch.zeros(size, width))
            self.register_buffer(f"{name}_index", indices.clone())
        self.register_buffer("spread", torch.ones(2))
        shape = num_samples, num_folds + 1, out_channels
        self.register_buffer("coefficient", torch.zeros(shape))
        self.register_buffer("bias", torch.zeros(out_channels))
        self.register_buffer("prior", torch.zeros(out_channels))

    @property
    def sizes(self) -> list[int]:
        """Number of distinct training texts of both modalities, ``U``."""
        return [len(self.left_rows), len(self.right_rows)]

    def forward(
        self, tables: Sequence[Tensor], present: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Map tables to scores ``[B, K]``.

        Args:
            tables: N-gram vectors of each modality, among other tables.
            present: ``[B, M]`` Bool; tables of missing modalities are not read.
            fold: ``[B]`` folds of training samples, which are predicted by the fit
                without the fold. Default: the fit to all samples.
        """
        both = present[:, self.left] & present[:, self.right]
        x, z = (
            torch.where(both[:, None], tables[m], 0) for m in (self.left, self.right)
        )
        if fold is None:
            response = self._respond(x, z, self.coefficient[:, -1])
        else:
            response = self._respond_out_of_fold(x, z, fold)
        scores = to_score(self.bias + response, self.link)
        return torch.where(both[:, None], scores, self.prior)

    def kernel(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the kernel of samples with those of the fit, ``[B, n]`` double.

        Args:
            x: ``[B, F]`` n-gram vectors of the first modality.
            z: ``[B, F]`` of the second modality.
        """
        k = multiscale_rbf(x, self.left_rows, self.spread[0])[:, self.left_index]
        other = multiscale_rbf(z, self.right_rows, self.spread[1])[:, self.right_index]
        return (k + OFFSET) * (other + OFFSET) if self.has_products else k + other

    def _respond(self, x: Tensor, z: Tensor, coefficient: Tensor) -> Tensor:
        # in double precision, so that a row does not depend on the batch
        return (self.kernel(x, z) @ coefficient.double()).to(self.bias.dtype)

    def _respond_out_of_fold(self, x: Tensor, z: Tensor, fold: Tensor) -> Tensor:
        each = self.coefficient[:, :-1].flatten(1)
        parts = zip(x.split(BLOCK_ROWS), z.split(BLOCK_ROWS), strict=True)
        every = torch.cat([self._respond(a, b, each) for a, b in parts])
        every = every.unflatten(1, (self.num_folds, -1))
        return every[torch.arange(len(fold), device=fold.device), fold]


def fit_text_pairs(
    schema: Schema,
    texts: Sequence[str],
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    prior: Tensor,
    *,
    seed: int = 0,
    weight: Tensor | None = None,
    has_products: bool = True,
) -> list[PairKernelExpert]:
    """Fit a base learner to each related pair of texts.

    Args:
        schema: Schema of the inputs.
        texts: Names of the modalities of n-grams.
        features: ``[N, F_m]`` by modality.
        present: ``[N, M]`` Bool.
        y: Encoded targets.
        task: Prediction task.
        folds: ``[N]`` fold of each sample, from 0.
        prior: ``[K]`` scores of the prior.
        seed: Seed of the samples that are read, of more than 8000.
        weight: ``[N]`` sample weights; None weights all samples equally.
        has_products: False leaves out the products of kernels.

    Returns:
        Base learners; none without related texts, or without enough samples.
    """
    names = schema.modality_names
    if int(folds.max()) < 1 or task.out_channels > MAX_OUTPUTS:
        return []
    target, known = targets_of(y, task, weight)
    fitted: list[PairKernelExpert] = []
    for pair in related_pairs(schema, [name for name in names if name in texts])[
        :MAX_PAIRS
    ]:
        left, right = (names.index(name) for name in pair)
        usable = present[:, left] & present[:, right] & (known > 0)
        rows = torch.nonzero(usable)[:, 0]
        if len(rows) < MIN_SAMPLES:
            continue
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(rows), generator=generator)[:MAX_SAMPLES]
        rows = rows[chosen.sort().values]
        samples = _Samples(
            features[left][rows],
            features[right][rows],
            target[rows],
            y[rows],
            folds[rows],
            known[rows],
        )
        expert = samples.expert((left, right), task, int(folds.max()) + 1)
        expert.has_products = has_products
        expert.prior.copy_(prior)
        _fit(expert, samples, task)
        fitted.append(expert)
    return fitted


@dataclass(frozen=True)
class _Samples:
    """Samples with both texts, and a known target.

    Attributes:
        left: ``[n, F]`` n-gram vectors of the first modality.
        right: ``[n, F]`` of the second modality.
        target: ``[n, K]`` targets of the regression.
        y: Encoded targets.
        folds: ``[n]``.
        weight: ``[n]`` sample weights above 0.
    """

    left: Tensor
    right: Tensor
    target: Tensor
    y: Tensor
    folds: Tensor
    weight: Tensor

    def expert(
        self, pair: tuple[int, int], task: Task, num_folds: int
    ) -> PairKernelExpert:
        """Return a base learner with the distinct texts, and coefficients of zero."""
        sides = self.left, self.right
        distinct = [x.unique(dim=0, return_inverse=True) for x in sides]
        expert = PairKernelExpert(
            [x.shape[1] for x in sides],
            [len(rows) for rows, _ in distinct],
            len(self.y),
            task.out_channels,
            link_of(task),
            left=pair[0],
            right=pair[1],
            num_folds=num_folds,
        )
        for name, (rows, index) in zip(("left", "right"), distinct, strict=True):
            expert.get_buffer(f"{name}_rows").copy_(rows)
            expert.get_buffer(f"{name}_index").copy_(index)
        spread = [mean_squared_distance(rows) for rows, _ in distinct]
        expert.spread.copy_(torch.stack(spread))
        return expert


def _fit(expert: PairKernelExpert, samples: _Samples, task: Task) -> None:
    """Fit with each ridge penalty, and keep that of the smallest out-of-fold loss."""
    size = len(samples.y)
    kernel = torch.empty(size, size)
    for rows in torch.arange(size).split(BLOCK_ROWS):
        kernel[rows] = expert.kernel(samples.left[rows], samples.right[rows]).float()
    weight = samples.weight / samples.weight.mean()
    mean = (weight[:, None] * samples.target).mean(0)
    is_binary = isinstance(task, Classification) and task.num_classes == 2
    target = (samples.target - mean)[:, int(is_binary) :]
    fold = torch.arange(expert.num_folds + 1)
    used = samples.folds[:, None] != fold  # [n, J + 1], all in the last column
    best = torch.inf
    for ridge in RIDGES:
        solved = solve_ridge(kernel, target, used, ridge / weight)
        if is_binary:  # the targets of both classes sum to zero
            solved = torch.cat([-solved, solved], 2)
        own = (kernel @ solved[:, :-1].flatten(1)).unflatten(
            1, solved[:, :-1].shape[1:]
        )
        response = own[torch.arange(size), samples.folds]
        slope, bias, loss = calibrate(
            response, samples.y, task, expert.prior, samples.weight
        )
        if loss < best:
            best = loss
            expert.coefficient.copy_(slope * solved)
            expert.bias.copy_(bias)


def solve_ridge(kernel: Tensor, target: Tensor, used: Tensor, ridge: Tensor) -> Tensor:
    """Solve kernel ridge regression on several subsets of the rows at a time.

    By conjugate gradients, in which all subsets and outputs share each product with the
    kernel.

    Args:
        kernel: ``[n, n]``.
        target: ``[n, K]``.
        used: ``[n, P]`` Bool, rows of each fit.
        ridge: ``[n]`` penalties above 0.

    Returns:
        ``[n, P, K]`` coefficients, zero for other rows.
    """
    mask = used[..., None].to(kernel)
    residual = mask * target[:, None]
    solution, step = torch.zeros_like(residual), residual.clone()
    square = residual.square().sum(0)
    smallest = TOLERANCE**2 * square
    for _ in range(MAX_STEPS):
        moved = (kernel @ step.flatten(1)).view_as(step)
        moved = mask * (moved + ridge[:, None, None] * step)
        curvature = (step * moved).sum(0)
        length = torch.where(square > smallest, square / curvature, 0)
        solution = solution + length * step
        residual = residual - length * moved
        square, before = residual.square().sum(0), square
        if bool((square <= smallest).all()):
            break
        step = residual + torch.where(before > 0, square / before, 0) * step
    return solution
