"""Kernel ridge regression onto training pairs.

Letters: ``N`` samples, ``n`` rows of a modality, ``F`` features, ``L`` landmarks,
``D`` coordinates, ``M`` modalities.

Kernel ridge regression maps a row of a modality to its similarity to each training
pair. Rows of different modalities that are similar to the same pairs belong together:
these responses are compared, after projection on a few principal directions. Without
that projection, the inner product of two responses is that of regularized kernel CCA
with weights on the canonical correlations.

References:
    Kernel and Nonlinear Canonical Correlation Analysis, Lai, Fyfe, 2000. Canonical
    Correlation Analysis: An Overview with Application to Learning Methods, Hardoon,
    Szedmak, Shawe-Taylor, 2004.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgraph.kernels import mean_squared_distance, multiscale_rbf, signed_sqrt
from mmgraph.nn.scaling import StandardScaler

BLOCK_ROWS = 4096  # rows whose kernel is computed at once
RIDGE = 1.0  # the kernel of a row with itself is 1
MAX_EXACT, MAX_LANDMARKS = 2500, 1024
JITTER = 1e-8
OVERSAMPLE, POWER_STEPS = 16, 3
MIN_AVERAGED = 5  # training rows of a landmark in models without training rows
AVERAGED_RIDGE = 1e-3


class RBFMap(nn.Module):
    """Linear map of radial basis functions around landmarks, at three scales.

    Features are transformed by the signed square root and standardized; missing cells
    contribute to the distance of two rows through their indicators. The kernel is the
    mean of ``exp(-s d^2 / mean d^2)`` over the scales s, so that no bandwidth has to be
    chosen.

    Args:
        in_features: ``F``.
        out_channels: ``D``.
        num_landmarks: ``L``.

    References:
        Improving the Fisher Kernel for Large-Scale Image Classification, Perronnin,
        Sanchez, Mensink, 2010 (the signed square root). Using the Nystroem Method to
        Speed Up Kernel Machines, Williams, Seeger, 2000 (landmarks).
    """

    landmark: Tensor
    spread: Tensor
    weight: Tensor

    def __init__(self, in_features: int, out_channels: int, num_landmarks: int) -> None:
        super().__init__()
        self.scaler = StandardScaler(in_features)
        width = self.scaler.out_channels
        self.register_buffer("landmark", torch.zeros(num_landmarks, width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("weight", torch.zeros(num_landmarks, out_channels))

    def fit(self, x: Tensor, landmarks: Tensor) -> None:
        """Fit the scales, and store the landmarks.

        Args:
            x: ``[N, F]`` features.
            landmarks: ``[L]`` indices of the rows that are landmarks.
        """
        self.scaler.fit(signed_sqrt(x))
        self.landmark.copy_(self._inputs(x[landmarks]))
        self.spread.copy_(mean_squared_distance(self.landmark))

    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernel of features ``[N, F]`` with the landmarks, ``[N, L]``.

        Computed in double precision, so that a row does not depend on the batch.
        """
        return self._kernel_of(self._inputs(x))

    def _kernel_of(self, inputs: Tensor) -> Tensor:
        return multiscale_rbf(inputs, self.landmark, self.spread)

    def averaged(self) -> "RBFMap":
        """Return an approximation whose landmarks are means of landmarks.

        Every landmark is the mean of at least ``MIN_AVERAGED`` similar ones (of all, if
        there are fewer), so that none is a row of a single training sample. Weights are
        fitted to the outputs of this map at its landmarks.

        References:
            Practical Data-Oriented Microaggregation for Statistical Disclosure Control,
            Domingo-Ferrer, Mateo-Sanz, 2002. Improved Nystroem Low-Rank Approximation
            and Error Analysis, Zhang, Tsang, Kwok, 2008 (means as landmarks).
        """
        means = torch.stack(means_of_similar(self.landmark))
        result = RBFMap(self.scaler.channels, self.weight.shape[1], len(means))
        kept = {k: v for k, v in self.state_dict().items() if k != "weight"}
        result.load_state_dict(kept | {"landmark": means, "weight": result.weight})
        target = self._kernel_of(self.landmark) @ self.weight.double()
        kernel, gram = result._kernel_of(self.landmark), result._kernel_of(means)
        normal = kernel.T @ kernel + AVERAGED_RIDGE * gram
        normal.diagonal().add_(JITTER * len(kernel))
        solved = torch.linalg.solve(normal, kernel.T @ target)
        result.weight.copy_(solved.to(result.weight.dtype))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]``, NaN if missing, to ``[N, D]``."""
        weight = self.weight.double()
        blocks = [self.kernel(rows) @ weight for rows in x.split(BLOCK_ROWS)]
        return torch.cat(blocks).to(self.weight.dtype)

    def _inputs(self, x: Tensor) -> Tensor:
        return self.scaler(signed_sqrt(x))


def means_of_similar(x: Tensor) -> list[Tensor]:
    """Return means of groups of similar rows, split at medians until they are small."""
    groups, means = [x], []
    while groups:
        rows = groups.pop()
        if len(rows) < 2 * MIN_AVERAGED:
            means.append(rows.mean(0))
            continue
        order = rows[:, rows.var(0).argmax()].argsort(stable=True)
        groups += [rows[part] for part in order.tensor_split(2)]
    return means


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression of one modality, prepared for any targets.

    Attributes:
        map: Radial basis functions, with weights of zero.
        rows: ``[n]`` indices of the training samples, ascending.
        kernel: ``[n, L]`` double, kernel of rows and landmarks.
        solver: ``[L, n]`` double, maps targets to weights.
        groups: ``[n]`` group numbers.
    """

    map: RBFMap
    rows: Tensor
    kernel: Tensor
    solver: Tensor
    groups: Tensor

    def fit(self, target: Tensor) -> RBFMap:
        """Return the map that is fitted to targets ``[n, D]``."""
        fitted = RBFMap(
            self.map.scaler.channels, target.shape[1], len(self.map.landmark)
        )
        state = self.map.state_dict() | {"weight": (self.solver @ target).float()}
        fitted.load_state_dict(state)
        return fitted

    def leave_group_out(self, target: Tensor, groups: Tensor | None = None) -> Tensor:
        """Predict each row by a fit without its group, in closed form.

        With hat matrix H: ``(I - H_gg)^-1 (H y - H_gg y_g)`` for each group g.

        Args:
            target: ``[n, D]`` targets.
            groups: ``[n]`` group numbers; default: those of the rows.

        Returns:
            ``[n, D]`` predictions.
        """
        fitted = self.kernel @ (self.solver @ target)
        leverage = (self.kernel * self.solver.T).sum(1, keepdim=True)
        result = (fitted - leverage * target) / (1 - leverage).clamp(min=JITTER)
        groups = self.groups if groups is None else groups
        _, group, size = groups.unique(return_inverse=True, return_counts=True)
        for g in torch.nonzero(size > 1)[:, 0]:
            at = torch.nonzero(group == g)[:, 0]
            hat = self.kernel[at] @ self.solver[:, at]
            residual = torch.eye(len(at), dtype=hat.dtype) * (1 + JITTER) - hat
            result[at] = torch.linalg.solve(residual, fitted[at] - hat @ target[at])
        return result


def fit_kernel_ridge(
    x: Tensor, rows: Tensor, groups: Tensor, generator: torch.Generator
) -> KernelRidge:
    """Prepare kernel ridge regression of one modality.

    With more than 2500 rows, the Nystroem approximation with 1024 landmarks is used.

    Args:
        x: ``[n, F]`` features of the rows.
        rows: ``[n]`` indices of their samples.
        groups: ``[n]`` group numbers.
        generator: Generator of the landmarks.
    """
    exact = len(x) <= MAX_EXACT
    count = len(x) if exact else MAX_LANDMARKS
    chosen = torch.randperm(len(x), generator=generator)[:count].sort().values
    radial = RBFMap(x.shape[1], 0, count)
    radial.fit(x, chosen)
    kernel = torch.cat([radial.kernel(block) for block in x.split(BLOCK_ROWS)])
    gram = kernel[chosen]
    if exact:
        gram.diagonal().add_(RIDGE)
        solver = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    else:
        normal = kernel.T @ kernel + RIDGE * gram
        normal.diagonal().add_(JITTER * len(x))
        solver = torch.cholesky_solve(kernel.T, torch.linalg.cholesky(normal))
    return KernelRidge(radial, rows, kernel, solver, groups)


def shared_components(
    regressions: Sequence[KernelRidge],
    num_samples: int,
    channels: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the principal directions of the responses of all modalities.

    Computed by block power iteration on the sum of ``H_m H_m'`` over modalities.

    Args:
        regressions: Kernel ridge regression of each modality.
        num_samples: ``N``.
        channels: ``D``, maximum number of directions.
        generator: Generator of the initial basis.

    Returns:
        ``[N, D]`` orthonormal directions, the targets of the fit.

    References:
        Finding Structure with Randomness, Halko, Martinsson, Tropp, 2011.
    """
    width = min(channels + OVERSAMPLE, num_samples)
    start = torch.randn(num_samples, width, generator=generator, dtype=torch.double)
    basis = torch.linalg.qr(start).Q
    for _ in range(POWER_STEPS):
        total = torch.zeros_like(basis)
        for r in regressions:
            fitted = r.kernel @ (r.solver @ basis[r.rows])
            back = r.solver.T @ (r.kernel.T @ fitted)
            total.index_add_(0, r.rows, back)
        basis, triangle = torch.linalg.qr(total)
    left = torch.linalg.svd(triangle).U
    return basis @ left[:, :channels]
