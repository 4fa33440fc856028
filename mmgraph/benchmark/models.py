"""The default estimators of retrieval and matching, as the benchmark asks them."""

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

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


REFERENCE_MODELS = ("mmgraph", "mmgraph_no_edges")


@runtime_checkable
class Fitted(Protocol):
    """What the benchmark asks of a fitted model."""

    classes_: np.ndarray

    def predict_proba(self, data: MultimodalData, /) -> np.ndarray:
        """Return class probabilities [N, K]."""
        ...


@runtime_checkable
class Model(Protocol):
    """What the benchmark asks of a model before it is fitted."""

    def fit(self, data: MultimodalData, /) -> Fitted:
        """Learn from samples with labels."""
        ...


def model_names(pairs: PairTask | None = None) -> tuple[str, ...]:
    """Return the names of all models of a task, ours first.

    Args:
        pairs: Retrieval or matching; None for classification.
    """
    from mmgraph.baselines import BASELINES, RETRIEVAL_BASELINES

    return (
        (*REFERENCE_MODELS, *BASELINES)
        if pairs is None
        else (REFERENCE_MODELS[0], *RETRIEVAL_BASELINES)
    )


def make_model(name: str, data: MultimodalData, seed: int) -> Model:
    """Return an unfitted model with its defaults.

    Args:
        name: One of `model_names()`.
        data: Training samples, for the control that needs their schema.
        seed: Seed of everything random in it.
    """
    if name == "mmgraph":
        from mmgraph.estimators import FusionClassifier

        return cast(Model, FusionClassifier(seed=seed))
    if name == "mmgraph_no_edges":
        from mmgraph.estimators import FusionClassifier
        from mmgraph.schema import Schema

        control = Schema.late(data.schema.modalities)
        return cast(Model, FusionClassifier(schema=control, seed=seed))
    from mmgraph.baselines import BASELINES

    return cast(Model, BASELINES[name](seed=seed))


def make_pair_model(name: str, task: PairTask, seed: int) -> PairModel:
    """Return an unfitted model of retrieval or matching with its defaults."""
    from mmgraph.baselines import RETRIEVAL_BASELINES

    if name == REFERENCE_MODELS[0]:
        return default_model(task, seed)
    return RETRIEVAL_BASELINES[name](seed=seed)
