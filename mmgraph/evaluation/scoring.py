"""Chosen metrics and bootstrap intervals in an evaluation.

Letters: ``N`` samples, ``K`` classes.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, did_you_mean
from mmgraph.evaluation.result import ScoreRow
from mmgraph.files import shorten
from mmgraph.metrics.bootstrap import Interval, bootstrap_scores
from mmgraph.metrics.scores import Scores, mean_scores

Metric: TypeAlias = str | Callable[[Any, Any], float]
AnyArray: TypeAlias = npt.NDArray[Any]
RESAMPLES = 500


@dataclass
class Record:
    """Labels, predictions and groups of the samples of one mask, part by part."""

    model: Any
    y: list[AnyArray] = field(default_factory=list)
    predicted: list[AnyArray] = field(default_factory=list)
    groups: list[AnyArray | None] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return an attribute of the model; its predictions are recorded."""
        value = getattr(self.model, name)
        if name not in ("predict", "predict_proba"):
            return value

        def predict(data: MultimodalData) -> AnyArray:
            predicted = np.asarray(value(data))
            self.y.append(np.asarray(data.y))
            self.predicted.append(predicted)
            groups = data.groups
            self.groups.append(None if groups is None else np.asarray(groups))
            return predicted

        return predict

    def arrays(self) -> tuple[AnyArray, AnyArray, AnyArray | None]:
        """Return labels ``[N]``, predictions and groups ``[N]``, None without them."""
        known = [each for each in self.groups if each is not None]
        complete = len(known) == len(self.groups)
        groups = np.concatenate(known) if complete else None
        return np.concatenate(self.y), np.concatenate(self.predicted), groups


@dataclass(frozen=True)
class Scoring:
    """Metrics of an evaluation, and whether they have intervals.

    Attributes:
        metrics: Names of scores, or functions of labels ``[N]`` and predictions, which
            are probabilities ``[N, K]`` of a classifier; None: all scores.
        intervals: Whether to compute 95% bootstrap intervals.
        seed: Seed of the resamples.

    Raises:
        ConfigError: If an entry is neither a name nor a function, or two have the same
            name.
    """

    metrics: tuple[Metric, ...] | None = None
    intervals: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        names = [_name(each) for each in self.metrics or ()]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated or self.metrics == ():
            got = f"{repeated[0]!r} twice" if repeated else "none"
            raise ConfigError(
                f"metrics must be at least one, of different names, got {got}.",
                parameter="metrics",
            )

    def row(
        self,
        scenario: str,
        model: Any,  # noqa: ANN401
        masks: Iterable[tuple[int, Iterable[MultimodalData]]],
        score: Callable[[Any, Iterable[MultimodalData]], Scores],
    ) -> tuple[ScoreRow, dict[str, Interval]]:
        """Return the scores of a scenario, means over its masks, and their intervals.

        Args:
            scenario: Name of the scenario.
            model: Fitted classifier or regressor.
            masks: Seed and samples of each mask.
            score: Function that checks labels and returns all scores of a model.

        Raises:
            ConfigError: If a metric is unknown, or does not return a number.
        """
        by_seed: dict[str, Scores] = {}
        records = []
        for seed, parts in masks:
            record = Record(model)
            scores = score(record, parts)
            y, predicted, groups = record.arrays()
            by_seed[str(seed)] = self._chosen(scores, y, predicted)
            records.append((y, predicted))
        row = ScoreRow(scenario, "", mean_scores(by_seed))
        if not self.intervals:
            return row, {}

        def resampled(rows: AnyArray) -> Scores:
            each = {}
            for i, (y, predicted) in enumerate(records):
                sample = y[rows], predicted[rows]
                each[str(i)] = self._chosen(self._scores(model, *sample), *sample)
            return mean_scores(each)

        with warnings.catch_warnings():  # of metrics, about resamples with one class
            warnings.simplefilter("ignore")
            bounds = bootstrap_scores(
                resampled, len(y), groups, resamples=RESAMPLES, seed=self.seed
            )
        return row, bounds

    def _scores(self, model: Any, y: AnyArray, predicted: AnyArray) -> Scores:  # noqa: ANN401
        """Return the chosen scores that have a name, of labels that were checked."""
        from mmgraph.metrics import classification_scores, regression_scores

        if not hasattr(model, "predict_proba"):
            return regression_scores(y, predicted)
        codes = np.searchsorted(model.classes_, y)
        names = None if self.metrics is None else set(map(_name, self.metrics))
        return classification_scores(codes, predicted, names=names)

    def _chosen(self, scores: Scores, y: AnyArray, predicted: AnyArray) -> Scores:
        """Return the chosen metrics."""
        if self.metrics is None:
            return scores
        chosen = {}
        for metric in self.metrics:
            name = _name(metric)
            if isinstance(metric, str):
                if name not in scores:
                    raise ConfigError(
                        f"metrics must be functions, or of {', '.join(scores)}, got "
                        f"{name!r}.",
                        did_you_mean(name, scores),
                        parameter="metrics",
                    )
                chosen[name] = scores[name]
            else:
                chosen[name] = _number(name, metric(y, predicted))
        return chosen


def _name(metric: object) -> str:
    if isinstance(metric, str):
        return metric
    if not callable(metric):
        raise ConfigError(
            "metrics must be names of scores, or functions of labels and predictions, "
            f"got {shorten(metric)}.",
            parameter="metrics",
        )
    return str(getattr(metric, "__name__", type(metric).__name__))


def _number(name: str, value: Any) -> float:  # noqa: ANN401
    if np.ndim(value) or np.asarray(value).dtype.kind not in "fiub":
        raise ConfigError(
            f"metrics must return a number, got {shorten(value)} of {name!r}.",
            parameter="metrics",
        )
    return float(value)
