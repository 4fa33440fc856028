"""Dynamic time warping of two recordings.

Letters: ``T`` and ``S`` rows of the recordings, ``C`` channels, ``L`` steps of a path.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mmgraph.alignment.rows import FloatArray, as_rows, observed
from mmgraph.data.column import as_entries
from mmgraph.errors import ConfigError, DataError
from mmgraph.losses.warping import soft_dtw
from mmgraph.typing import ArrayLike

IntArray = npt.NDArray[np.int64]

MOST_CELLS = 1 << 25  # of a cost matrix: about 2 GB of memory


@dataclass(frozen=True, eq=False)
class Warping:
    """Best alignment of two recordings; see :func:`dtw`.

    Attributes:
        distance: Square root of the sum of the costs along the path.
        path: ``[L, 2]`` matched rows of x and y, both ascending.
        cost: ``[T, S]`` squared distances of all rows; NaN where a row is missing.
    """

    distance: float
    path: IntArray
    cost: FloatArray


def dtw(
    x: ArrayLike,
    y: ArrayLike,
    *,
    band: float | int | None = None,
    subsequence: bool = False,
) -> Warping:
    """Align two recordings by dynamic time warping.

    The path matches the first and the last rows of both, moves by at most one row of
    each, and has the least sum of squared Euclidean distances. It is the hard limit of
    :func:`mmgraph.losses.soft_dtw`.

    References:
        Dynamic Programming Algorithm Optimization for Spoken Word Recognition, Sakoe,
        Chiba, 1978. Information Retrieval for Music and Motion, Müller, 2007 (the
        subsequence).

    Args:
        x: Recording ``[T, C]`` or ``[T]``. A row that is all NaN is a missing one: the
            path omits it.
        y: Recording ``[S, C]`` or ``[S]`` of the same channels.
        band: Largest difference of relative positions, from 0 to 1: a share of the
            longer recording. Default: paths are free.
        subsequence: Match all of x with that part of y to which it is most similar.

    Returns:
        The distance, the path in rows of x and y, and the costs.

    Raises:
        ConfigError: If ``band`` is not between 0 and 1, or a subsequence has a band.
        DataError: If a recording has no row, is not finite, has other channels or too
            many rows, or no path fits the band.

    Example:
        >>> from mmgraph.alignment import dtw
        >>> warping = dtw([0.0, 1.0, float("nan"), 5.0], [0.0, 0.0, 1.0, 4.0])
        >>> warping.distance, warping.path.tolist()
        (1.0, [[0, 0], [0, 1], [1, 2], [3, 3]])
    """
    if subsequence and band is not None:
        raise ConfigError(
            f"band must be None for a subsequence, whose place in y is free, got"
            f" {band!r}.",
            parameter="band",
        )
    a, b = _read_rows("x", x), _read_rows("y", y)
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"x and y must have the same channels, got {a.shape[1]} and {b.shape[1]}."
        )
    rows, columns = (np.flatnonzero(observed(each)) for each in (a, b))
    if len(rows) * len(columns) > MOST_CELLS:
        raise DataError(
            f"x and y must have at most {MOST_CELLS} pairs of rows, got {len(rows)} x"
            f" {len(columns)}. Average neighboring rows, or cut the recordings."
        )
    pair = [torch.from_numpy(each) for each in (a[rows], b[columns])]
    exact = "donot_use_mm_for_euclid_dist"
    cost = torch.cdist(pair[0], pair[1], compute_mode=exact).square()
    distance, path = _best_path(cost, band, subsequence)
    every = np.full((len(a), len(b)), np.nan)
    every[np.ix_(rows, columns)] = cost.numpy()
    return Warping(
        distance, np.stack([rows[path[:, 0]], columns[path[:, 1]]], 1), every
    )


def _best_path(
    cost: torch.Tensor, band: float | None, subsequence: bool
) -> tuple[float, IntArray]:
    """Return the distance of the best path, and its cells ``[L, 2]``.

    The gradient of DTW is 1 at the cells of the path. For a subsequence, a row without
    cost before the first row and one behind the last make the ends of y free.
    """
    around = int(subsequence)
    padded = torch.nn.functional.pad(cost, (0, 0, around, around)).requires_grad_()
    with torch.enable_grad():
        total = soft_dtw(padded[None], gamma=0.0, band=band).sum()
        (gradient,) = torch.autograd.grad(total, padded)
    inner = gradient[around : len(gradient) - around]
    return float(total.detach().clamp(min=0).sqrt()), inner.nonzero().numpy()


def _read_rows(name: str, content: ArrayLike) -> FloatArray:
    """Return a recording ``[T, C]``; raise DataError for anything else."""
    entries = as_entries(content)
    if entries.ndim == 1 and entries.dtype == object:
        x = as_rows(name, [each if np.ndim(each) else [each] for each in entries])
    else:
        x = as_rows(name, entries[:, None] if entries.ndim == 1 else entries)
    known = observed(x)
    if not known.any():
        raise DataError(
            f"{name} must have a row with a number, got none of {len(x)} rows.",
            parameter=name,
        )
    if np.isnan(x[known]).any():
        raise DataError(
            f"{name} must have no NaN in rows that are not missing, got some. Fill"
            " single cells, or set their rows to NaN.",
            parameter=name,
        )
    return x
