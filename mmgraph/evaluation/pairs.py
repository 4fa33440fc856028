"""Pairs of sides: negatives, equal contents and relevance, for retrieval and matching.

Letters: `N` samples, `F` features of one side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.errors import Argument, ConfigError
from mmgraph.evaluation.scenarios import Scenario

Names: TypeAlias = tuple[str, ...]
IntArray = NDArray[np.int64]
BoolTable = NDArray[np.bool_]

CELLS = 1 << 22  # candidate pairs per block of negative sampling
NUM_HARD_NEGATIVES = 10  # nearest wrong sides that a hard negative is drawn from


def trained_modalities(model: Any) -> Names:  # noqa: ANN401
    """Return the modalities that a fitted model has seen in training."""
    names = model.schema_.modality_names
    return tuple(name for name in names if name not in model.unseen_)


def read_features(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
) -> tuple[Names, MultimodalData]:
    """Return the modalities that model and data share, and the data as features."""
    names = tuple(name for name in trained_modalities(model) if name in data.modalities)
    return names, model.input_spec_.featurizer.transform(
        data.select(names), progress=model.verbose
    )


def check_removable(
    sides: Sequence[Names], scenarios: Sequence[Scenario], subject: str
) -> None:
    """Refuse scenarios in which every affected side would be empty.

    Raises:
        ConfigError: If modalities are removed from sides of one modality each.
    """
    if any(each.removes for each in scenarios) and all(len(side) < 2 for side in sides):
        raise ConfigError(
            f"missing must go with {subject} of several modalities, got one each: "
            "without its only modality a side is empty.",
            ("Name several by ", Argument("query"), ".")
            if subject == "queries"
            else "",
            parameter="missing",
        )


def join_names(names: str | Sequence[str]) -> str:
    """Return names separated by commas, "none" for an empty list."""
    return names if isinstance(names, str) else ", ".join(names) or "none"


def side_vectors(data: MultimodalData, names: tuple[str, ...]) -> NDArray[np.floating]:
    """Return the standardized features of sides, [N, F], scaled to unit length.

    Their inner product is a similarity that depends on no model. An empty side is zero.

    Args:
        data: Samples whose modalities are numbers.
        names: Modalities of the side.
    """
    from mmgraph.baselines.inputs import StandardScaler

    tables = data.select(names).features().values()
    x = np.concatenate([StandardScaler.fit(t).filled(t) for t in tables], axis=1)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def draw_negatives(
    wrong: Callable[[slice], BoolTable],
    vectors: NDArray[np.floating],
    seed: int,
    same_label: Callable[[slice], BoolTable] | None = None,
) -> dict[str, IntArray]:
    """Draw negatives for each sample.

    Args:
        wrong: Function from a slice of samples to the samples that are negatives of
            each, Bool [n, N].
        vectors: Vectors of the right sides, [N, F]; their inner product is the
            similarity that hard negatives are chosen by.
        seed: Seed of the draw.
        same_label: Function of the same form: the samples with the same label; None
            without labels.

    Returns:
        By kind, the samples [N] whose right sides are the negatives, -1 where there is
        none: "random"; "similar", one of the `NUM_HARD_NEGATIVES` negatives most
        similar to the right side; and, with labels, "same label".
    """
    rng, count = np.random.default_rng(seed), len(vectors)
    kinds = ["random", "similar"] + ["same label"] * (same_label is not None)
    drawn = {kind: np.full(count, -1, dtype=np.int64) for kind in kinds}
    size = max(1, CELLS // max(count, 1))
    for part in (slice(i, i + size) for i in range(0, count, size)):
        allowed = {"random": wrong(part)}
        similarity = np.where(allowed["random"], vectors[part] @ vectors.T, -2)
        place = max(count - NUM_HARD_NEGATIVES, 0)
        limit = np.partition(similarity, place, axis=1)[:, place][:, None]
        allowed["similar"] = allowed["random"] & (similarity >= limit)
        if same_label is not None:
            allowed["same label"] = allowed["random"] & same_label(part)
        priority = rng.random(similarity.shape)
        for kind, candidates in allowed.items():
            chosen = np.where(candidates, priority, -1).argmax(axis=1)
            drawn[kind][part] = np.where(candidates.any(axis=1), chosen, -1)
    return drawn


@dataclass(frozen=True)
class Direction:
    """Direction of retrieval or matching, from modalities to other modalities.

    Attributes:
        source: Modalities of the query, or of the left side.
        target: Modalities of the gallery, or of the right side.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'+'.join(self.source)} to {'+'.join(self.target)}"


def has_any(data: MultimodalData, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return whether each sample has at least one of the modalities, [N]."""
    return np.asarray(data.select(names).present.any(axis=1))


def content_ids(data: MultimodalData, names: Sequence[str]) -> IntArray:
    """Return an identifier of the content of each side, [N]; -1 where it is empty.

    Two sides have the same identifier if all their numbers are equal bit for bit.

    Args:
        data: Samples whose modalities are numbers.
        names: Modalities of the side.
    """
    rows = np.flatnonzero(has_any(data, names))
    numbers = np.full(len(data), -1, dtype=np.int64)
    tables = data.select(names).features().values()
    bits = np.concatenate(list(tables), axis=1)[rows].view(np.uint32)
    numbers[rows] = np.unique(bits, axis=0, return_inverse=True)[1].ravel()
    return numbers


def first_unique(numbers: NDArray[Any]) -> IntArray:
    """Return the first sample of each identifier other than -1, in increasing order.

    Example:
        >>> import numpy as np
        >>> from mmgraph.evaluation.pairs import first_unique
        >>> first_unique(np.array([2, -1, 2, 0])).tolist()
        [0, 3]
    """
    unique, first = np.unique(numbers, return_index=True)
    return np.sort(first[unique != -1]).astype(np.int64)


def relevance_matrix(queries: IntArray, gallery: IntArray, keys: IntArray) -> Any:  # noqa: ANN401
    """Return which contents are relevant to each other, as a sparse matrix.

    A query content and a gallery content are relevant to each other if some key occurs
    with both. With the number of the sample as key, these are the two sides of one
    sample (and equal contents of other samples); with a class as key, all sides of
    samples of one class.

    Args:
        queries: Content identifier of the query side of each sample, [N]; -1 is none.
        gallery: Content identifier of the gallery side of each sample, [N].
        keys: Key of each sample, [N]; samples with equal keys belong together, -1 is
            unknown.

    Returns:
        Sparse matrix [Q, G] of integers above 0 where contents are relevant; Q and G
        are one more than the largest identifiers.

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
    table.data[:] = 1  # the constructor sums repeated cells
    return table
