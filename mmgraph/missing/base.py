"""Base class of missing patterns, and masks that keep one modality per sample.

Letters: `N` samples of a data set, `M` modalities.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, DataError
from mmgraph.missing.plan import BoolArray, MaskPlan, check_in_memory

FloatArray = npt.NDArray[np.float64]

_STREAM = 0x6D61736B  # "mask"


class Pattern(ABC):
    """Missing-modality mechanism: a distribution over availability masks."""

    @abstractmethod
    def describe(self) -> str:
        """Return the pattern as text, such as "mcar(0.3)"."""

    @abstractmethod
    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        """Return the mask [N, M]; True where the data lack a modality is ignored."""

    def plan(self, data: MultimodalData, seed: int | np.int64 = 0) -> MaskPlan:
        """Draw an availability mask for data.

        Args:
            data: N samples. A modality that a sample lacks stays missing.
            seed: Seed, at least 0; the same data and seed give the same plan.

        Returns:
            Plan that keeps at least one observed modality of every sample, except for
            `leave_out` and `only`. A sample without modalities keeps none.

        Raises:
            ConfigError: If the seed is negative or not an integer.
            DataError: If the data lack the labels, groups or modality that the pattern
                needs, or are a stream.

        Example:
            >>> from mmgraph.missing import leave_out
            >>> data = MultimodalData.from_arrays({"a": [[1.0]], "b": [[2.0]]})
            >>> leave_out("a").plan(data).present
            array([[False,  True]])
        """
        check_in_memory("plan", data)
        if not isinstance(seed, Integral) or seed < 0:
            raise ConfigError(
                f"seed must be a whole number of at least 0, got {seed!r}. The default "
                "is 0."
            )
        # The extra entropy separates masks from data that were drawn with the same
        # seed; without it they were correlated (measured: rate 0.3 became 0.16).
        rng = np.random.Generator(np.random.PCG64([int(seed), _STREAM]))
        present = self._present(data, rng) & data.present
        return MaskPlan(
            present,
            data.modalities,
            self.describe(),
            int(seed),
            int(data.present.sum()),
        )


def check_rate(subject: str, rate: float | int) -> None:
    """Check that a rate is a number in [0, 1].

    Args:
        subject: Name of the pattern, for error messages.
        rate: Rate to check.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(rate, Real) or not 0 <= rate <= 1:
        raise ConfigError(
            f"{subject} must have a rate in [0, 1], got {rate!r}. Pass a probability."
        )


def check_names(
    names: Sequence[str] | Mapping[str, float | int], data: MultimodalData
) -> None:
    """Check that names are modalities of the data.

    Args:
        names: Names to check.
        data: Data with the known modalities.

    Raises:
        DataError: If a name is unknown.
    """
    known = data.modalities
    for name in names:
        if name not in known:
            raise DataError(
                f"{name!r} must be a modality of the data, got only {list(known)}. "
                "Check the spelling."
            )


def thin(
    had: BoolArray, rates: FloatArray | np.float64, rng: np.random.Generator
) -> BoolArray:
    """Remove entries at random, but never all entries of a row.

    Args:
        had: Bool [N, M], True where there is an entry.
        rates: Probabilities of removal that broadcast to [N, M].
        rng: Generator.

    Returns:
        Bool [N, M].
    """
    return restore_one(had & (rng.random(had.shape) >= rates), had, rng)


def restore_one(kept: BoolArray, had: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Restore one random entry in each row that lost all of its entries.

    Args:
        kept: Bool [N, M], True where an entry is kept.
        had: Bool [N, M], True where there was an entry.
        rng: Generator.

    Returns:
        Bool [N, M].
    """
    order = np.where(had, rng.random(had.shape), -1.0)
    first = order == order.max(axis=1, keepdims=True, initial=-1.0)
    restored: BoolArray = first & had & ~kept.any(axis=1, keepdims=True)
    return kept | restored
