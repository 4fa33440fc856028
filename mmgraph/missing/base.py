"""What all missing patterns share.

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
    """A rule by which modalities go missing."""

    @abstractmethod
    def describe(self) -> str:
        """Return the rule in words, such as "mcar(0.3)"."""

    @abstractmethod
    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        """Return what stays, [N, M]; what the data lack is removed afterwards."""

    def plan(self, data: MultimodalData, seed: int | np.int64 = 0) -> MaskPlan:
        """Choose what each sample keeps.

        Args:
            data: N samples; only what they have can go missing.
            seed: Seed, at least 0; the same data and seed give the same plan.

        Returns:
            The plan. It keeps at least one of the modalities that a sample has,
            except under `leave_out` and `only`. A sample with none keeps none.

        Raises:
            ConfigError: If the seed is negative or no whole number.
            DataError: If the data lack what the rule needs, or are a stream.
        """
        check_in_memory("plan", data)
        if not isinstance(seed, Integral) or seed < 0:
            raise ConfigError(
                f"seed must be a whole number of at least 0, got {seed!r}. The default is 0."
            )
        # A stream of its own: data that were drawn with the same plain seed would
        # otherwise be correlated with their masks (measured: rate 0.3 became 0.16).
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
    """Refuse a rate outside [0, 1].

    Raises:
        ConfigError: Naming the subject.
    """
    if not isinstance(rate, Real) or not 0 <= rate <= 1:
        raise ConfigError(
            f"{subject} must have a rate in [0, 1], got {rate!r}. Give a probability."
        )


def check_names(
    names: Sequence[str] | Mapping[str, float | int], data: MultimodalData
) -> None:
    """Refuse names that are not modalities of the data.

    Raises:
        DataError: Naming the first one.
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
    """Remove entries with probabilities that broadcast to [N, M]; one stays."""
    return restore_one(had & (rng.random(had.shape) >= rates), had, rng)


def restore_one(kept: BoolArray, had: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Give rows that lost everything one of their entries back, at random."""
    order = np.where(had, rng.random(had.shape), -1.0)
    first = order == order.max(axis=1, keepdims=True, initial=-1.0)
    restored: BoolArray = first & had & ~kept.any(axis=1, keepdims=True)
    return kept | restored
