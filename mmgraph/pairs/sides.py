"""Sides of samples: what they hold, and which belong together.

Letters: `N` samples, `Q` and `G` contents of two sides, `K` keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Direction:
    """From which modalities which others are looked for.

    Attributes:
        source: Modalities of the query, or of the left side.
        target: Modalities of the gallery, or of the right side.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'+'.join(self.source)} to {'+'.join(self.target)}"


def has_any(data: MultimodalData, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which samples have at least one of the modalities, [N]."""
    return np.asarray(data.select(names).present.any(axis=1))


def contents(data: MultimodalData, names: Sequence[str]) -> IntArray:
    """Number the distinct contents of a side, [N]; -1 where it is empty.

    Two sides are the same where all their numbers are, to the bit.

    Args:
        data: Samples whose modalities are numbers.
        names: The modalities of the side.
    """
    rows = np.flatnonzero(has_any(data, names))
    numbers = np.full(len(data), -1, dtype=np.int64)
    tables = data.select(names).features().values()
    bits = np.concatenate(list(tables), axis=1)[rows].view(np.uint32)
    numbers[rows] = np.unique(bits, axis=0, return_inverse=True)[1].ravel()
    return numbers


def firsts(numbers: NDArray[Any]) -> IntArray:
    """Return the first sample of each number that is not -1, in the order of samples.

    Example:
        >>> import numpy as np
        >>> from mmgraph.pairs import firsts
        >>> firsts(np.array([2, -1, 2, 0])).tolist()
        [0, 3]
    """
    found, first = np.unique(numbers, return_index=True)
    return np.sort(first[found != -1]).astype(np.int64)


def related(queries: IntArray, gallery: IntArray, keys: IntArray) -> Any:  # noqa: ANN401
    """Tell which contents belong together: those that some key has on both sides.

    With the number of the sample as key these are the sides of one sample, of which
    other samples may have the same content; with the number of a class, all sides of
    samples of one class.

    Args:
        queries: Number of the content of one side of each sample, [N]; -1 is none.
        gallery: The same of the other side, [N].
        keys: What belongs together has the same number, [N]; -1 is unknown.

    Returns:
        A sparse table [Q, G] of integers above 0 where contents belong together; Q and
        G are one more than the largest numbers.

    Example:
        >>> import numpy as np
        >>> from mmgraph.pairs import related
        >>> sample = np.arange(3)
        >>> related(np.array([0, 1, 1]), np.array([0, 0, 1]), sample).toarray()
        array([[1, 0],
               [1, 1]])
    """
    num_keys = int(keys.max(initial=-1)) + 1
    return _incidence(queries, keys, num_keys) @ _incidence(gallery, keys, num_keys).T


def _incidence(numbers: IntArray, keys: IntArray, num_keys: int) -> Any:  # noqa: ANN401
    from scipy.sparse import csr_matrix

    known = (numbers >= 0) & (keys >= 0)
    shape = int(numbers.max(initial=-1)) + 1, num_keys
    ones = np.ones(int(known.sum()), dtype=np.int64)
    table = csr_matrix((ones, (numbers[known], keys[known])), shape=shape)
    table.data[:] = 1  # repeated cells were added up
    return table
