"""Tables of similarity between the rows of two modalities."""

import numpy as np

from mmgraph.alignment.rows import FloatArray, as_rows, observed
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike


def similarity(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Return the cosine of each row of one modality with each row of another.

    The rows must be in one space, such as the variates of
    :class:`mmgraph.alignment.CCA`.

    Args:
        a: ``[N, D]`` rows, NaN where missing.
        b: ``[G, D]`` rows, NaN where missing.

    Returns:
        ``[N, G]`` cosines in [-1, 1]; NaN where either row is missing, 0 for a row of
        zeros.

    Raises:
        DataError: If the widths differ, or a row is partly NaN.

    Example:
        >>> from mmgraph.alignment import similarity
        >>> nan = float("nan")
        >>> similarity([[2.0, 0.0], [nan, nan]], [[1.0, 0.0], [0.0, 1.0]])
        array([[ 1.,  0.],
               [nan, nan]])
    """
    left, right = as_rows("a", a), as_rows("b", b)
    if left.shape[1] != right.shape[1]:
        raise DataError(
            f"a and b must have the same width, got {left.shape[1]} and "
            f"{right.shape[1]}. Map both into one space, for example by "
            "mmgraph.alignment.CCA."
        )
    table = _unit("a", left) @ _unit("b", right).T
    both = observed(left)[:, None] & observed(right)
    return np.where(both, np.clip(table, -1, 1), np.nan)


def _unit(subject: str, rows: FloatArray) -> FloatArray:
    """Return rows scaled to unit length; missing rows become zero."""
    partly = np.isnan(rows).any(axis=1) & observed(rows)
    if partly.any():
        raise DataError(
            f"{subject} must have rows without NaN, or all NaN if missing, got NaN in "
            f"row {int(partly.argmax())}. Impute the cells."
        )
    known = np.where(np.isnan(rows), 0, rows)
    largest = np.abs(known).max(axis=1, keepdims=True)  # huge values overflow squared
    scaled = known / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0, length, 1))
