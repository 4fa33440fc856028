"""How well a retriever finds, and a matcher tells, what belongs together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError
from mmgraph.evaluation.scenarios import Scenario

Names: TypeAlias = tuple[str, ...]


def _learned(model: Any) -> Names:  # noqa: ANN401
    names = model.schema_.modality_names
    return tuple(name for name in names if name not in model.unseen_)


def _read(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
) -> tuple[Names, MultimodalData]:
    """Return the modalities that model and data have, and these as numbers."""
    names = tuple(name for name in _learned(model) if name in data.modalities)
    return names, model.input_spec_.featurizer.transform(
        data.select(names), progress=model.verbose
    )


def _check_left(
    sides: Sequence[Names], asked: Sequence[Scenario], subject: str
) -> None:
    """Refuse patterns where what loses a modality cannot be asked any more."""
    if any(each.removes for each in asked) and all(len(side) < 2 for side in sides):
        raise ConfigError(
            f"missing must go with {subject} of several modalities: what lost its only "
            "one cannot be asked. Got one each.",
            "Name several by query=." if subject == "queries" else "",
        )


def _written(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else ", ".join(names) or "none"


IntArray = NDArray[np.int64]
CELLS = 1 << 22  # pairs of which wrong partners are drawn at once
NUM_HARD_NEGATIVES = (
    10  # wrong sides most like the right one, of which a hard one is drawn
)

BoolTable = NDArray[np.bool_]


def side_vectors(data: MultimodalData, names: tuple[str, ...]) -> NDArray[np.floating]:
    """Return the standardised features of sides, [N, F], of unit length.

    Their inner product says how alike sides are, without any model. An empty side is
    zero.

    Args:
        data: Samples whose modalities are numbers.
        names: The modalities of the side.
    """
    from mmgraph.baselines.inputs import StandardScaler

    tables = data.select(names).features().values()
    x = np.concatenate([StandardScaler.fit(t).filled(t) for t in tables], axis=1)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def draw_partners(
    wrong: Callable[[slice], BoolTable],
    vectors: NDArray[np.floating],
    seed: int,
    alike: Callable[[slice], BoolTable] | None = None,
) -> dict[str, IntArray]:
    """Draw wrong partners for each sample.

    Args:
        wrong: For some of the samples, which samples are wrong partners of each,
            Bool [n, N].
        vectors: How alike right sides are, by their inner product, [N, F].
        seed: Of the lot.
        alike: In the same form, which samples have the same label; None: no labels.

    Returns:
        The samples [N] whose right sides are the wrong partners, -1 where there is
        none: "random"; "similar", one of the NUM_HARD_NEGATIVES wrong ones most like the right one;
        and, with labels, "same label".
    """
    rng, count = np.random.default_rng(seed), len(vectors)
    kinds = ["random", "similar"] + ["same label"] * (alike is not None)
    drawn = {kind: np.full(count, -1, dtype=np.int64) for kind in kinds}
    size = max(1, CELLS // max(count, 1))
    for part in (slice(i, i + size) for i in range(0, count, size)):
        allowed = {"random": wrong(part)}
        near = np.where(allowed["random"], vectors[part] @ vectors.T, -2)
        least = np.partition(near, max(count - NUM_HARD_NEGATIVES, 0), axis=1)
        limit = least[:, max(count - NUM_HARD_NEGATIVES, 0)][:, None]
        allowed["similar"] = allowed["random"] & (near >= limit)
        if alike is not None:
            allowed["same label"] = allowed["random"] & alike(part)
        lot = rng.random(near.shape)
        for kind, those in allowed.items():
            chosen = np.where(those, lot, -1).argmax(axis=1)
            drawn[kind][part] = np.where(those.any(axis=1), chosen, -1)
    return drawn


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


def content_ids(data: MultimodalData, names: Sequence[str]) -> IntArray:
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


def first_unique(numbers: NDArray[Any]) -> IntArray:
    """Return the first sample of each number that is not -1, in the order of samples.

    Example:
        >>> import numpy as np
        >>> from mmgraph.evaluation.pairs import first_unique
        >>> first_unique(np.array([2, -1, 2, 0])).tolist()
        [0, 3]
    """
    found, first = np.unique(numbers, return_index=True)
    return np.sort(first[found != -1]).astype(np.int64)


def relevance_matrix(queries: IntArray, gallery: IntArray, keys: IntArray) -> Any:  # noqa: ANN401
    """Which contents belong together: those that some key has on both sides.

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
        >>> from mmgraph.evaluation.pairs import relevance_matrix
        >>> sample = np.arange(3)
        >>> relevance_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), sample).toarray()
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
