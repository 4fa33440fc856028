"""Curves of scores over the missing rate. Letters: ``R`` missing rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mmgraph.data.stream.stream import DataOrStream
from mmgraph.errors import ConfigError, DataError
from mmgraph.evaluation import Evaluation, evaluate
from mmgraph.evaluation.evaluate import RATES
from mmgraph.evaluation.table import number
from mmgraph.metrics import aurc
from mmgraph.metrics.bootstrap import Interval
from mmgraph.metrics.scores import metric_title
from mmgraph.plotting.display import Display, check_type, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False)
class RobustnessDisplay(Display):
    """Curve of a score over the missing rate.

    Curves of several models share axes: ``from_estimator(other, ..., ax=first.ax_)``.
    The legend has the mean score over missing rates, :func:`mmgraph.metrics.aurc`.

    Attributes:
        rates: ``[R]`` missing rates in increasing order.
        scores: ``[R]`` scores.
        metric: Name of the score.
        intervals: ``[R]`` 95% intervals, drawn as a band; empty without them.
        name: Name of the curve in the legend.
    """

    rates: tuple[float, ...]
    scores: tuple[float, ...]
    metric: str
    intervals: tuple[Interval, ...] = ()
    name: str = "model"

    @classmethod
    def from_estimator(
        cls,
        model: Any,  # noqa: ANN401
        data: DataOrStream,
        rates: Sequence[float] = RATES,
        *,
        metric: str | None = None,
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Evaluate a fitted model at missing rates, and draw the curve.

        Args:
            model: Fitted classifier, regressor or survival model, see
                :func:`mmgraph.evaluate`.
            data: Samples with labels that the model was not trained on.
            rates: Rates from 0 to 1 of modalities removed completely at random.
            metric: Name of the score. Default: "auroc", or the first score of a model
                without it.
            name: Name of the curve. Default: the class of the model.
            ax: Axes to draw in; None creates a figure.

        Raises:
            ConfigError: If a rate is outside 0 to 1, or the metric is unknown.
            DataError: If there are fewer than two rates, or no sample has a label.
        """
        name = type(model).__name__ if name is None else name
        evaluation = evaluate(model, data, rates)
        return cls.from_evaluation(evaluation, metric, name=name, ax=ax)

    @classmethod
    def from_evaluation(
        cls,
        evaluation: Evaluation,
        metric: str | None = None,
        *,
        name: str = "model",
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the curve of an evaluation.

        Args:
            evaluation: Result of :func:`mmgraph.evaluate` at two or more missing rates;
                scenarios that are not rates are left out.
            metric: Name of the score. Default: "auroc", or the first score of an
                evaluation without it.
            name: Name of the curve.
            ax: Axes to draw in; None creates a figure.

        Raises:
            ConfigError: If the evaluation does not have the metric.
            DataError: If it is not an evaluation with one line for each of two or more
                rates.

        Example:
            >>> from mmgraph.evaluation import ScoreRow
            >>> lines = ScoreRow("0", "", {"r2": 0.8}), ScoreRow("0.5", "", {"r2": 0.6})
            >>> evaluation = mmgraph.Evaluation(lines)
            >>> display = mmgraph.plotting.RobustnessDisplay.from_evaluation(evaluation)
            >>> display.ax_.get_legend_handles_labels()[1]
            ['model, mean 0.700']
        """
        check_type("evaluation", evaluation, Evaluation, "mmgraph.evaluate")
        rates, numbers = zip(*_rate_lines(evaluation), strict=True)
        names = list(evaluation.lines[0].scores)
        if metric is None:
            metric = "auroc" if "auroc" in names else names[0]
        if metric not in names:
            raise ConfigError(
                f"metric must be a score of the evaluation ({', '.join(names)}), got "
                f"{metric!r}.",
                parameter="metric",
            )
        scores = tuple(evaluation.lines[i].scores[metric] for i in numbers)
        bands = [evaluation.intervals[i] for i in numbers if evaluation.intervals]
        intervals = tuple(each[metric] for each in bands if metric in each)
        return cls(rates, scores, metric, intervals, name).plot(ax)

    def _draw(self, ax: "Axes") -> None:
        mean = aurc(np.array(self.rates), np.array(self.scores))
        label = f"{self.name}, mean {number(mean)}"
        (line,) = ax.plot(self.rates, self.scores, marker="o", label=label)
        if self.intervals:
            _, low, high = np.array(self.intervals).T
            color = line.get_color()
            ax.fill_between(self.rates, low, high, color=color, alpha=0.15, lw=0)
        ax.set_xlabel("missing rate (share of the observed modalities removed)")
        ax.set_ylabel(with_unit(metric_title(self.metric), self.metric))
        ax.legend()


def _rate_lines(evaluation: Evaluation) -> list[tuple[float, int]]:
    """Return the missing rates of an evaluation and the numbers of their lines, sorted.

    Raises:
        DataError: If fewer than two lines are of rates, or several of one rate.
    """
    lines = []
    for i, line in enumerate(evaluation.lines):
        try:
            lines.append((float(line.missing), i))
        except ValueError:  # another pattern or a corruption
            continue
    rates = [rate for rate, _ in lines]
    if len(set(rates)) < max(2, len(rates)):
        raise DataError(
            "evaluation must have at least two missing rates with one line each, got "
            f"the rates {rates}. Evaluate a classifier, regressor or survival model at "
            "rates such as [0, 0.3, 0.5, 0.7]."
        )
    return sorted(lines)
