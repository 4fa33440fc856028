"""Bars of the contributions of modalities to a score."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from mmgraph.evaluation.contribution import Contributions
from mmgraph.plotting.display import (
    DARK,
    GRAY,
    LIGHT,
    MIDDLE,
    Display,
    check_type,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = (
    ("share", "share (Shapley value)", DARK),
    ("alone", "alone (over nothing)", MIDDLE),
    ("last", "last (over all others)", LIGHT),
)


@dataclass(eq=False)
class ContributionsDisplay(Display):
    """Bars of share, alone and last of each modality, with 95% intervals.

    The modality with the largest share is on top; its verdict is below its name.

    Attributes:
        contributions: Result of :func:`mmgraph.contributions`.
    """

    contributions: Contributions

    @classmethod
    def from_contributions(
        cls, contributions: Contributions, *, ax: "Axes | None" = None
    ) -> Self:
        """Draw the contributions of modalities to a score.

        Args:
            contributions: Result of :func:`mmgraph.contributions`.
            ax: Axes to draw in; None creates a figure.

        Raises:
            DataError: If the argument has another class.

        Example:
            >>> data = mmgraph.load_dataset("heart").select(["history", "lab"])
            >>> train, test = data.split(test_size=0.4, seed=0)
            >>> clf = mmgraph.baselines.LateLogistic().fit(train)
            >>> report = mmgraph.contributions(clf, test)
            >>> show = mmgraph.plotting.ContributionsDisplay.from_contributions
            >>> show(report).ax_.get_xlabel()
            'gain in the mean log score (nats)'
        """
        source = "mmgraph.contributions"
        check_type("contributions", contributions, Contributions, source)
        return cls(contributions).plot(ax)

    def _size(self) -> tuple[float, float]:
        return 6.4, 1.2 + 0.55 * len(self.contributions.modalities)

    def _draw(self, ax: "Axes") -> None:
        modalities = self.contributions.modalities
        places = np.arange(len(modalities))
        for i, (quantity, label, color) in enumerate(BARS):
            intervals = np.array([getattr(each, quantity) for each in modalities])
            mean, low, high = intervals.T
            # a percentile interval need not contain the mean
            errors = np.maximum([mean - low, high - mean], 0)
            middle = places + 0.27 * (i - 1)
            ax.barh(middle, mean, 0.25, color=color, label=label)
            ax.errorbar(mean, middle, xerr=errors, fmt="none", ecolor=GRAY, lw=1)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(places, [f"{e.modality}\n({e.verdict})" for e in modalities])
        ax.invert_yaxis()
        metric = self.contributions.metric
        ax.set_xlabel(with_unit(f"gain in the mean {metric}", metric))
        ax.legend()
