"""What the index takes: unique ids, and rows of unit length or nothing at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data.targets import as_metadata, check_unique
from mmgraph.data.validation import as_vectors
from mmgraph.errors import DataError

_LARGEST = np.iinfo(np.int64).max


def as_directions(
    subject: str,
    vectors: Any,  # noqa: ANN401
    *,
    width: int | None = None,
) -> NDArray[np.float32]:
    """Return rows of unit length; an all-NaN row stays.

    Args:
        subject: Their name in messages.
        vectors: [N, D], or one [D], an array, tensor or lists.
        width: D, or None for any.

    Raises:
        DataError: If the shape is another, or a row is zero, infinite or partly NaN.
    """
    x = as_vectors(subject, vectors, width=width)
    # divided by the largest first: a tiny or huge row has a direction, too
    largest = np.abs(x).max(axis=1, keepdims=True)
    bad = ~(np.isfinite(largest) & (largest > 0))[:, 0] & ~is_nothing(x)
    if bad.any():
        raise DataError(
            f"{subject} must be finite and not zero, or all NaN for nothing, got row "
            f"{np.flatnonzero(bad)[0]} otherwise."
        )
    scaled = x / largest
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def is_nothing(x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows are all NaN, [N]."""
    return np.asarray(np.isnan(x).all(axis=1))


def check_ids(ids: Any, num_entries: int) -> NDArray[Any]:  # noqa: ANN401
    """Return unique ids as int64 or strings.

    Raises:
        DataError: If they repeat, are missing, of another type or number, or cannot
            be saved.
    """
    array = as_metadata("ids", ids, num_entries)
    if len(array) and array.dtype.kind not in "iuU":
        raise DataError(
            f"ids must be whole numbers or strings, got {array.dtype}. Convert them."
        )
    if len(array) and array.dtype.kind == "u" and array.max() > _LARGEST:
        raise DataError(
            f"ids must be whole numbers of at most {_LARGEST}, got {array.max()}. "
            "Give them as strings."
        )
    check_unique(array)
    if array.dtype.kind == "U":
        _check_text(array)
        return array
    return array.astype(np.int64)


def _check_text(ids: NDArray[Any]) -> None:
    """Refuse strings that no file can hold: with half of a pair of surrogates."""
    for text in ids.tolist():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"ids must be strings that UTF-8 can write, got {text!r}. Remove its "
                "surrogates, or read the text with its right encoding."
            ) from None
