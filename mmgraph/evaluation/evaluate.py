"""Scores of a fitted model under scenarios of missing modalities."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mmgraph.corruption import Corruption
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.errors import ConfigError, DataError, DataWarning
from mmgraph.estimators import (
    FusionClassifier,
    FusionEstimator,
    FusionMatcher,
    FusionRegressor,
    FusionRetriever,
    FusionSurvival,
)
from mmgraph.evaluation.matching import score_matcher
from mmgraph.evaluation.result import Evaluation
from mmgraph.evaluation.retrieval import score_retriever
from mmgraph.evaluation.scenarios import Missing, build_corrupted, build_scenarios
from mmgraph.evaluation.scoring import Metric, Scoring
from mmgraph.evaluation.supervised import decide, score_labels

RATES = (0.0, 0.3, 0.5, 0.7)


def evaluate(
    model: Any,  # noqa: ANN401
    data: DataOrStream,
    missing: Sequence[Missing] | None = None,
    *,
    corrupted: Sequence[Corruption] | None = None,
    query: Sequence[str] | None = None,
    gallery: Sequence[str] | None = None,
    threshold: float | None = None,
    metrics: Sequence[Metric] | None = None,
    intervals: bool = False,
    seeds: int = 3,
    seed: int = 0,
) -> Evaluation:
    """Score a fitted model under scenarios of missing modalities.

    The task follows from the model:

    - A classifier or regressor predicts the labels of the data. Samples without a
      label are left out.
    - A survival model predicts the event times of the data. Scores are Harrell's
      concordance index and the Brier score, integrated from the 10% to the 90%
      quantile of the event times, where the probability of censoring is estimated from
      the samples that are scored.
    - A retriever ranks a gallery for each query, by default from every modality to
      every other. Modalities are removed from the queries only.
    - A matcher scores true pairs against negatives: partners drawn at random, among
      the most similar samples and, with labels, within the same class.

    Modalities that the data do not have stay missing in every scenario. The masks are
    those of ``pattern.plan(data, seed)``, so that all models are scored on the same
    masks.

    Args:
        model: A fitted estimator of mmgraph, a baseline, or any object with
            ``predict_proba`` and ``classes_``, or with ``predict``, and for survival
            ``predict_survival_function``, that accepts ``MultimodalData``.
        data: Samples with labels, or with several modalities for retrieval and
            matching. A stream is read once per mask (classification and regression
            only).
        missing: Scenarios: rates from 0 to 1 of observed modalities removed completely
            at random, where 0 removes nothing; or patterns of :mod:`mmgraph.missing`.
            Default: 0, 0.3, 0.5 and 0.7 for labels, 0 for retrievers and matchers.
        corrupted: Corruptions of :mod:`mmgraph.corruption`, one row each after those of
            ``missing``; nothing else is removed. With corruptions, the default of
            ``missing`` is 0.
        query: Modalities of a retrieval query, used together. Default: each modality
            on its own.
        gallery: Modalities of the gallery entries, used together. Default: each
            modality on its own.
        threshold: Probability of the second class from which on a sample is classified
            as that class: adds sensitivity, specificity, predictive values and net
            benefit in each scenario, with 95% bootstrap intervals. Classifiers of two
            classes only. Choose it on other samples, see
            :func:`mmgraph.metrics.choose_threshold`.
        metrics: Scores of a classifier or regressor: names such as ``"auroc"``, or
            functions ``f(y, predicted)`` that return a number, such as those of
            :mod:`sklearn.metrics`. ``y`` are the labels ``[N]``, ``predicted`` the
            probabilities ``[N, K]`` of a classifier, or the values of a regressor.
            Default: all scores.
        intervals: Whether to compute 95% bootstrap intervals of the scores of a
            classifier or regressor, from 500 resamples of the samples; with at least 10
            groups, of the groups. Retraining is no part of them.
        seeds: Masks per scenario; scores are means over them. The default of 3 keeps
            the variance of the masks below that of the samples at little cost.
        seed: Seed of the masks and of the negatives.

    Returns:
        One row per scenario, and per direction or kind of negatives. It prints as a
        table; ``rows`` are dicts. A score is NaN where it is undefined.

    Raises:
        ConfigError: If a rate is outside 0 to 1, an entry of ``missing`` is neither a
            rate nor a pattern, one of ``corrupted`` is no corruption, ``threshold`` is
            not between 0 and 1 or given without two classes, ``query`` or
            ``gallery`` is given for a model that is not a retriever, they name
            unknown modalities, or a metric is unknown or does not return a number.
        DataError: If no sample has a label, a class is unknown to the model, or a
            retriever or matcher has fewer than two modalities.

    Example:
        >>> import mmgraph as mg
        >>> train, test = mg.load_dataset("heart").split(test_size=0.4, seed=0)
        >>> clf = mg.baselines.LateLogistic().fit(train)
        >>> result = mg.evaluate(clf, test, [0, 0.5, mg.missing.only(["history"])])
        >>> [row["missing"] for row in result.rows]
        ['0', '0.5', 'only(history)']
        >>> result.rows[0]["auroc"] > result.rows[1]["auroc"]
        True
        >>> mg.evaluate(clf, test, [0], metrics=["accuracy"], intervals=True)
        Scores by missing pattern
        missing  accuracy  95% CI
        0        ...
    """
    is_pair_model = isinstance(model, FusionMatcher | FusionRetriever)
    default = (0.0,) if is_pair_model or corrupted is not None else RATES
    scenarios = build_scenarios(default if missing is None else missing, seeds, seed)
    scenarios += build_corrupted(corrupted or (), seeds, seed)
    if not isinstance(data, MultimodalData | MultimodalStream):
        raise DataError(
            f"Data must be MultimodalData, got {type(data).__name__}. Build it with "
            "MultimodalData.from_arrays."
        )
    if threshold is not None:
        _check_threshold(model)
    scoring = _scoring(model, metrics, intervals, seed)
    if isinstance(model, FusionRetriever):
        whole = in_memory(data)
        _warn_unobserved(model, whole, _observed(whole))
        return score_retriever(model, whole, scenarios, query=query, gallery=gallery)
    if query is not None or gallery is not None:
        raise ConfigError(
            f"query and gallery must go with a retriever, got {type(model).__name__}. "
            "Leave both arguments out."
        )
    if isinstance(model, FusionMatcher):
        whole = in_memory(data)
        _warn_unobserved(model, whole, _observed(whole))
        return score_matcher(model, whole, scenarios)
    _warn_training_data(model, data)
    observed: set[str] = set()

    def parts() -> Iterator[MultimodalData]:
        return _watch(parts_of(data), observed)

    result = score_labels(model, parts, scenarios, scoring)
    if threshold is not None:
        points = decide(model, parts, scenarios, threshold)
        result = replace(result, operating_points=points)
    _warn_unobserved(model, data, observed)
    return result


def _check_threshold(model: object) -> None:
    """Check that a model has two classes.

    Raises:
        ConfigError: If it has not.
    """
    classes = getattr(model, "classes_", ())
    if not hasattr(model, "predict_proba") or len(classes) != 2:
        got = f"{len(classes)} classes" if len(classes) else type(model).__name__
        raise ConfigError(
            f"threshold must go with a classifier of two classes, got {got}. Leave it "
            "out.",
            parameter="threshold",
        )


def _scoring(
    model: object, metrics: Sequence[Metric] | None, intervals: bool, seed: int
) -> Scoring | None:
    """Return the chosen metrics and intervals; None for all scores without them."""
    if metrics is None and not intervals:
        return None
    others = FusionRetriever | FusionMatcher
    if isinstance(model, others) or hasattr(model, "predict_survival_function"):
        name = "metrics" if metrics is not None else "intervals"
        raise ConfigError(
            f"{name} must go with a classifier or regressor, got "
            f"{type(model).__name__}. Leave {name} out.",
            parameter=name,
        )
    if isinstance(metrics, str) or callable(metrics):
        raise ConfigError(
            f"metrics must be a list, got {metrics!r}.", parameter="metrics"
        )
    return Scoring(None if metrics is None else tuple(metrics), intervals, seed)


def _warn_training_data(model: object, data: DataOrStream) -> None:
    """Warn if the samples are those that the model was trained on."""
    if not isinstance(model, FusionClassifier | FusionRegressor | FusionSurvival):
        return
    if isinstance(data, MultimodalData) and model.is_training_data(data):
        warnings.warn(
            "evaluate must get samples that were not used in training, got the "
            "training samples. They are predicted better than new ones, so scores are "
            "too high. Hold out samples by data.split() or mmgraph train --test.",
            DataWarning,
            stacklevel=3,
        )


def _watch(
    parts: Iterable[MultimodalData], observed: set[str]
) -> Iterator[MultimodalData]:
    """Yield the parts, and collect the modalities that have an observed value."""
    for part in parts:
        observed.update(_observed(part))
        yield part


def _observed(data: MultimodalData) -> set[str]:
    """Return the modalities with an observed value."""
    return {name for name, column in data.columns.items() if column.present.any()}


def _warn_unobserved(model: object, data: DataOrStream, observed: set[str]) -> None:
    """Warn about modalities of the model that no sample of the data has observed."""
    kinds = FusionEstimator | FusionRetriever | FusionMatcher
    if not isinstance(model, kinds) or not observed:
        return
    names = data.schema.modality_names
    for name in model.schema_.modality_names:
        if name in names and name not in observed and name not in model.unseen_:
            warnings.warn(unobserved_message(name), DataWarning, stacklevel=3)


def unobserved_message(modality: str) -> str:
    """Return the warning about a modality without any observed value."""
    return (
        f"Modality '{modality}' has no observed value in any sample; it is treated as "
        "missing."
    )
