"""Decision curves. Letters: ``N`` samples, ``T`` thresholds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from mmgraph.errors import DataError
from mmgraph.metrics import DecisionCurve, decision_curve
from mmgraph.plotting.display import GRAY, Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False)
class DecisionCurveDisplay(Display):
    """Net benefit of a model over the threshold, with two strategies to compare.

    They classify every sample as positive, or none; several models on the same axes
    and samples share them.

    Attributes:
        curve: Net benefits, :func:`mmgraph.metrics.decision_curve`.
        name: Name of the curve in the legend.
    """

    curve: DecisionCurve
    name: str = "model"

    @classmethod
    def from_predictions(
        cls,
        y: npt.ArrayLike,
        proba: npt.ArrayLike,
        *,
        thresholds: npt.ArrayLike | None = None,
        name: str = "model",
        ax: "Axes | None" = None,
    ) -> Self:
        """Compute and draw the decision curve of predicted probabilities.

        Args:
            y: ``[N]`` codes 0 and 1.
            proba: ``[N]`` probabilities of class 1.
            thresholds: ``[T]`` probabilities between 0 and 1. Default: 0.01 to 0.99.
            name: Name of the curve.
            ax: Axes to draw in; None creates a figure.

        Raises:
            DataError: If codes, probabilities or shapes are invalid, or there is no
                sample.
            ConfigError: If a threshold is not between 0 and 1.

        Example:
            >>> display = mmgraph.plotting.DecisionCurveDisplay.from_predictions(
            ...     [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], thresholds=[0.2, 0.5]
            ... )
            >>> display.curve.model
            array([0.4375, 0.    ])
        """
        limits = None if thresholds is None else np.atleast_1d(thresholds)
        curve = decision_curve(np.asarray(y), np.asarray(proba), limits)
        if not np.size(y):
            raise DataError("y must have at least one sample, got none.", parameter="y")
        return cls(curve, name).plot(ax)

    def _draw(self, ax: "Axes") -> None:
        thresholds, model, everyone = self.curve
        ax.plot(thresholds, model, label=self.name)
        for label, values, style in (
            ("all positive", everyone, "--"),
            ("none positive", np.zeros(len(thresholds)), ":"),
        ):
            same = [line for line in ax.lines if line.get_label() == label]
            if not any(np.array_equal(values, line.get_ydata()) for line in same):
                ax.plot(thresholds, values, style, color=GRAY, label=label)
        top = max(0.01, *(float(np.max(line.get_ydata())) for line in ax.lines))
        ax.set_ylim(-0.15 * top, 1.1 * top)  # that of "all positive" has no lower bound
        ax.set_xlabel("threshold of the predicted probability")
        ax.set_ylabel("net benefit\n(true positives per sample)")
        ax.legend()
