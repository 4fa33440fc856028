"""Scores of single samples: of classifiers, regressors and retrievers.

Letters: ``N`` samples, ``K`` classes, ``C`` coalitions of modalities.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.targets import labeled_rows
from mmgraph.data.validation import check_names
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators import FusionMatcher, FusionRetriever, FusionSurvival

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Metric: TypeAlias = (
    Literal["log_score"] | Callable[[npt.NDArray[Any], FloatArray], FloatArray]
)

SMALLEST = np.finfo(np.float64).eps  # probability of 0 costs 36 nats, as in log_loss


@dataclass(frozen=True)
class SampleScores:
    """Predictions from any subset of modalities, and the score of each sample.

    Attributes:
        data: Samples that are scored.
        predict: Function of samples to predictions ``[N, K]``.
        score: Function of a slice of the samples and their predictions ``[n, C, K]``
            to scores ``[n, C]``, higher is better.
        name: Name of the score.
        labels: ``[N]`` classes of a classifier, or of a regressor whether the target is
            above its median; None for several labels and retrievers.
    """

    data: MultimodalData
    predict: Callable[[MultimodalData], FloatArray]
    score: Callable[[slice, FloatArray], FloatArray]
    name: str
    labels: npt.NDArray[Any] | None


def sample_scores(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    metric: Metric = "log_score",
    gallery: str | Sequence[str] | None = None,
) -> SampleScores:
    """Return the scores of the samples of a data set with a label.

    Args:
        model: Fitted model.
        data: Samples.
        metric: "log_score", or a function of labels and predictions.
        gallery: Modalities of the gallery entries of a retriever.

    Raises:
        DataError: If no sample has a label, or a class is unknown to the model.
        ConfigError: If ``metric`` is unknown, or ``gallery`` does not fit the model.
    """
    if metric != "log_score" and not callable(metric):
        raise ConfigError(
            f"metric must be 'log_score' or a function, got {metric!r}. The function "
            "maps labels and predictions to one score per sample.",
            parameter="metric",
        )
    if isinstance(model, FusionRetriever):
        return _retrieval_scores(model, data, metric, gallery)
    if gallery is not None:
        raise ConfigError(
            f"gallery must go with a retriever, got {type(model).__name__}. Leave it "
            "out."
        )
    if isinstance(model, FusionMatcher) or not hasattr(model, "predict"):
        raise ConfigError(
            "model must be a classifier, a regressor or a retriever, got "
            f"{type(model).__name__}. A matcher has no prediction for a single sample."
        )
    known = np.zeros(len(data), dtype=bool)
    if data.y is not None:
        known = labeled_rows(np.asarray(data.y))
    if not known.any():
        raise DataError(
            "data must have at least one sample with a label, got none. Give labels "
            "by y=."
        )
    data = data[known]
    if hasattr(model, "predict_proba"):
        return _class_scores(model, data, metric)
    if isinstance(model, FusionSurvival):
        return _survival_scores(model, data, metric)
    return _value_scores(model, data, metric)


def _class_scores(model: Any, data: MultimodalData, metric: Metric) -> SampleScores:  # noqa: ANN401
    y = np.asarray(data.y)
    several = y.ndim > 1
    codes = y.astype(np.int64) if several else class_codes(y, model.classes_)

    def score(rows: slice, proba: FloatArray) -> FloatArray:
        if callable(metric):
            return _by_function(metric, y[rows], proba)
        if several:
            true = np.where(codes[rows][:, None] == 1, proba, 1 - proba)
            total: FloatArray = np.log(true.clip(SMALLEST)).sum(-1)
            return total
        true = np.take_along_axis(proba, codes[rows][:, None, None], axis=2)[..., 0]
        logs: FloatArray = np.log(true.astype(np.float64).clip(SMALLEST))
        return logs

    name = "log score" if metric == "log_score" else _name_of(metric)
    labels = None if several else y
    return SampleScores(data, _as_table(model.predict_proba), score, name, labels)


def class_codes(
    y: npt.NDArray[Any], classes: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Return the numbers of classes ``[N]``, which the model must know.

    Raises:
        DataError: If a label is not one of the classes.
    """
    classes = np.asarray(classes)
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(
            f"Labels must be classes of the training data, {classes.tolist()}, "
            f"got {unknown[0]!r}. Leave these samples out, or train on them."
        )
    return np.searchsorted(classes, y)


def _value_scores(model: Any, data: MultimodalData, metric: Metric) -> SampleScores:  # noqa: ANN401
    y = np.asarray(data.y)
    if y.dtype.kind not in "fiub":
        raise DataError(
            "Labels must be numbers for a regression model, got strings. Give other "
            "labels by y=."
        )
    target = y.reshape(len(y), -1).astype(np.float64)

    def score(rows: slice, predicted: FloatArray) -> FloatArray:
        if callable(metric):
            shown = predicted[..., 0] if y.ndim == 1 else predicted
            return _by_function(metric, y[rows], shown)
        error: FloatArray = ((predicted - target[rows][:, None]) ** 2).mean(-1)
        return -error

    name = "negative squared error" if metric == "log_score" else _name_of(metric)
    labels = None if y.ndim > 1 else y > np.median(y)
    return SampleScores(data, _as_table(model.predict), score, name, labels)


def _survival_scores(
    model: FusionSurvival, data: MultimodalData, metric: Metric
) -> SampleScores:
    """Return the log-likelihood of each sample, given the baseline of the training."""
    y = np.asarray(data.y)
    event, exposure = model.exposures(y).T

    def score(rows: slice, risk: FloatArray) -> FloatArray:
        if callable(metric):
            return _by_function(metric, y[rows], risk[..., 0])
        d, e, f = event[rows, None], exposure[rows, None], risk[..., 0]
        likelihood: FloatArray = d * f - e * np.exp(f)
        return likelihood

    name = "log score" if metric == "log_score" else _name_of(metric)
    return SampleScores(data, _as_table(model.predict), score, name, event > 0)


def _as_table(
    predict: Callable[[MultimodalData], FloatArray],
) -> Callable[[MultimodalData], FloatArray]:
    """Return a function whose predictions are ``[N, K]``."""

    def predict_table(data: MultimodalData) -> FloatArray:
        values = np.asarray(predict(data))
        return values.reshape(len(values), -1) if values.size else values[:, None]

    return predict_table


def _by_function(
    metric: Callable[[npt.NDArray[Any], FloatArray], FloatArray],
    y: npt.NDArray[Any],
    predicted: FloatArray,
) -> FloatArray:
    """Return scores ``[n, C]`` of a function of the user."""
    columns = []
    for c in range(predicted.shape[1]):
        scores = np.asarray(metric(y, predicted[:, c]), dtype=np.float64)
        if scores.shape != (len(y),):
            raise ConfigError(
                f"metric must return one score per sample, [{len(y)}], got shape "
                f"{list(scores.shape)}. Return scores before their mean is taken.",
                parameter="metric",
            )
        columns.append(scores)
    return np.stack(columns, axis=1)


def _name_of(metric: object) -> str:
    return str(getattr(metric, "__name__", "score")).replace("_", " ")


def _retrieval_scores(
    model: FusionRetriever,
    data: MultimodalData,
    metric: Metric,
    gallery: str | Sequence[str] | None,
) -> SampleScores:
    r"""Return nDCG of the gallery entries of the sample or its group, per query.

    The value of an empty query is that of a random ranking.
    """
    if gallery is None:
        raise ConfigError(
            "gallery must name the modalities of the gallery entries of a retriever, "
            "got none. The other modalities are the query.",
            parameter="gallery",
        )
    if callable(metric):
        raise ConfigError(
            "metric must be 'log_score' for a retriever, got a function. Its score is "
            "nDCG.",
            parameter="metric",
        )
    targets = (gallery,) if isinstance(gallery, str) else tuple(gallery)
    check_names("gallery", targets, data.modalities)
    sources = [name for name in data.modalities if name not in targets]
    if not sources:
        raise ConfigError(
            "gallery must leave a modality for the query, got all of them.",
            parameter="gallery",
        )
    entries = model.embed(data, modalities=list(targets))
    held = np.flatnonzero(~np.isnan(entries).any(axis=1))
    if not len(held):
        raise DataError(
            "data must have a sample with a modality of the gallery, got none. Name "
            "other modalities."
        )
    data, entries = data[held], entries[held]
    keys = np.arange(len(data)) if data.groups is None else data.groups
    discounts = 1 / np.log2(np.arange(len(data)) + 2)

    def score(rows: slice, embedded: FloatArray) -> FloatArray:
        number, coalitions = embedded.shape[:2]
        flat = embedded.reshape(number * coalitions, -1)
        empty = np.isnan(flat).any(axis=1)
        similarity = model.similarity(np.where(np.isnan(flat), 0, flat), entries)
        relevant = np.repeat(keys[rows][:, None] == keys, coalitions, axis=0)
        order = np.argsort(-similarity, axis=1, kind="stable")
        gains = np.take_along_axis(relevant, order, axis=1) @ discounts
        count = relevant.sum(axis=1)
        best = np.cumsum(discounts)[count - 1]
        gains[empty] = count[empty] * discounts.mean()
        return (gains / best).reshape(number, coalitions)

    query = data.select(sources)
    return SampleScores(query, model.embed, score, "nDCG", None)
