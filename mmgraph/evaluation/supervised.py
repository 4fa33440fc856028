"""Scores of classifiers, regressors and survival models.

Letters: `N` samples, `K` classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.targets import labeled_rows
from mmgraph.errors import Argument, DataError
from mmgraph.estimators.input_spec import removing_modalities
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.evaluation.scoring import Scoring
from mmgraph.metrics.operating_point import OperatingPoint, operating_point
from mmgraph.metrics.scores import Scores, mean_scores

Parts: TypeAlias = Callable[[], Iterable[MultimodalData]]

SEED_STRIDE = 1000  # distance between the mask seeds of consecutive parts


def score_labels(
    model: Any,  # noqa: ANN401
    parts: Parts,
    scenarios: Sequence[Scenario],
    scoring: Scoring | None = None,
) -> Evaluation:
    """Score a classifier, regressor or survival model in each scenario.

    Args:
        model: Fitted model; one with `predict_proba` is a classifier, one with
            `predict_survival_function` a survival model.
        parts: Function that returns an iterator over the samples, part by part.
        scenarios: Modalities to remove.
        scoring: Chosen metrics and intervals; None: all scores, without intervals.

    Raises:
        ConfigError: If a metric is unknown, or does not return a number.
        DataError: If no sample has a label, a class is unknown to the model, labels of
            a regressor are not numbers, or samples have several labels.
    """
    rows, intervals = [], []
    for scenario in scenarios:
        with removing_modalities():
            masks = ((seed, _labelled(parts(), scenario, seed)) for seed in scenario)
            if scoring is not None:
                row, bounds = scoring.row(scenario.name, model, masks, _scores)
                rows.append(row)
                intervals.append(bounds)
                continue
            by_seed = {str(seed): _scores(model, samples) for seed, samples in masks}
        rows.append(ScoreRow(scenario.name, "", mean_scores(by_seed)))
    return Evaluation(tuple(rows), intervals=tuple(filter(None, intervals)))


def decide(
    model: Any,  # noqa: ANN401
    parts: Parts,
    scenarios: Sequence[Scenario],
    threshold: float,
) -> dict[str, OperatingPoint]:
    """Return the rates of correct decisions in each scenario, with its first mask.

    Args:
        model: Fitted classifier of two classes.
        parts: Function that returns an iterator over the samples, part by part.
        scenarios: Modalities to remove.
        threshold: Probability of the second class.

    Raises:
        ConfigError: If the threshold is not between 0 and 1.
    """
    points = {}
    for scenario in scenarios:
        with removing_modalities():
            masked = _labelled(parts(), scenario, next(iter(scenario)))
            rows = [
                (np.asarray(data.y), model.predict_proba(data)[:, 1], data.groups)
                for data in masked
            ]
        y, probability = (np.concatenate([r[i] for r in rows]) for i in range(2))
        groups = [r[2] for r in rows if r[2] is not None]
        points[scenario.name] = operating_point(
            (y == model.classes_[1]).astype(int),
            probability,
            threshold,
            groups=np.concatenate(groups) if len(groups) == len(rows) else None,
        )
    return points


def _labelled(
    parts: Iterable[MultimodalData], scenario: Scenario, seed: int
) -> Iterator[MultimodalData]:
    """Yield the samples with labels, part by part, with modalities removed."""
    for number, data in enumerate(parts):
        if data.y is None:
            continue
        known = labeled_rows(np.asarray(data.y))
        if known.any():
            yield scenario.apply(data, seed + SEED_STRIDE * number)[known]


def _scores(
    model: Any,  # noqa: ANN401
    parts: Iterable[MultimodalData],
) -> Scores:
    from mmgraph.metrics import classification_scores, regression_scores

    if hasattr(model, "predict_survival_function"):
        return _survival_scores(model, list(parts))
    is_classifier = hasattr(model, "predict_proba")
    predict = model.predict_proba if is_classifier else model.predict
    pairs = [(np.asarray(data.y), np.asarray(predict(data))) for data in parts]
    if not pairs:
        raise _no_labels()
    y, predicted = (np.concatenate(each) for each in zip(*pairs, strict=True))
    if not is_classifier:
        if y.dtype.kind not in "fiub":
            raise DataError(
                "Labels must be numbers for a regression model, got strings.",
                ("Give other labels by ", Argument("y"), "."),
            )
        return regression_scores(y, predicted)
    if y.ndim > 1:
        raise DataError(
            f"evaluate must get one label per sample, got {y.shape[1]}. Score a "
            "multi-label model in Python with FusionClassifier.score."
        )
    classes = np.asarray(model.classes_)
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(
            f"Labels must be classes of the training data, {classes.tolist()}, "
            f"got {unknown[0]!r}. Leave these samples out, or train on them."
        )
    return classification_scores(np.searchsorted(classes, y), predicted)


def _survival_scores(model: Any, parts: Sequence[MultimodalData]) -> Scores:  # noqa: ANN401
    """Return the scores of a survival model; the times are those of the events."""
    from mmgraph.metrics import survival_grid, survival_scores

    if not parts:
        raise _no_labels()
    y = np.concatenate([np.asarray(data.y) for data in parts])
    if y.ndim != 2 or y.shape[1] != 2:
        raise DataError(
            f"Labels must be events and times, [N, 2], got shape {list(y.shape)}.",
            ("Give other labels by ", Argument("y"), "."),
        )
    event, time = y.T
    times = survival_grid(event, time)
    risk = np.concatenate([model.predict(data) for data in parts])
    curves = [model.predict_survival_function(data, times) for data in parts]
    return survival_scores(event, time, risk, np.concatenate(curves), times)


def _no_labels() -> DataError:
    return DataError(
        "evaluate must get at least one sample with a label, got none.",
        ("Give other samples, or labels by ", Argument("y"), "."),
    )
