"""Patterns that depend on observed values (MAR) or on the label (MNAR).

Letters: `N` samples of a data set, `M` modalities.
"""

from dataclasses import dataclass

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.features.describe import describe_rows
from mmgraph.data.targets import missing_labels
from mmgraph.data.validation import check_names
from mmgraph.errors import DataError
from mmgraph.missing.base import FloatArray, Pattern, check_rate, thin
from mmgraph.missing.plan import BoolArray

_STEEPNESS = 2.0  # change of the log-odds of missingness per standard deviation


@dataclass(frozen=True)
class mar(Pattern):  # noqa: N801  (used like a function)
    """Missing at random: modalities are removed depending on one that is kept.

    The log-odds of removal increase by 2 per standard deviation of the mean
    standardized feature of `on`. Their intercept is chosen such that the mean
    probability equals the rate. Samples without `on` use the rate itself.

    Attributes:
        rate: Mean probability in [0, 1] that another modality is removed.
        on: Modality that the probability depends on; it is never removed.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import mar
        >>> arrays = {"a": [[0.0], [1.0]], "b": [[1.0], [1.0]]}
        >>> data = MultimodalData.from_arrays(arrays)
        >>> mar(0.5, on="a").plan(data, seed=0).present[:, 0]
        array([ True,  True])
    """

    rate: float | int
    on: str

    def __post_init__(self) -> None:
        check_rate("mar", self.rate)

    def describe(self) -> str:
        """Return the pattern as text."""
        return f"mar({self.rate:g}, on={self.on})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        check_names(self.describe(), [self.on], data.modalities)
        column = data.modalities.index(self.on)
        kind = data.schema.modality(self.on).kind
        # masks of one seed stay the same when the features of texts change
        x = describe_rows(data.columns[self.on], kind, version=1).astype(np.float64)
        score = _row_mean(_standardized(x))
        rates = np.repeat(_rates(score, self.rate)[:, None], data.shape[1], axis=1)
        rates[:, column] = 0
        return thin(data.present, rates, rng)


@dataclass(frozen=True)
class mnar(Pattern):  # noqa: N801  (used like a function)
    """Missing not at random: modalities are removed depending on the label.

    The availability itself becomes predictive, which reveals models that use it as a
    shortcut. The log-odds of removal increase by 2 per standard deviation of the label
    (the rank of the class if labels are strings, the mean if there are several
    targets). Their intercept is chosen such that the mean probability equals the rate.
    Samples without a label use the rate itself.

    Attributes:
        rate: Mean probability in [0, 1] that a modality is removed.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import mnar
        >>> mnar(0.3).describe()
        'mnar(0.3)'
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("mnar", self.rate)

    def describe(self) -> str:
        """Return the pattern as text."""
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
        score = _row_mean(_standardized(y if y.ndim > 1 else y[:, None]))
        return thin(data.present, _rates(score, self.rate)[:, None], rng)


def _standardized(x: FloatArray) -> FloatArray:
    """Return columns with mean 0 and standard deviation 1 over the known cells."""
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    centered = x - np.where(known, x, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, centered**2, 0).sum(axis=0) / count)
    standardized: FloatArray = centered / np.where(spread > 0, spread, 1)
    return standardized


def _row_mean(x: FloatArray) -> FloatArray:
    """Return the mean of the known cells of each row [N]; NaN if there is none."""
    known = ~np.isnan(x)
    count = known.sum(axis=1)
    total = np.where(known, x, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _rates(score: FloatArray, rate: float | int) -> FloatArray:
    """Return probabilities, logistic in the score [N], whose mean is the rate."""
    known = ~np.isnan(score)
    rates = np.full(len(score), float(rate))
    if not known.any() or rate in (0, 1):
        return rates
    z = _STEEPNESS * _standardized(score[known, None])[:, 0]
    low, high = -50 - abs(z).max(), 50 + abs(z).max()
    for _ in range(80):  # bisection: the mean increases with the level
        level = (low + high) / 2
        above = (1 / (1 + np.exp(-(z + level)))).mean() > rate
        low, high = (low, level) if above else (level, high)
    rates[known] = 1 / (1 + np.exp(-(z + level)))
    return rates
