"""Metrics of alignment: how well rows of two modalities match in one space.

Letters: `N` samples, `D` width, `L` and `K` pairs of positions.

Row i of both inputs is the same sample. A row that is all NaN is missing; samples that
lack one of both are not counted. Without any counted sample, metrics are nan.
"""

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.validation import Array, check_arrays

FloatArray = NDArray[np.float64]


def foscttm(a: Array, b: Array) -> float:
    """Return the fraction of samples closer than the true match.

    For each row, the share of the other samples whose row of the other modality is
    closer than that of the same sample; the mean of both directions. Equal distances
    count half, so that rows that are all equal score 0.5.

    References:
        Jointly Embedding Multiple Single-Cell Omics Measurements. Liu, Huang, Singh,
        Vert, Noble, 2019.

    Args:
        a: Rows of one modality, [N, D].
        b: Rows of the same samples in another modality, in the same space, [N, D].

    Returns:
        A value in [0, 1]; 0 is best, 0.5 is chance; nan for fewer than two samples.

    Raises:
        DataError: If shapes differ or a row is partly NaN.

    Example:
        >>> import numpy as np
        >>> a = np.array([[0.0], [1.0], [2.0]])
        >>> metrics.foscttm(a, a), metrics.foscttm(a, np.ones((3, 1)))
        (0.0, 0.5)
    """
    from scipy.spatial.distance import cdist

    a, b = _both(*_rows(a, b, same_width=True))
    if len(a) < 2:
        return float("nan")
    distance = cdist(a, b, "sqeuclidean")
    own = np.diag(distance)
    shares = []
    for table in (
        distance.T,
        distance,
    ):  # each column: one row against all of the other
        rank = (table < own).sum(axis=0) + ((table == own).sum(axis=0) - 1) / 2
        shares.append(rank.mean() / (len(a) - 1))
    return float(np.mean(shares))


def linear_cka(x: Array, y: Array) -> float:
    """Return the linear centered kernel alignment of two sets of features.

    It does not depend on rotations and on the scale of either side, whose widths may
    differ.

    References:
        Similarity of Neural Network Representations Revisited. Kornblith, Norouzi, Lee,
        Hinton, 2019.

    Args:
        x: Features of one modality, [N, F].
        y: Features of the same samples, [N, G].

    Returns:
        A value in [0, 1]; 1 if the features are equal up to rotation and scale; nan if
        those of one side are constant.

    Raises:
        DataError: If lengths differ or a row is partly NaN.

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> round(metrics.linear_cka(x, 3 * x[:, ::-1]), 3)
        1.0
    """
    x, y = _both(*_rows(x, y))
    if not len(x):
        return float("nan")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    if scale == 0:
        return float("nan")
    return float(np.linalg.norm(x.T @ y) ** 2 / scale)


def label_transfer(a: Array, y: Array, b: Array, *, k: int = 5) -> float:
    """Return the accuracy of classes that are transferred between two modalities.

    The class of each row of `b` is predicted by the majority of the nearest rows of
    `a`; the class of the nearest one decides among classes with equally many.

    Args:
        a: Rows with known classes, [N, D].
        y: Classes of the samples, numbers or strings, [N].
        b: Rows of the same samples in another modality, in the same space, [N, D].
        k: Number of nearest rows.

    Returns:
        Share of the rows of `b` whose class is predicted correctly; nan without rows.

    Raises:
        ConfigError: If k is below 1.
        DataError: If shapes differ or a row is partly NaN.

    Example:
        >>> import numpy as np
        >>> a = np.array([[0.0], [0.1], [2.0]])
        >>> metrics.label_transfer(a, np.array([0, 0, 1]), a + 0.2, k=1)
        1.0
    """
    from scipy.spatial.distance import cdist

    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}. The default is 5.")
    a, b = _rows(a, b, same_width=True)
    check_arrays(y=y)
    if y.shape != (len(a),):
        raise DataError(
            f"y must have one class per sample, [{len(a)}], got {list(y.shape)}. Give "
            "the classes of the rows."
        )
    classes, codes = np.unique(y, return_inverse=True)
    known, queries = _present(a), _present(b)
    if not known.any() or not queries.any():
        return float("nan")
    distance = cdist(b[queries], a[known], "sqeuclidean")
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    found = codes[known][nearest]
    weight = 1 + (nearest.shape[1] - np.arange(nearest.shape[1])) / (1e3 * k)
    votes = np.stack([(found == c) @ weight for c in range(len(classes))], axis=1)
    return float((votes.argmax(axis=1) == codes[queries]).mean())


def uniformity_alignment(a: Array, b: Array) -> tuple[float, float]:
    """Return uniformity and alignment of embeddings of two modalities.

    With rows scaled to unit length, alignment is the mean squared distance of the two
    rows of a sample, and uniformity the logarithm of the mean of ``exp(-2 d^2)`` over
    pairs of different samples, averaged over both modalities. Lower is better for both:
    embeddings that are all equal have the alignment 0 and the uniformity 0.

    References:
        Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere. Wang, Isola, 2020.

    Args:
        a: Embeddings of one modality, [N, D].
        b: Embeddings of the same samples in another modality, [N, D].

    Returns:
        Uniformity, at most 0, and alignment, in [0, 4]; nan for fewer than two samples.

    Raises:
        DataError: If shapes differ or a row is partly NaN.

    Example:
        >>> import numpy as np
        >>> metrics.uniformity_alignment(np.eye(2), np.eye(2))
        (-4.0, 0.0)
    """
    from scipy.spatial.distance import pdist

    sides = [_unit(rows) for rows in _both(*_rows(a, b, same_width=True))]
    if len(sides[0]) < 2:
        return float("nan"), float("nan")
    alignment = ((sides[0] - sides[1]) ** 2).sum(axis=1).mean()
    means = [np.exp(-2 * pdist(rows, "sqeuclidean")).mean() for rows in sides]
    return float(np.log(means).mean()), float(alignment)


def warping_error(path: Array, truth: Array) -> float:
    """Return the mean absolute distance between a warping path and true positions.

    Args:
        path: Pairs of positions in the first and the second recording, frames or
            seconds, not decreasing, [L, 2].
        truth: Pairs of positions that correspond, in the same unit, [K, 2].

    Returns:
        Mean over the true pairs of the distance between the second position and that of
        the path, which is interpolated linearly; where the path has several second
        positions for a first one, their mean counts.

    Raises:
        DataError: If a shape is not [L, 2], or positions are NaN or decrease.

    Example:
        >>> import numpy as np
        >>> path = np.array([[0, 0], [1, 2], [2, 4]])
        >>> metrics.warping_error(path, np.array([[1, 2], [2, 3]]))
        0.5
    """
    tables = []
    for name, table in (("path", path), ("truth", truth)):
        check_arrays(**{name: table})
        positions = np.asarray(table, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise DataError(
                f"{name} must have shape [L, 2], got {list(positions.shape)}. Give one "
                "pair of positions per row."
            )
        tables.append(positions)
    path, truth = tables
    if not len(path) or not len(truth):
        return float("nan")
    if not (np.diff(path, axis=0) >= 0).all() or np.isnan(path).any():
        raise DataError(
            "path must have positions that do not decrease, got others. Sort its rows."
        )
    first, number = np.unique(path[:, 0], return_inverse=True)
    second = np.bincount(number, path[:, 1]) / np.bincount(number)
    found = np.interp(truth[:, 0], first, second)
    return float(np.abs(found - truth[:, 1]).mean())


def _rows(
    a: Array, b: Array, *, same_width: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return both sides as rows of one length."""
    check_arrays(a=a, b=b)
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    shapes = f"{list(left.shape)} and {list(right.shape)}"
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right):
        raise DataError(
            f"Both sides must have one row per sample, got {shapes}. Use NaN for "
            "missing rows."
        )
    if same_width and left.shape[1] != right.shape[1]:
        raise DataError(
            f"Both sides must have the same width, got {shapes}. Map them into one "
            "space, for example by mmgraph.alignment.CCA."
        )
    for rows in (left, right):
        if (np.isnan(rows).any(axis=1) & _present(rows)).any():
            raise DataError(
                "Rows must have no NaN, or only NaN if missing, got some of each. "
                "Impute the cells."
            )
    return left, right


def _present(rows: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(rows).all(axis=1))


def _both(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rows of samples that have both."""
    kept = _present(a) & _present(b)
    return a[kept], b[kept]


def _unit(rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))
