"""The default estimators of retrieval and matching, as the benchmark asks them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.benchmark.pairs import PairModel, PairTask
from mmgraph.data import MultimodalData
from mmgraph.estimators import FusionMatcher, FusionRetriever


class Retriever:
    """`FusionRetriever` with its defaults.

    Args:
        seed: Seed of everything random in it.
    """

    def __init__(self, seed: int) -> None:
        self._estimator = FusionRetriever(seed=seed)

    def fit(self, data: MultimodalData) -> "Retriever":
        """Learn from samples."""
        self._estimator.fit(data)
        return self

    def similarity(
        self,
        queries: MultimodalData,
        gallery: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
    ) -> NDArray[Any]:
        """Return cosines [Q, G]; -inf where a side has no embedding."""
        z = self._estimator.embed(queries, modalities=source)
        found = z @ self._estimator.embed(gallery, modalities=target).T
        return np.where(np.isnan(found), -np.inf, found)


class Matcher(Retriever):
    """`FusionMatcher` with its defaults, for the one direction of a task.

    Args:
        task: Matching in one direction.
        seed: Seed of everything random in it.
    """

    def __init__(self, task: PairTask, seed: int) -> None:
        [direction] = task.directions
        self._estimator: Any = FusionMatcher(
            left=list(direction.source), right=list(direction.target), seed=seed
        )

    def match(
        self,
        left: MultimodalData,
        right: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
    ) -> NDArray[Any]:
        """Return the probability that each row of both sides belongs together."""
        return np.asarray(self._estimator.predict_proba(left, right))


def default_model(task: PairTask, seed: int) -> PairModel:
    """Return the unfitted default estimator of a task."""
    return Retriever(seed) if task.kind == "retrieval" else Matcher(task, seed)
