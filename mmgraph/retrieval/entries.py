"""Validation of the ids and vectors of an index."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data.targets import as_metadata, check_unique
from mmgraph.data.validation import as_vectors
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike

_LARGEST = np.iinfo(np.int64).max


def as_unit_vectors(
    subject: str,
    vectors: ArrayLike,
    *,
    width: int | None = None,
) -> NDArray[np.float32]:
    """Return vectors scaled to unit length; an all-NaN row is unchanged.

    Args:
        subject: Name of the vectors in messages.
        vectors: [N, D], or a single vector [D]: an array, a tensor or lists.
        width: Required width D; None accepts any.

    Returns:
        [N, D].

    Raises:
        DataError: If the shape is invalid, or a row is zero, infinite or partly NaN.
    """
    x = as_vectors(subject, vectors, width=width)
    # divide by the largest first, so that tiny or huge values do not under- or overflow
    largest = np.abs(x).max(axis=1, keepdims=True)
    bad = ~(np.isfinite(largest) & (largest > 0))[:, 0] & ~is_missing(x)
    if bad.any():
        raise DataError(
            f"{subject} must be finite and not zero, or all NaN if missing, got an "
            f"invalid vector in row {np.flatnonzero(bad)[0]}."
        )
    scaled = x / largest
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def is_missing(x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return True for rows that are all NaN, [N]."""
    return np.asarray(np.isnan(x).all(axis=1))


def check_ids(ids: ArrayLike, num_entries: int) -> NDArray[Any]:
    """Return ids as int64 or strings.

    Args:
        ids: Unique integers or strings.
        num_entries: Required number of ids.

    Raises:
        DataError: If ids repeat, are missing, have another type or number, or cannot be
            saved.
    """
    array = as_metadata("ids", ids, num_entries)
    if len(array) and array.dtype.kind not in "iuU":
        raise DataError(
            f"ids must be integers or strings, got {array.dtype}. Convert them."
        )
    if len(array) and array.dtype.kind == "u" and array.max() > _LARGEST:
        raise DataError(
            f"ids must be integers of at most {_LARGEST}, got {array.max()}. "
            "Convert them to strings."
        )
    check_unique(array)
    if array.dtype.kind == "U":
        _check_text(array)
        return array
    return array.astype(np.int64)


def _check_text(ids: NDArray[Any]) -> None:
    """Check that strings can be encoded as UTF-8: they have no lone surrogates."""
    for text in ids.tolist():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"ids must be strings that UTF-8 can encode, got {text!r}. Remove lone "
                "surrogates, or read the text in its actual encoding."
            ) from None
