"""Validation of the arguments of metrics."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import DataError

Array = NDArray[Any]


def check_rows(y: Array, predicted: Array) -> None:
    """Check that predictions have the shape and the type of y.

    Raises:
        DataError: If one is not an array, or shapes or types differ.
    """
    check_arrays(y=y, predictions=predicted)
    if y.shape != predicted.shape:
        raise DataError(
            f"predictions must have the shape of y, {list(y.shape)}, "
            f"got {list(predicted.shape)}. Score the samples that were predicted."
        )
    if y.size and is_text(y) != is_text(predicted):
        kinds = ("strings", "numbers") if is_text(predicted) else ("numbers", "strings")
        raise DataError(
            f"predictions must be of the type of y, got {kinds[0]} for {kinds[1]}. "
            "Convert one of them."
        )


def check_labels(y: Array, predicted: Array) -> None:
    """Check that predictions have the shape of y, and that all numbers are finite.

    Raises:
        DataError: If shapes or types differ, or there is NaN or infinity.
    """
    check_rows(y, predicted)
    _check_finite(y=y, predictions=predicted)


def check_targets(y: Array, predicted: Array) -> None:
    """Check that y and predictions are finite numbers [N] or [N, K] of one shape.

    Raises:
        DataError: If shapes differ, or there are strings, NaN or infinity.
    """
    check_rows(y, predicted)
    for name, array in (("y", y), ("predictions", predicted)):
        known = np.asarray(array)
        if known.dtype.kind not in "fiub" or known.ndim not in (1, 2):
            raise DataError(
                f"{name} must be numbers of shape [N] or [N, K], got {known.dtype} of "
                f"shape {list(known.shape)}. Convert them first."
            )
    _check_finite(y=y, predictions=predicted)


def _check_finite(**arrays: Array) -> None:
    for name, array in arrays.items():
        known = np.asarray(array)
        if known.dtype.kind == "f" and not np.isfinite(known).all():
            raise DataError(
                f"{name} must be finite, got NaN or infinity. Exclude samples without "
                "a label."
            )


def check_arrays(**arrays: Array) -> None:
    """Check that arguments are arrays.

    Args:
        arrays: Arguments by name, for the message.

    Raises:
        DataError: If one has no shape.
    """
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise DataError(
                f"{name} must be an array, got {type(array).__name__}. Convert it "
                "by numpy.asarray."
            )


def is_text(array: Array) -> bool:
    """Return True if entries are strings; entries of None are ignored."""
    known = np.asarray(array)
    if known.dtype == object:
        return any(isinstance(entry, str) for entry in known.flat)
    return known.dtype.kind in "US"


def check_proba(y: Array, proba: Array) -> NDArray[np.int64]:
    """Return y as integer codes; check codes [N] and probabilities [N, K].

    Booleans become the codes 0 and 1, because they would select rows as an index.
    Floats are accepted if they are whole numbers.

    Returns:
        Codes, int64 [N].

    Raises:
        DataError: If shapes, codes or probabilities are invalid.
    """
    check_arrays(y=y, proba=proba)
    if y.ndim != 1 or proba.ndim != 2 or len(y) != len(proba):
        raise DataError(
            f"proba must have shape [N, K] for y of shape [N], got "
            f"{list(proba.shape)} for {list(y.shape)}. Give one column per class."
        )
    if len(y) == 0:
        return np.zeros(0, dtype=np.int64)
    codes = _as_codes(y, proba.shape[1])
    if not _is_distribution(np.asarray(proba)):
        raise DataError(
            "proba must be finite, not negative and sum to 1 in each row, got rows "
            "that are not. Give probabilities, not logits."
        )
    return codes


def _as_codes(y: Array, num_classes: int) -> NDArray[np.int64]:
    codes = np.asarray(y)
    if codes.dtype.kind not in "iubf" or np.mod(codes, 1).any():
        raise DataError(
            f"y must hold codes 0..{num_classes - 1} as whole numbers or booleans, got "
            f"{codes.dtype}. Exclude samples without a label and encode the classes."
        )
    if codes.min() < 0 or codes.max() >= num_classes:
        raise DataError(
            f"y must hold codes 0..{num_classes - 1}, got {codes.min()}..{codes.max()}."
            " Exclude samples without a label and encode the classes."
        )
    return codes.astype(np.int64)


def _is_distribution(proba: Array) -> bool:
    if proba.dtype.kind not in "fiub":
        return False
    return bool(np.allclose(proba.sum(axis=1), 1, atol=1e-3) and proba.min() >= 0)
