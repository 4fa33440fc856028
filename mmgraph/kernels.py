"""Kernel arithmetic: weighted sums of kernels, and kernel ridge regression.

Letters: ``N`` and ``G`` samples, ``M`` kernels, ``n`` rows, ``L`` landmarks, ``K``
outputs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

JITTER = 1e-10  # of the mean diagonal
ROUNDING = 1e-5  # of the mean diagonal, bound on errors of kernels in float32


def combine(
    kernels: Mapping[str, Tensor],
    present: Tensor,
    others: Tensor | None = None,
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    r"""Return the weighted mean of the kernels of what two samples have in common.

    ``K(i, j) = sum_m d_m p_im p_jm K_m(i, j) / sqrt(s_i s_j)`` with the weights ``d``,
    presence ``p`` and ``s_i = sum_m d_m p_im``. It is the inner product of the features
    ``sqrt(d_m / s_i) p_im phi_m(x_i)`` of all kernels, and thus positive semidefinite
    for any pattern of missing modalities.

    Args:
        kernels: ``[N, G]`` by name; values of missing modalities are not read.
        present: ``[N, M]`` Bool, in the order of the kernels.
        others: ``[G, M]`` Bool; default: as ``present``.
        weights: Weight of each kernel, at least 0; default: 1.

    Returns:
        ``[N, G]``, zero where two samples have nothing in common.

    Example:
        >>> kernels = {"a": torch.ones(2, 2), "b": torch.eye(2)}
        >>> combine(kernels, torch.tensor([[True, True], [True, False]]))
        tensor([[1.0000, 0.7071],
                [0.7071, 1.0000]])
    """
    others = present if others is None else others
    first = next(iter(kernels.values()))
    total = torch.zeros_like(first)
    left, right = first.new_zeros(len(present)), first.new_zeros(len(others))
    for m, (name, kernel) in enumerate(kernels.items()):
        weight = 1.0 if weights is None else float(weights[name])
        both = present[:, m, None] & others[:, m]
        total += weight * torch.where(both, kernel, 0)
        left += weight * present[:, m]
        right += weight * others[:, m]
    scale = (left[:, None] * right).sqrt()
    return torch.where(scale > 0, total / torch.where(scale > 0, scale, 1), 0)


def fit_ridge(
    kernel: Tensor, target: Tensor, folds: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Fit kernel ridge regression, and predict each fold from the others.

    With ``H = (K + diag(r))^-1`` and the coefficients ``a = H y``, the residuals of a
    fold B in a fit without it are ``H_BB^-1 a_B``.

    Args:
        kernel: ``[n, n]`` double, kernel of the rows.
        target: ``[n, K]`` targets of mean zero.
        folds: ``[n]`` fold of each row.
        ridge: ``[n]`` penalties above 0, divided by the weights of the rows.

    Returns:
        ``[n, K]`` coefficients of the rows, and ``[n, K]`` out-of-fold predictions.

    References:
        Algebraic Shortcuts for Leave-One-Out Cross-Validation in Supervised Network
        Inference, Stock, Pahikkala, Airola, Waegeman, De Baets, 2020.
    """
    system = kernel + torch.diag(ridge)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(system))
    coefficient, predicted = inverse @ target, target.clone()
    for fold in folds.unique():
        rows = torch.nonzero(folds == fold)[:, 0]
        block = torch.linalg.cholesky(inverse[rows[:, None], rows])
        predicted[rows] -= torch.cholesky_solve(coefficient[rows], block)
    return coefficient, predicted


def fit_landmark_ridge(
    kernel: Tensor,
    landmarks: Tensor,
    target: Tensor,
    folds: Tensor,
    ridge: Tensor,
    diagonal: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fit kernel ridge regression in the span of some rows; see :func:`fit_ridge`.

    What the landmarks do not explain of the kernel of a row with itself is added to its
    penalty: without it, the fit treats other rows as if their kernels were exact, and
    overfits if the kernel has many small eigenvalues.

    Args:
        kernel: ``[n, L]`` double, kernel of the rows with the landmarks.
        landmarks: ``[L]`` rows that are landmarks.
        target: ``[n, K]`` targets of mean zero.
        folds: ``[n]`` fold of each row.
        ridge: ``[n]`` penalties above 0, divided by the weights of the rows.
        diagonal: ``[n]`` kernel of each row with itself.

    Returns:
        ``[L, K]`` coefficients of the landmarks, and ``[n, K]`` out-of-fold
        predictions.

    References:
        Using the Nystroem Method to Speed Up Kernel Machines, Williams, Seeger, 2000.
        Sparse Gaussian Processes Using Pseudo-Inputs, Snelson, Ghahramani, 2006 (the
        penalty).
    """
    inner = kernel[landmarks].clone()
    rounding = ROUNDING * inner.diagonal().mean()
    inner.diagonal().add_(rounding)
    factor = torch.linalg.cholesky(inner)
    half = torch.linalg.solve_triangular(factor, kernel.T, upper=False)
    ridge = ridge + (diagonal - half.square().sum(0) - rounding).clamp(min=0)
    scaled = kernel / ridge[:, None]
    parts = [torch.nonzero(folds == fold)[:, 0] for fold in folds.unique()]
    grams = [scaled[rows].T @ kernel[rows] for rows in parts]
    system = torch.stack(grams).sum(0) + kernel[landmarks]
    system.diagonal().add_(JITTER * system.diagonal().mean())
    right = scaled.T @ target
    predicted = torch.zeros_like(target)
    for rows, gram in zip(parts, grams, strict=True):
        rest = torch.linalg.cholesky(system - gram)
        own = scaled[rows].T @ target[rows]
        predicted[rows] = kernel[rows] @ torch.cholesky_solve(right - own, rest)
    whole = torch.linalg.cholesky(system)
    return torch.cholesky_solve(right, whole), predicted
