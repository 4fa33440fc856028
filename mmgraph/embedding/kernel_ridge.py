"""Training pairs as anchors: what a row of one modality has in common with them.

Letters: ``N`` samples, ``n`` rows of a modality, ``F`` features, ``L`` landmarks,
``D`` coordinates, ``M`` modalities.

Kernel ridge regression maps a row to how much it is like each training pair. Rows of
different modalities that are like the same pairs belong together, so these responses
are compared; a few principal directions of them are kept. Without compression the inner
product of two responses is that of regularised kernel CCA with weights on the canonical
correlations.

References:
    Kernel and Nonlinear Canonical Correlation Analysis, Lai, Fyfe, 2000. Canonical
    Correlation Analysis: An Overview with Application to Learning Methods, Hardoon,
    Szedmak, Shawe-Taylor, 2004.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import StandardScaler

SCALES = (1.5, 3.0, 6.0)  # in units of one over the mean squared distance
PIECE = 4096


class RBFMap(nn.Module):
    """A linear map of radial functions around landmarks, at three scales.

    Features are drawn towards zero by the square root of their size, then
    standardised; the distance of two rows counts their missing cells as a difference.
    A kernel is the mean of ``exp(-s d^2 / mean d^2)`` over the scales s, so that no
    width has to be chosen.

    References:
        Improving the Fisher Kernel for Large-Scale Image Classification, Perronnin,
        Sanchez, Mensink, 2010 (the signed square root). Using the Nystroem Method to
        Speed Up Kernel Machines, Williams, Seeger, 2000 (landmarks).

    Args:
        in_features: ``F``.
        out_channels: ``D``.
        num_landmarks: ``L``.
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
        """Set scales and landmarks from rows ``[N, F]`` and ``[L]`` row numbers."""
        self.scaler.fit(_signed_sqrt(x))
        self.landmark.copy_(self._inputs(x[landmarks]))
        square = _squared_distances(self.landmark, self.landmark).mean()
        self.spread.copy_(torch.where(square > 0, square, 1))

    def kernel(self, x: Tensor) -> Tensor:
        """Compare features ``[N, F]`` (NaN cells allowed) with landmarks: ``[N, L]``.

        Computed in double precision, so that a row does not depend on its mates.
        """
        square = _squared_distances(self._inputs(x), self.landmark)
        near = square / self.spread.double()
        return torch.stack([(-s * near).exp() for s in SCALES]).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to ``[N, D]``."""
        pieces = [self.kernel(p) @ self.weight.double() for p in x.split(PIECE)]
        return torch.cat(pieces).to(self.weight.dtype)

    def _inputs(self, x: Tensor) -> Tensor:
        return self.scaler(_signed_sqrt(x))


def _signed_sqrt(x: Tensor) -> Tensor:
    return x.sign() * x.abs().sqrt()


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return (squares - 2 * a @ b.T).clamp(min=0)


RIDGE = 1.0  # the kernel of a row with itself is 1
MAX_EXACT, MAX_LANDMARKS = 2500, 1024
JITTER = 1e-8
OVERSAMPLE, POWER_STEPS = 16, 3


@dataclass(frozen=True)
class KernelRidge:
    """A kernel ridge regression whose targets are not known yet.

    Attributes:
        map: Radial functions, with weights of zero.
        rows: ``[n]`` ascending numbers of the samples it was fitted on.
        kernel: ``[n, L]`` double, between rows and landmarks.
        solver: ``[L, n]`` double, targets to weights.
        groups: ``[n]`` numbers of what belongs together.
    """

    map: RBFMap
    rows: Tensor
    kernel: Tensor
    solver: Tensor
    groups: Tensor

    def fit(self, target: Tensor) -> RBFMap:
        """Give the map the weights of these targets ``[n, D]``; return it."""
        fitted = RBFMap(
            self.map.scaler.channels, target.shape[1], len(self.map.landmark)
        )
        state = self.map.state_dict() | {"weight": (self.solver @ target).float()}
        fitted.load_state_dict(state)
        return fitted

    def leave_group_out(self, target: Tensor, groups: Tensor | None = None) -> Tensor:
        """Predict each row by a fit without its group, ``[n, D]``, in closed form.

        With hat matrix H: ``(I - H_gg)^-1 (H y - H_gg y_g)`` for each group g.

        Args:
            target: ``[n, D]``.
            groups: ``[n]`` numbers; default: those of the rows.
        """
        said = self.kernel @ (self.solver @ target)
        own = (self.kernel * self.solver.T).sum(1, keepdim=True)
        result = (said - own * target) / (1 - own).clamp(min=JITTER)
        groups = self.groups if groups is None else groups
        _, group, size = groups.unique(return_inverse=True, return_counts=True)
        for g in torch.nonzero(size > 1)[:, 0]:
            at = torch.nonzero(group == g)[:, 0]
            hat = self.kernel[at] @ self.solver[:, at]
            left = torch.eye(len(at), dtype=hat.dtype) * (1 + JITTER) - hat
            result[at] = torch.linalg.solve(left, said[at] - hat @ target[at])
        return result


def fit_kernel_ridge(
    x: Tensor, rows: Tensor, groups: Tensor, generator: torch.Generator
) -> KernelRidge:
    """Prepare kernel ridge regression from one modality.

    Args:
        x: ``[n, F]`` features of the rows.
        rows: ``[n]`` their samples.
        groups: ``[n]`` numbers of what belongs together.
        generator: Draws the landmarks where there are more rows than are used.
    """
    exact = len(x) <= MAX_EXACT
    count = len(x) if exact else MAX_LANDMARKS
    chosen = torch.randperm(len(x), generator=generator)[:count].sort().values
    radial = RBFMap(x.shape[1], 0, count)
    radial.fit(x, chosen)
    kernel = torch.cat([radial.kernel(piece) for piece in x.split(PIECE)])
    near = kernel[chosen]
    if exact:
        near.diagonal().add_(RIDGE)
        solver = torch.cholesky_inverse(torch.linalg.cholesky(near))
    else:
        normal = kernel.T @ kernel + RIDGE * near
        normal.diagonal().add_(JITTER * len(x))
        solver = torch.cholesky_solve(kernel.T, torch.linalg.cholesky(normal))
    return KernelRidge(radial, rows, kernel, solver, groups)


def shared_components(
    smoothers: Sequence[KernelRidge],
    num_samples: int,
    channels: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the main directions ``[N, D]`` of all responses, as targets for a fit.

    Found by block power iteration on the sum of ``H_m H_m'`` over modalities.

    References:
        Finding Structure with Randomness, Halko, Martinsson, Tropp, 2011.
    """
    width = min(channels + OVERSAMPLE, num_samples)
    start = torch.randn(num_samples, width, generator=generator, dtype=torch.double)
    basis = torch.linalg.qr(start).Q
    for _ in range(POWER_STEPS):
        total = torch.zeros_like(basis)
        for s in smoothers:
            said = s.kernel @ (s.solver @ basis[s.rows])
            back = s.solver.T @ (s.kernel.T @ said)
            total.index_add_(0, s.rows, back)
        basis, triangle = torch.linalg.qr(total)
    left = torch.linalg.svd(triangle).U
    return basis @ left[:, :channels]


__all__ = ["RBFMap"]
