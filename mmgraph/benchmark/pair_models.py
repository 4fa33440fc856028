"""The default estimators of retrieval and matching, as the benchmark asks them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.benchmark.pairs import PairModel, PairTask
from mmgraph.data import MultimodalData
from mmgraph.estimators import FusionMatcher, FusionRetriever


class Retriever:
    """A `FusionRetriever`.

    Args:
        estimator: Unfitted.
    """

    def __init__(self, estimator: FusionRetriever) -> None:
        self._estimator: Any = estimator

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
    """A `FusionMatcher`.

    Args:
        estimator: Unfitted, for the one direction of a task.
    """

    def __init__(self, estimator: FusionMatcher) -> None:
        self._estimator = estimator

    def match(
        self,
        left: MultimodalData,
        right: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
    ) -> NDArray[Any]:
        """Return the probability that each row of both sides belongs together."""
        return np.asarray(self._estimator.predict_proba(left, right))


def default_model(
    task: PairTask, seed: int, aligned: Sequence[str] | None = None
) -> PairModel:
    """Return the unfitted default estimator of a task.

    Args:
        task: Retrieval, or matching in one direction.
        seed: Seed of everything random in it.
        aligned: Modalities that share a space; None: as the estimator finds.
    """
    if task.kind == "retrieval":
        return Retriever(FusionRetriever(aligned=aligned, seed=seed))
    [direction] = task.directions
    sides = list(direction.source), list(direction.target)
    return Matcher(FusionMatcher(*sides, aligned=aligned, seed=seed))
