"""Kernel arithmetic: weighted sums of kernels, and kernel ridge regression.

:func:`combine` and :func:`alignment_weights` are public; the others serve the library.

Letters: ``N`` and ``G`` samples, ``M`` kernels, ``n`` rows, ``L`` landmarks, ``K``
outputs.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.errors import DataError

__all__ = ["alignment_weights", "combine"]

KernelT = TypeVar("KernelT", Tensor, npt.NDArray[np.floating[Any]])

SCALES = (1.5, 3.0, 6.0)  # in units of one over the mean squared distance
JITTER = 1e-10  # of the mean diagonal
ROUNDING = 1e-5  # of the mean diagonal, bound on errors of kernels in float32


def combine(
    kernels: Mapping[str, KernelT],
    present: Any,  # noqa: ANN401
    *,
    others: Any = None,  # noqa: ANN401
    weights: Mapping[str, float] | None = None,
) -> KernelT:
    r"""Return the weighted mean of the kernels of what two samples have in common.

    ``K(i, j) = sum_m d_m p_im p_jm K_m(i, j) / sqrt(s_i s_j)`` with the weights ``d``,
    presence ``p`` and ``s_i = sum_m d_m p_im``. It is the inner product of the features
    ``sqrt(d_m / s_i) p_im phi_m(x_i)`` of all kernels, and thus positive semidefinite
    for any pattern of missing modalities. Its diagonal is 1 if those of the kernels
    are.

    Args:
        kernels: ``[N, G]`` arrays or tensors by name; values of missing modalities are
            not read.
        present: ``[N, M]`` Bool, in the order of the kernels.
        others: ``[G, M]`` Bool, presence in the samples of the columns; default: as
            ``present``.
        weights: Weight of each kernel, at least 0; default: 1. See
            :func:`alignment_weights`.

    Returns:
        ``[N, G]``, zero where two samples have nothing in common; a tensor if the
        kernels are tensors, otherwise an array.

    Raises:
        DataError: If kernels have different shapes, ``present`` or ``others`` do not
            fit them, or weights are negative or of other names.

    Example:
        A support vector machine on two modalities, of which either may be missing:

        >>> import numpy as np
        >>> from sklearn.metrics.pairwise import rbf_kernel
        >>> from sklearn.svm import SVC
        >>> rng = np.random.default_rng(0)
        >>> y, present = np.arange(90) % 2, rng.random((90, 2)) < 0.7
        >>> names = "labs", "ecg"
        >>> x = {name: rng.normal(size=(90, 4)) + 2 * y[:, None] for name in names}
        >>> train, test = np.arange(60), np.arange(60, 90)
        >>> kernels = {name: rbf_kernel(z, z[train]) for name, z in x.items()}
        >>> own = {name: kernel[train] for name, kernel in kernels.items()}
        >>> weights = mmgraph.kernels.alignment_weights(own, y[train], present[train])
        >>> kernel = mmgraph.kernels.combine(
        ...     kernels, present, others=present[train], weights=weights)
        >>> machine = SVC(kernel="precomputed").fit(kernel[train], y[train])
        >>> bool(machine.score(kernel[test], y[test]) > 0.8)
        True

    References:
        Multiple Kernel Learning, Conic Duality, and the SMO Algorithm, Bach,
        Lanckriet, Jordan, 2004 (weighted sums of kernels).
    """
    tables = _read_kernels(kernels)
    first = next(iter(tables.values()))
    rows = _read_present("present", present, len(tables), first, 0)
    others = present if others is None else others
    columns = _read_present("others", others, len(tables), first, 1)
    chosen = _read_weights(weights, list(tables))
    total = torch.zeros_like(first)
    left, right = first.new_zeros(len(rows)), first.new_zeros(len(columns))
    for m, (name, kernel) in enumerate(tables.items()):
        both = rows[:, m, None] & columns[:, m]
        total += chosen[name] * torch.where(both, kernel, 0)
        left += chosen[name] * rows[:, m]
        right += chosen[name] * columns[:, m]
    scale = (left[:, None] * right).sqrt()
    result = torch.where(scale > 0, total / torch.where(scale > 0, scale, 1), 0)
    as_given = isinstance(next(iter(kernels.values())), Tensor)
    return result if as_given else result.numpy()  # type: ignore[return-value]


def alignment_weights(
    kernels: Mapping[str, Any],
    y: Any,  # noqa: ANN401
    present: Any,  # noqa: ANN401
) -> dict[str, float]:
    """Return the weights of kernels whose sum is most aligned with the target.

    They maximize ``<sum_m d_m K_m, Y Y^T> / |sum_m d_m K_m|`` over weights of at least
    0, with centered kernels and targets. Each inner product is a mean over the pairs of
    samples that have both modalities. A kernel without information about the target
    gets a weight near 0: average the weights with equal ones for samples that may have
    no other modality.

    Args:
        kernels: ``[N, N]`` arrays or tensors by name; values of missing modalities are
            not read.
        y: ``[N]`` classes as whole numbers, strings or booleans, or targets as
            fractional numbers ``[N]`` or ``[N, K]``; all known.
        present: ``[N, M]`` Bool, in the order of the kernels.

    Returns:
        Weight of each kernel, with sum 1; equal weights if no kernel is aligned.

    Raises:
        DataError: If kernels are not square or have different shapes, or ``y`` or
            ``present`` do not fit them.

    Example:
        >>> y = torch.tensor([0, 0, 1, 1])
        >>> kernels = {"a": (y[:, None] == y).float(), "b": torch.eye(4)}
        >>> weights = mmgraph.kernels.alignment_weights(
        ...     kernels, y, torch.ones(4, 2).bool())
        >>> {name: round(weight, 6) for name, weight in weights.items()}
        {'a': 1.0, 'b': 0.0}

    References:
        Algorithms for Learning Kernels Based on Centered Alignment, Cortes, Mohri,
        Rostamizadeh, 2012.
    """
    from scipy.optimize import nnls

    tables = _read_kernels(kernels)
    first = next(iter(tables.values()))
    if first.shape[0] != first.shape[1]:
        raise DataError(
            f"kernels must have shape [N, N], got {list(first.shape)}. Give those of "
            "the training samples with each other."
        )
    seen = _read_present("present", present, len(tables), first, 0)
    target = _read_target(y, len(first)).to(first.device)
    inner = torch.zeros(len(tables), len(tables), dtype=torch.double)
    with_target = torch.zeros(len(tables), dtype=torch.double)
    each = list(tables.values())
    for k, a in enumerate(each):
        for m in range(k, len(each)):
            rows = torch.nonzero(seen[:, k] & seen[:, m])[:, 0]
            size = max(len(rows), 1) ** 2
            own, other = (_centered(x, rows) for x in (a, each[m]))
            inner[k, m] = inner[m, k] = float((own * other).sum()) / size
            if k == m:
                z = target[rows] - target[rows].mean(0) if len(rows) else target[rows]
                with_target[k] = float((own @ z * z).sum()) / size
    values, vectors = torch.linalg.eigh(inner)
    root = values.clamp(min=1e-10 * float(values.amax().clamp(min=1e-300))).sqrt()
    system = (root[:, None] * vectors.T).numpy()
    weights, _ = nnls(system, ((vectors.T @ with_target) / root).numpy())
    total = float(weights.sum())
    equal = 1 / len(tables)
    return {
        name: float(weight) / total if total > 0 else equal
        for name, weight in zip(tables, weights, strict=True)
    }


def _centered(kernel: Tensor, rows: Tensor) -> Tensor:
    """Return the kernel of some samples in double precision, centered."""
    part = kernel[rows[:, None], rows].double()
    if not len(rows):
        return part
    means = part.mean(0)
    return part - means - part.mean(1)[:, None] + means.mean()


def _read_kernels(kernels: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return kernels as tensors of one shape.

    Raises:
        DataError: If there is none, or shapes differ.
    """
    if not isinstance(kernels, Mapping) or not kernels:
        raise DataError(
            "kernels must be a dict of one or more kernels by name, got "
            f"{type(kernels).__name__ if not isinstance(kernels, Mapping) else 'none'}."
            " Give {'labs': kernel}."
        )
    tables = {name: torch.as_tensor(kernel) for name, kernel in kernels.items()}
    shapes = {name: list(table.shape) for name, table in tables.items()}
    if len({tuple(x) for x in shapes.values()}) > 1 or len(min(shapes.values())) != 2:
        raise DataError(
            f"kernels must be matrices of one shape, got {shapes}. Compute all of them "
            "for the same samples; rows of missing modalities are not read."
        )
    floating = [t if t.is_floating_point() else t.double() for t in tables.values()]
    dtype = max((t.dtype for t in floating), key=lambda dtype: dtype.itemsize)
    return {k: t.to(dtype) for k, t in zip(tables, floating, strict=True)}


def _read_present(
    subject: str,
    present: Any,  # noqa: ANN401
    count: int,
    kernel: Tensor,
    axis: int,
) -> Tensor:
    """Return presence ``[N, M]`` as a tensor.

    Raises:
        DataError: If the shape is not that of the kernels, or values are not Bool.
    """
    table = torch.as_tensor(present, device=kernel.device)
    shape = [kernel.shape[axis], count]
    if list(table.shape) != shape or table.dtype != torch.bool:
        kind = str(table.dtype).removeprefix("torch.")
        raise DataError(
            f"{subject} must have shape {shape} and type bool, got {list(table.shape)} "
            f"and {kind}. It has a column for each kernel; others is the presence in "
            "the samples of the columns, by default present."
        )
    return table


def _read_weights(
    weights: Mapping[str, float] | None, names: list[str]
) -> dict[str, float]:
    """Return the weight of each kernel.

    Raises:
        DataError: If names differ from those of the kernels, or a weight is negative.
    """
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if set(weights) != set(names):
        raise DataError(
            f"weights must have the names of the kernels, {', '.join(names)}, got "
            f"{', '.join(map(str, weights)) or 'none'}. Give each kernel one weight."
        )
    chosen = {name: float(weights[name]) for name in names}
    wrong = {k: w for k, w in chosen.items() if not (math.isfinite(w) and w >= 0)}
    if wrong:
        raise DataError(
            f"weights must be at least 0, got {wrong}. A sum of kernels with a "
            "negative weight is not a kernel."
        )
    return chosen


def _read_target(y: Any, num_samples: int) -> Tensor:  # noqa: ANN401
    """Return targets ``[N, K]`` in double precision, classes as one-hot rows.

    Raises:
        DataError: If there is not one known target for each row of the kernels.
    """
    values = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
    if len(values) != num_samples or values.ndim not in (1, 2):
        raise DataError(
            f"y must have shape [{num_samples}] as the kernels, got "
            f"{list(values.shape)}. Give one target for each row."
        )
    if values.dtype.kind == "f" or values.ndim == 2:
        target = torch.as_tensor(values.astype(np.float64)).reshape(num_samples, -1)
    else:
        codes = np.unique(values, return_inverse=True)[1].reshape(-1)
        target = torch.nn.functional.one_hot(torch.as_tensor(codes)).double()
    if not bool(target.isfinite().all()):
        raise DataError(
            "y must be known in all samples, got NaN or infinite targets. Leave these "
            "samples out."
        )
    return target


def signed_sqrt(x: Tensor) -> Tensor:
    """Return the square root of the absolute value, with the sign of the value."""
    return x.sign() * x.abs().sqrt()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances ``[N, L]`` of rows, in double precision."""
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return (squares - 2 * a @ b.T).clamp(min=0)


def mean_squared_distance(x: Tensor) -> Tensor:
    """Return the mean squared distance of rows ``[L, F]``; 1 if all are equal."""
    square = squared_distances(x, x).mean()
    return torch.where(square > 0, square, 1)


def multiscale_rbf(x: Tensor, landmarks: Tensor, spread: Tensor) -> Tensor:
    """Return a mean of Gaussian kernels with landmarks, ``[N, L]``.

    It is the mean of ``exp(-s d^2 / spread)`` over three scales s, so that no bandwidth
    has to be chosen.

    Args:
        x: ``[N, F]`` rows.
        landmarks: ``[L, F]`` rows.
        spread: Mean squared distance of rows, see :func:`mean_squared_distance`.
    """
    relative = squared_distances(x, landmarks) / spread.double()
    return torch.stack([(-s * relative).exp() for s in SCALES]).mean(0)


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
