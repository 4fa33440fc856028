"""What the scores ask of their arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import DataError

Array = NDArray[Any]


def check_rows(y: Array, predicted: Array) -> None:
    """Refuse predictions of another shape than y.

    Raises:
        DataError: If the shapes differ.
    """
    if y.shape != predicted.shape:
        raise DataError(
            f"predictions must have the shape of y, {list(y.shape)}, "
            f"got {list(predicted.shape)}. Score the samples that were predicted."
        )


def check_proba(y: Array, proba: Array) -> None:
    """Refuse what is not codes [N] with probabilities [N, K].

    Raises:
        DataError: If shapes, codes or probabilities are wrong.
    """
    if y.ndim != 1 or proba.ndim != 2 or len(y) != len(proba):
        raise DataError(
            f"proba must have shape [N, K] for y of shape [N], got "
            f"{list(proba.shape)} for {list(y.shape)}. Give one column per class."
        )
    if len(y) == 0:
        return
    if y.min() < 0 or y.max() >= proba.shape[1]:
        raise DataError(
            f"y must hold codes 0..{proba.shape[1] - 1}, got {y.min()}..{y.max()}. "
            "Exclude samples without a label and encode the classes."
        )
    if not np.allclose(proba.sum(axis=1), 1, atol=1e-3) or proba.min() < 0:
        raise DataError(
            "proba must be finite, not negative and sum to 1 in each row, got rows "
            "that are not. Give probabilities, not logits."
        )
