"""The models of the benchmark and the interfaces they are used through."""

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mmgraph.benchmark.pairs import PairModel, PairTask
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError
from mmgraph.estimators import FusionMatcher, FusionRetriever
from mmgraph.evaluation.registry import (
    LEVELS,
    REFERENCE_MODELS,
    factory_of,
    registered_models,
)


class Retriever:
    """A `FusionRetriever` with the interface of the benchmark.

    Args:
        estimator: Unfitted estimator.
    """

    def __init__(self, estimator: FusionRetriever) -> None:
        self._estimator: Any = estimator

    def fit(self, data: MultimodalData) -> "Retriever":
        """Fit the estimator."""
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
        cosines = z @ self._estimator.embed(gallery, modalities=target).T
        return np.where(np.isnan(cosines), -np.inf, cosines)


class Matcher(Retriever):
    """A `FusionMatcher` with the interface of the benchmark.

    Args:
        estimator: Unfitted estimator, for the one direction of a task.
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
        """Return the probability of each pair of rows, [P]."""
        return np.asarray(self._estimator.predict_proba(left, right))


def default_model(
    task: PairTask, seed: int, aligned: Sequence[str] | None = None
) -> PairModel:
    """Return the unfitted default estimator of a task.

    Args:
        task: Retrieval, or matching in one direction.
        seed: Random seed of the estimator.
        aligned: Modalities in a shared embedding space; None detects them.
    """
    if task.kind == "retrieval":
        return Retriever(FusionRetriever(aligned=aligned, seed=seed))
    [direction] = task.directions
    sides = list(direction.source), list(direction.target)
    return Matcher(FusionMatcher(*sides, aligned=aligned, seed=seed))


@runtime_checkable
class Fitted(Protocol):
    """Interface of a fitted classifier."""

    classes_: np.ndarray

    def predict_proba(self, data: MultimodalData, /) -> np.ndarray:
        """Return class probabilities [N, K]."""
        ...


@runtime_checkable
class Model(Protocol):
    """Interface of an unfitted classifier."""

    def fit(self, data: MultimodalData, /) -> Fitted:
        """Fit on samples with labels."""
        ...


def model_names(
    pairs: PairTask | None = None, *, optional: bool = False
) -> tuple[str, ...]:
    """Return the names of all models of a task, those of mmgraph first.

    Args:
        pairs: Task of retrieval or matching; None for classification.
        optional: Include the classifiers that are fitted only where they are named:
            those with one level of fusion, and registered ones.
    """
    from mmgraph.baselines import BASELINES, RETRIEVAL_BASELINES

    if pairs is not None:
        return REFERENCE_MODELS[0], *RETRIEVAL_BASELINES
    if not optional:
        return *REFERENCE_MODELS, *BASELINES
    return *REFERENCE_MODELS, *LEVELS, *BASELINES, *registered_models()


DESCRIPTIONS = {
    "classification": "FusionClassifier: base learners per modality, combined by a "
    "log-linear opinion pool, and a graph network over the modalities.",
    "retrieval": "FusionRetriever: all modalities in one embedding space.",
    "matching": "FusionMatcher: calibrated similarity of two sides of a sample.",
}


def model_description(name: str, task: str = "classification") -> str:
    """Return one sentence about a model; "" for an unknown name.

    Args:
        name: One of `model_names(optional=True)`.
        task: "classification", "retrieval" or "matching".
    """
    from mmgraph.baselines import BASELINES, RETRIEVAL_BASELINES

    if name == REFERENCE_MODELS[0]:
        return DESCRIPTIONS[task]
    if name == REFERENCE_MODELS[1]:
        return "Control: FusionClassifier without edges between modalities."
    if name in LEVELS:
        return f"FusionClassifier with the level of fusion {LEVELS[name]!r} alone."
    kind: object = (BASELINES | RETRIEVAL_BASELINES).get(name)
    if kind is None and name in registered_models():
        kind = factory_of(name)
    return (kind.__doc__ or "").partition("\n\n")[0].strip() if kind else ""


def make_model(name: str, data: MultimodalData, seed: int) -> Model:
    """Return an unfitted model with its defaults.

    Args:
        name: One of `model_names(optional=True)`.
        data: Training samples; the control without edges is built from their schema.
        seed: Random seed of the model.
    """
    if name == "mmgraph":
        from mmgraph.estimators import FusionClassifier

        return cast(Model, FusionClassifier(seed=seed))
    if name in LEVELS:
        from mmgraph.estimators import FusionClassifier

        return cast(Model, FusionClassifier(level=LEVELS[name], seed=seed))
    if name == "mmgraph_no_edges":
        from mmgraph.estimators import FusionClassifier
        from mmgraph.schema import Schema

        control = Schema.late(data.schema.modalities)
        return cast(Model, FusionClassifier(schema=control, seed=seed))
    from mmgraph.baselines import BASELINES

    if name not in BASELINES:
        return _make_registered(name, data, seed)
    return cast(Model, BASELINES[name](seed=seed))


def _make_registered(name: str, data: MultimodalData, seed: int) -> Model:
    model = factory_of(name)(data, seed)
    if not isinstance(model, Model):
        raise ConfigError(
            f"The factory of model {name!r} must return a model with fit, got "
            f"{type(model).__name__}."
        )
    return model


def make_pair_model(name: str, task: PairTask, seed: int) -> PairModel:
    """Return an unfitted retriever or matcher with its defaults."""
    from mmgraph.baselines import RETRIEVAL_BASELINES

    if name == REFERENCE_MODELS[0]:
        return default_model(task, seed)
    return RETRIEVAL_BASELINES[name](seed=seed)
