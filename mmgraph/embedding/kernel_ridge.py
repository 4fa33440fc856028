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
from torch import Tensor

from mmgraph.nn.radial import BLOCK_ROWS, JITTER, RBFMap

RIDGE = 1.0  # the kernel of a row with itself is 1
MAX_EXACT, MAX_LANDMARKS = 2500, 1024
OVERSAMPLE, POWER_STEPS = 16, 3


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression of one modality, prepared for any targets.

    Attributes:
        map: Radial basis functions, with weights of zero.
        rows: ``[n]`` indices of the training samples, ascending.
        kernel: ``[n, L]`` double, kernel of rows and landmarks.
        solver: ``[L, n]`` double, maps targets to weights.
        groups: ``[n]`` group numbers.
        mixing: ``[n, N]`` double, weights of the samples whose coordinates are the
            targets of a row; None for those of its own sample.
    """

    map: RBFMap
    rows: Tensor
    kernel: Tensor
    solver: Tensor
    groups: Tensor
    mixing: Tensor | None = None

    def targets(self, coordinates: Tensor) -> Tensor:
        """Return the targets ``[n, D]`` of coordinates of samples ``[N, D]``."""
        if self.mixing is None:
            return coordinates[self.rows]
        return self.mixing @ coordinates

    def add_to_samples(self, total: Tensor, x: Tensor) -> None:
        """Add values of rows ``[n, D]`` to those of their samples ``[N, D]``."""
        if self.mixing is None:
            total.index_add_(0, self.rows, x)
        else:
            total.addmm_(self.mixing.T, x)

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

    Computed by block power iteration on the sum of ``H_m H_m'`` over modalities, and of
    ``S_m' H_m H_m' S_m`` for targets that are mixed by ``S_m``.

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
            fitted = r.kernel @ (r.solver @ r.targets(basis))
            back = r.solver.T @ (r.kernel.T @ fitted)
            r.add_to_samples(total, back)
        basis, triangle = torch.linalg.qr(total)
    left = torch.linalg.svd(triangle).U
    return basis @ left[:, :channels]
