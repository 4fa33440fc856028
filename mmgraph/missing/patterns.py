"""Patterns that do not look at what the samples contain.

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
    """Remove each modality independently with the same probability.

    One modality, chosen at random, stays where all would go: the realised rate is
    below the nominal one.

    Attributes:
        rate: Probability in [0, 1].

    Example:
        >>> from mmgraph.missing import mcar
        >>> data = MultimodalData.from_arrays({"a": torch.ones(4, 2).numpy()})
        >>> mcar(1.0).plan(data, seed=0).realised_rate  # the only one stays
        0.0
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("mcar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mcar({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return thin(data.present, np.float64(self.rate), rng)


@dataclass(frozen=True)
class imbalanced(Pattern):  # noqa: N801  (used like a function)
    """Remove each modality independently with a probability of its own.

    Attributes:
        rates: Probability in [0, 1] for each modality; those not named stay.
    """

    rates: Mapping[str, float | int] = field(hash=False)

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            check_rate(f"imbalanced rate of {name!r}", rate)
        object.__setattr__(self, "rates", dict(self.rates))

    def describe(self) -> str:
        """Return the rule in words."""
        rates = ", ".join(f"{name}={self.rates[name]:g}" for name in sorted(self.rates))
        return f"imbalanced({rates})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        check_names(self.rates, data)
        rates = np.array([self.rates.get(name, 0.0) for name in data.modalities])
        return thin(data.present, rates, rng)


@dataclass(frozen=True)
class block(Pattern):  # noqa: N801  (used like a function)
    """Remove each modality from whole groups (hospital, device, subject).

    A group keeps at least one modality. A sample that has none of those its group
    keeps gets one of its own back.

    Attributes:
        rate: Probability in [0, 1] that a group lacks a modality.
    """

    rate: float | int

    def __post_init__(self) -> None:
        check_rate("block", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
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
class _Named(Pattern):
    """A pattern that is told by names of modalities.

    Attributes:
        modalities: Names, or one name.
    """

    modalities: str | Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", _names(self.modalities))

    def describe(self) -> str:
        """Return the rule in words."""
        return f"{type(self).__name__}({', '.join(self.modalities)})"

    def _is_named(self, data: MultimodalData) -> BoolArray:
        """Return ``[M]``: which modalities of the data are named."""
        check_names(self.modalities, data)
        return np.isin(data.modalities, self.modalities)


class leave_out(_Named):  # noqa: N801  (used like a function)
    """Remove the named modalities from every sample; it may keep nothing."""

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return ~self._is_named(data) & data.present


class only(_Named):  # noqa: N801  (used like a function)
    """Remove all but the named modalities from every sample; it may keep nothing."""

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return self._is_named(data) & data.present


@dataclass(frozen=True)
class natural(Pattern):  # noqa: N801  (used like a function)
    """Remove nothing: what the data lack is missing."""

    def describe(self) -> str:
        """Return the rule in words."""
        return "natural()"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return data.present


def _names(modalities: str | Sequence[str]) -> tuple[str, ...]:
    return (modalities,) if isinstance(modalities, str) else tuple(modalities)
