"""Patterns of observed modalities. Letters: ``P`` patterns, ``M`` modalities."""

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray
from mmgraph.errors import ConfigError, DataError
from mmgraph.plotting.display import DARK, LIGHT, Display, check_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False)
class MissingnessDisplay(Display):
    """Patterns of observed modalities and the number of samples of each (UpSet plot).

    A column is a pattern: dark dots are observed modalities, light dots missing ones.
    The bar above it is the number of samples.

    Attributes:
        patterns: ``[P, M]`` True for observed modalities, most frequent pattern first.
        counts: ``[P]`` number of samples.
        modalities: ``[M]`` names.
        max_patterns: Number of patterns that are drawn.
        bars_ax_: Axes of the bars, inside of ``ax_``.

    References:
        UpSet: Visualization of Intersecting Sets, Lex, Gehlenborg, Strobelt, Vuillemot,
        Pfister, 2014.
    """

    patterns: BoolArray
    counts: npt.NDArray[np.int64]
    modalities: tuple[str, ...]
    max_patterns: int = 20

    @classmethod
    def from_data(
        cls, data: MultimodalData, *, max_patterns: int = 20, ax: "Axes | None" = None
    ) -> Self:
        """Count the patterns of samples, and draw them.

        Args:
            data: Samples.
            max_patterns: Number of patterns to draw.
            ax: Axes to draw in; None creates a figure.

        Raises:
            DataError: If the data are not ``MultimodalData`` with at least one sample.
            ConfigError: If ``max_patterns`` is no whole number above 0.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0], None]})
            >>> mmgraph.plotting.MissingnessDisplay.from_data(data).counts
            array([2, 1])
        """
        check_type("data", data, MultimodalData, "MultimodalData.from_arrays")
        if not len(data):
            raise DataError("data must have at least one sample, got none.")
        if not isinstance(max_patterns, Integral) or max_patterns < 1:
            raise ConfigError(
                f"max_patterns must be a whole number above 0, got {max_patterns!r}.",
                parameter="max_patterns",
            )
        patterns, counts = np.unique(data.present, axis=0, return_counts=True)
        order = np.lexsort((-patterns.sum(axis=1), -counts))
        modalities = tuple(data.modalities)
        return cls(patterns[order], counts[order], modalities, max_patterns).plot(ax)

    def _size(self) -> tuple[float, float]:
        num_drawn = min(len(self.counts), self.max_patterns)
        return 2.8 + 0.36 * num_drawn, 1 + 0.6 * len(self.modalities)

    def _draw(self, ax: "Axes") -> None:
        counts = self.counts[: self.max_patterns]
        for place, observed in enumerate(self.patterns[: self.max_patterns]):
            for rows, style, color in (
                (np.flatnonzero(~observed), "o", LIGHT),
                (np.flatnonzero(observed), "o-", DARK),
            ):
                ax.plot(np.full(len(rows), place), rows, style, color=color)
        shares = self.counts @ self.patterns / self.counts.sum()
        names = zip(self.modalities, shares, strict=True)
        labels = [f"{name} ({share:.0%})" for name, share in names]
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.5, -0.5 - len(labels))  # bars above the dots
        ax.set_xlim(-0.6, len(counts) - 0.4)
        ax.set_ylabel("modality\n(share of samples)", y=0.25)
        ax.set_xlabel("pattern of observed modalities" + self._rest())
        self._draw_bars(ax, counts)
        ax.set_xticks([])

    def _draw_bars(self, ax: "Axes", counts: npt.NDArray[np.int64]) -> None:
        """Draw the numbers of samples in the upper half of the axes."""
        self.bars_ax_ = bars = ax.inset_axes((0, 0.53, 1, 0.47), sharex=ax)
        bars.bar_label(bars.bar(range(len(counts)), counts, color=DARK), padding=1)
        bars.set_ylabel("samples")
        bars.margins(y=0.15)
        for axes in (ax, bars):
            axes.spines[["top", "right"]].set_visible(False)
        ax.spines["left"].set_bounds(len(self.modalities) - 0.5, -0.5)

    def _rest(self) -> str:
        """Return a note about the patterns that are not drawn."""
        rest = self.counts[self.max_patterns :]
        total = self.counts.sum()
        note = f"\n({len(rest)} more, {rest.sum()} of {total} samples)"
        return note if len(rest) else ""
