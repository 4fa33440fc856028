"""Patterns that depend on the content or the label of a sample.

Letters: `N` samples of a data set, `M` modalities.
"""

from dataclasses import dataclass

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.features.describe import describe_rows
from mmgraph.data.targets import missing_labels
from mmgraph.errors import DataError
from mmgraph.missing.base import FloatArray, Pattern, check_names, check_rate, thin
from mmgraph.missing.plan import BoolArray

_STEEPNESS = 2.0  # change of the log-odds of missingness per standard deviation


@dataclass(frozen=True)
class mar(Pattern):  # noqa: N801  (used like a function)
    """Remove modalities depending on the content of one that stays.

    The log-odds of removal rise by 2 per standard deviation of the mean of the
    standardised features of `on`; their level makes the mean probability the rate.
    Where `on` is missing the rate itself applies. `on` is never removed.

    Attributes:
        rate: Mean probability in [0, 1] of the other modalities.
        on: The observed modality that the probability depends on; not text.
    """

    rate: float | int
    on: str

    def __post_init__(self) -> None:
        check_rate("mar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mar({self.rate:g}, on={self.on})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        check_names([self.on], data)
        column = data.modalities.index(self.on)
        kind = data.schema.modality(self.on).kind
        x = describe_rows(data.columns[self.on], kind).astype(np.float64)
        score = _row_mean(_standardised(x))
        rates = np.repeat(_rates(score, self.rate)[:, None], data.shape[1], axis=1)
        rates[:, column] = 0
        return thin(data.present, rates, rng)


@dataclass(frozen=True)
class mnar(Pattern):  # noqa: N801  (used like a function)
    """Remove modalities depending on the label, a probe for shortcuts.

    The log-odds of removal rise by 2 per standard deviation of the label (the rank of
    the class where labels are not numbers; the mean of several labels); their level
    makes the mean probability the rate. An unknown label gets the rate itself.

    Attributes:
        rate: Mean probability in [0, 1].
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("mnar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mnar({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        if data.y is None:
            raise DataError(
                f"data.y must be given for {self.describe()}, got None. Pass y= when "
                "building the data, or use mcar."
            )
        y = np.full(data.y.shape, np.nan)
        known = ~missing_labels(data.y)
        numbers = data.y.dtype.kind in "fiub"
        labels = data.y[known]
        y[known] = labels if numbers else np.unique(labels, return_inverse=True)[1]
        score = _row_mean(_standardised(y if y.ndim > 1 else y[:, None]))
        return thin(data.present, _rates(score, self.rate)[:, None], rng)


def _standardised(x: FloatArray) -> FloatArray:
    """Return columns with mean 0 and deviation 1 over known cells; NaN stays."""
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    centred = x - np.where(known, x, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, centred**2, 0).sum(axis=0) / count)
    standardised: FloatArray = centred / np.where(spread > 0, spread, 1)
    return standardised


def _row_mean(x: FloatArray) -> FloatArray:
    """Return the mean of the known cells of each row, [N]; NaN where none is."""
    known = ~np.isnan(x)
    count = known.sum(axis=1)
    total = np.where(known, x, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _rates(score: FloatArray, rate: float | int) -> FloatArray:
    """Return a logistic function of the score [N] whose mean is the rate."""
    known = ~np.isnan(score)
    rates = np.full(len(score), float(rate))
    if not known.any() or rate in (0, 1):
        return rates
    z = _STEEPNESS * _standardised(score[known, None])[:, 0]
    low, high = -50 - abs(z).max(), 50 + abs(z).max()
    for _ in range(80):  # bisection: the mean rises with the level
        level = (low + high) / 2
        above = (1 / (1 + np.exp(-(z + level)))).mean() > rate
        low, high = (low, level) if above else (level, high)
    rates[known] = 1 / (1 + np.exp(-(z + level)))
    return rates
