"""Patterns that do not depend on values or labels.

Letters: `N` samples of a data set, `M` modalities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.errors import DataError
from mmgraph.missing.base import (
    Pattern,
    check_names,
    check_rate,
    restore_one,
    thin,
)
from mmgraph.missing.plan import BoolArray


@dataclass(frozen=True)
class mcar(Pattern):  # noqa: N801  (used like a function: mcar(0.3))
    """Missing completely at random: every modality is removed with one probability.

    If all modalities of a sample would be removed, one of them, chosen at random, is
    kept: the realized rate is below the nominal one.

    Attributes:
        rate: Probability in [0, 1] that a modality is removed.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import mcar
        >>> data = MultimodalData.from_arrays({"a": torch.ones(4, 2)})
        >>> mcar(1.0).plan(data, seed=0).realised_rate  # one modality is always kept
        0.0
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("mcar", self.rate)

    def describe(self) -> str:
        """Return the pattern as text."""
        return f"mcar({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return thin(data.present, np.float64(self.rate), rng)


@dataclass(frozen=True)
class imbalanced(Pattern):  # noqa: N801  (used like a function)
    """Missing completely at random with a different probability per modality.

    If all modalities of a sample would be removed, one of them, chosen at random, is
    kept.

    Attributes:
        rates: Probability in [0, 1] by modality; modalities without one are kept.

    Raises:
        ConfigError: If a rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import imbalanced
        >>> imbalanced({"ecg": 0.5, "labs": 0.1}).describe()
        'imbalanced(ecg=0.5, labs=0.1)'
    """

    rates: Mapping[str, float | int] = field(hash=False)

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            check_rate(f"imbalanced rate of {name!r}", rate)
        object.__setattr__(self, "rates", dict(self.rates))

    def describe(self) -> str:
        """Return the pattern as text."""
        rates = ", ".join(f"{name}={self.rates[name]:g}" for name in sorted(self.rates))
        return f"imbalanced({rates})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        check_names(self.rates, data)
        rates = np.array([self.rates.get(name, 0.0) for name in data.modalities])
        return thin(data.present, rates, rng)


@dataclass(frozen=True)
class block(Pattern):  # noqa: N801  (used like a function)
    """Block-wise missing: modalities are removed from whole groups.

    A group (hospital, device, subject) keeps at least one modality. A sample that has
    none of the modalities that its group keeps, keeps one of its observed modalities.

    Attributes:
        rate: Probability in [0, 1] that a group lacks a modality.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import block
        >>> block(0.2).describe()
        'block(0.2)'
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("block", self.rate)

    def describe(self) -> str:
        """Return the pattern as text."""
        return f"block({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        if data.groups is None:
            raise DataError(
                f"data.groups must be given for {self.describe()}, got None. Pass "
                "groups= when building the data, or use mcar."
            )
        names, member = np.unique(data.groups, return_inverse=True)
        had = np.zeros((len(names), len(data.modalities)), dtype=bool)
        np.logical_or.at(had, member, data.present)
        kept = thin(had, np.float64(self.rate), rng)[member] & data.present
        return restore_one(kept, data.present, rng)


@dataclass(frozen=True)
class _Fixed(Pattern):
    """Pattern that removes the same modalities from every sample.

    Attributes:
        modalities: Names of modalities, or one name.
    """

    modalities: str | Sequence[str]

    def __post_init__(self) -> None:
        names = self.modalities
        names = (names,) if isinstance(names, str) else tuple(names)
        object.__setattr__(self, "modalities", names)

    def describe(self) -> str:
        """Return the pattern as text."""
        return f"{type(self).__name__}({', '.join(self.modalities)})"

    def _is_named(self, data: MultimodalData) -> BoolArray:
        """Return ``[M]``: True for the modalities of the data that are named."""
        check_names(self.modalities, data)
        return np.isin(data.modalities, self.modalities)


class leave_out(_Fixed):  # noqa: N801  (used like a function)
    """Removal of the given modalities from every sample.

    A sample that has only these modalities keeps none.

    Attributes:
        modalities: Names of modalities, or one name.

    Example:
        >>> from mmgraph.missing import leave_out
        >>> leave_out("ecg").describe()
        'leave_out(ecg)'
    """

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return ~self._is_named(data) & data.present


class only(_Fixed):  # noqa: N801  (used like a function)
    """Removal of all other modalities from every sample.

    A sample that has none of the given modalities keeps none.

    Attributes:
        modalities: Names of the modalities that are kept, or one name.

    Example:
        >>> from mmgraph.missing import only
        >>> only(["labs", "ecg"]).describe()
        'only(labs, ecg)'
    """

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return self._is_named(data) & data.present


@dataclass(frozen=True)
class natural(Pattern):  # noqa: N801  (used like a function)
    """Missingness as observed: nothing is removed from the data.

    Example:
        >>> from mmgraph.missing import natural
        >>> natural().describe()
        'natural()'
    """

    def describe(self) -> str:
        """Return the pattern as text."""
        return "natural()"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return data.present
