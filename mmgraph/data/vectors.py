"""Vectors that stand for samples: embeddings, from whatever holds them.

Shapes: N samples, D width.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.errors import DataError


def as_vectors(
    subject: str,
    vectors: Any,  # noqa: ANN401
    *,
    width: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return ``[N, D]`` numbers.

    Args:
        subject: Their name in messages.
        vectors: [N, D], or one [D], an array, tensor or lists.
        width: D, or None for any.

    Raises:
        DataError: If they are no numbers, or the shape is another.
    """
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().float().cpu().numpy()
    try:
        x = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError):
        raise DataError(
            f"{subject} must be vectors of numbers, got {type(vectors).__name__}. "
            "Embed what they stand for first."
        ) from None
    if x.ndim != 2 or not x.shape[1] or (width is not None and x.shape[1] != width):
        wanted = "D" if width is None else width
        raise DataError(
            f"{subject} must have shape [N, {wanted}], got {list(np.shape(vectors))}. "
            "Embed them with the same model."
        )
    return x
