"""Base of the displays: figure and axes of a result."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from mmgraph.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

DARK, MIDDLE, LIGHT, GRAY = "#1b4f72", "#5499c7", "#c9d6df", "#7f8c8d"
UNITS = {"log_loss": "nats", "log score": "nats", "rmse": "units of the target"}


class Display(ABC):
    """A result that can be drawn.

    Attributes:
        ax_: Axes of the last drawing.
        figure_: Figure of the axes.
    """

    ax_: "Axes"
    figure_: "Figure | SubFigure"

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the result, and set ``ax_`` and ``figure_``.

        Args:
            ax: Axes to draw in; None creates a figure.

        Returns:
            The display itself.

        Raises:
            ConfigError: If ``ax`` are not axes, or matplotlib cannot be imported.
        """
        try:
            from matplotlib import pyplot as plt
            from matplotlib.axes import Axes
        except ImportError:
            raise ConfigError(
                "Displays require matplotlib, which cannot be imported. Install it by "
                "pip install matplotlib."
            ) from None
        if ax is None:
            _, ax = plt.subplots(figsize=self._size(), layout="constrained")
        if not isinstance(ax, Axes):
            raise ConfigError(
                f"ax must be Axes of matplotlib, got {type(ax).__name__}. Give one of "
                "them, or None for a new figure.",
                parameter="ax",
            )
        self.ax_, self.figure_ = ax, ax.figure
        self._draw(ax)
        return self

    def _size(self) -> tuple[float, float]:
        """Return width and height of a new figure in inches."""
        return 5.6, 3.6

    @abstractmethod
    def _draw(self, ax: "Axes") -> None:
        """Draw the result in the axes."""


def check_type(name: str, value: object, kind: type, source: str) -> None:
    """Check the class of an argument.

    Raises:
        DataError: If the value has another class.
    """
    if not isinstance(value, kind):
        raise DataError(
            f"{name} must be {kind.__name__}, got {type(value).__name__}. Use the "
            f"result of {source}."
        )


def with_unit(text: str, metric: str) -> str:
    """Return the label of an axis with the unit of the metric, if it has one."""
    return f"{text} ({UNITS[metric]})" if metric in UNITS else text
