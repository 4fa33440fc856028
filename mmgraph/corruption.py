"""Corruption of observed modalities: noise, gain, delays, exchanged content.

A missing modality is marked; a broken sensor is not. A corruption changes the content
of observed modalities and leaves their presence as it is. Corruptions are values, as
the patterns of :mod:`mmgraph.missing`; ``evaluate(model, data, corrupted=[...])``
scores a model under each. The same data and seed give the same result, whose
``fingerprint`` identifies it.

References:
    Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    Hendrycks, Dietterich, 2019, arXiv 1903.12261. MultiBench: Multiscale Benchmarks for
    Multimodal Representation Learning, Liang et al., 2021, arXiv 2107.07502.

Letters: ``N`` samples, ``L`` rows of a modality, ``C`` channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column, IntArray
from mmgraph.data.targets import missing_labels
from mmgraph.data.validation import check_names
from mmgraph.errors import ConfigError, DataError

__all__ = ["Corruption", "cells", "noise", "scale", "shift", "shuffle", "swap", "words"]

_STREAM = 0x636F7272  # "corr": separates draws from masks and data of the same seed


class Corruption(ABC):
    """Change of the content of observed modalities."""

    @abstractmethod
    def describe(self) -> str:
        """Return the corruption as text, such as "noise(ecg, 1)"."""

    @abstractmethod
    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        """Return the columns that change."""

    def apply(self, data: MultimodalData, seed: int = 0) -> MultimodalData:
        """Return corrupted data of the same samples, labels and presence.

        Args:
            data: Samples.
            seed: Seed, at least 0.

        Raises:
            ConfigError: If the seed is negative or not a whole number.
            DataError: If a modality is unknown or of another kind.
        """
        if not isinstance(seed, Integral) or seed < 0:
            raise ConfigError(
                f"seed must be a whole number of at least 0, got {seed!r}.",
                parameter="seed",
            )
        rng = np.random.Generator(np.random.PCG64([int(seed), _STREAM]))
        return replace(data, columns={**data.columns, **self._apply(data, rng)})


@dataclass(frozen=True)
class noise(Corruption):  # noqa: N801  (used like a function)
    """Add Gaussian noise to the numbers of a modality.

    Attributes:
        modality: Name of the modality.
        sd: Standard deviation of the noise, in standard deviations of each channel over
            the data. 0 changes nothing.

    Example:
        >>> from mmgraph import corruption
        >>> data = MultimodalData.from_arrays({"ecg": [[1.0], [3.0]]})
        >>> noisy = corruption.noise("ecg", 1.0).apply(data, seed=0)
        >>> noisy.fingerprint == corruption.noise("ecg", 1.0).apply(data).fingerprint
        True
    """

    modality: str
    sd: float | int

    def __post_init__(self) -> None:
        _check_number("noise", "sd", self.sd, least=0)

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"noise({self.modality}, {self.sd:g})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        def add(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            known = ~np.isnan(x)
            count = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, x, 0).sum(axis=0) / count
            spread = np.sqrt((np.where(known, x - mean, 0) ** 2).sum(axis=0) / count)
            return x + self.sd * spread * rng.standard_normal(x.shape)

        return _with_numbers(self.describe(), data, self.modality, add)


@dataclass(frozen=True)
class scale(Corruption):  # noqa: N801
    """Multiply the numbers of a modality, as a wrong gain or unit does.

    Attributes:
        modality: Name of the modality.
        factor: Factor; 1 changes nothing.
    """

    modality: str
    factor: float | int

    def __post_init__(self) -> None:
        _check_number("scale", "factor", self.factor)

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"scale({self.modality}, {self.factor:g})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        return _with_numbers(
            self.describe(), data, self.modality, lambda x: x * self.factor
        )


@dataclass(frozen=True)
class shift(Corruption):  # noqa: N801
    """Delay the rows of a modality with times.

    Attributes:
        modality: Name of the modality.
        seconds: Delay; 0 changes nothing.
    """

    modality: str
    seconds: float | int

    def __post_init__(self) -> None:
        _check_number("shift", "seconds", self.seconds)

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"shift({self.modality}, {self.seconds:g} s)"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        column = _column(self.describe(), data, self.modality)
        if column.time is None:
            raise DataError(
                f"Modality {self.modality!r} must have times for {self.describe()}, "
                "got none. Choose another modality."
            )
        return {self.modality: replace(column, time=column.time + self.seconds)}


@dataclass(frozen=True)
class shuffle(Corruption):  # noqa: N801
    """Exchange the content of a modality among the samples that have it.

    Attributes:
        modality: Name of the modality.
    """

    modality: str

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"shuffle({self.modality})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        column = _column(self.describe(), data, self.modality)
        order = rng.permutation(np.flatnonzero(column.present))
        source = np.arange(len(data))
        source[order] = np.roll(order, 1)  # no sample keeps its own content
        return {self.modality: column.take(source)}


@dataclass(frozen=True)
class swap(Corruption):  # noqa: N801
    """Replace the content of a modality by that of a sample of another class.

    The modality then contradicts the others. Samples without a label, and samples
    without a partner of another class, keep their content.

    Attributes:
        modality: Name of the modality.
    """

    modality: str

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"swap({self.modality})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        column = _column(self.describe(), data, self.modality)
        if data.y is None or np.ndim(data.y) > 1:
            raise DataError(
                f"data.y must be one class per sample for {self.describe()}, got "
                f"{'none' if data.y is None else 'several'}. Use shuffle."
            )
        source = np.arange(len(data))
        rows = np.flatnonzero(column.present & ~missing_labels(data.y))
        classes = np.asarray(data.y)[rows].astype(str)
        for value in np.unique(classes):
            own, others = rows[classes == value], rows[classes != value]
            if len(others):
                source[own] = rng.choice(others, size=len(own))
        return {self.modality: column.take(source)}


@dataclass(frozen=True)
class cells(Corruption):  # noqa: N801
    """Delete single numbers of all modalities.

    Attributes:
        rate: Probability in [0, 1] that a cell becomes NaN. A modality stays observed.
    """

    rate: float | int

    def __post_init__(self) -> None:
        _check_number("cells", "rate", self.rate, least=0, most=1)

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"cells({self.rate:g})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        changed = {}
        for name, column in data.columns.items():
            if not column.is_text:
                lost = rng.random(column.values.shape) < self.rate
                values = np.where(lost, np.nan, column.values).astype(np.float32)
                changed[name] = replace(column, values=values)
        return changed


@dataclass(frozen=True)
class words(Corruption):  # noqa: N801
    """Delete single words of all texts.

    Attributes:
        rate: Probability in [0, 1] that a word is deleted.
    """

    rate: float | int

    def __post_init__(self) -> None:
        _check_number("words", "rate", self.rate, least=0, most=1)

    def describe(self) -> str:
        """Return the corruption as text."""
        return f"words({self.rate:g})"

    def _apply(
        self, data: MultimodalData, rng: np.random.Generator
    ) -> dict[str, Column]:
        def shortened(text: str) -> str:
            parts = text.split()
            kept = rng.random(len(parts)) >= self.rate
            if kept.all():
                return text
            return " ".join(p for p, keep in zip(parts, kept, strict=True) if keep)

        changed = {}
        for name, column in data.columns.items():
            if column.is_text:
                values = np.array([shortened(x) for x in column.values], dtype=object)
                changed[name] = replace(column, values=values)
        return changed


def _check_number(
    subject: str,
    name: str,
    value: Any,  # noqa: ANN401
    least: float | int = -np.inf,
    most: float | int = np.inf,
) -> None:
    """Check that a parameter is a finite number within bounds.

    Raises:
        ConfigError: If it is not.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if number and np.isfinite(float(value)) and least <= value <= most:
        return
    rule = "a finite number"
    if most < np.inf:
        rule = f"between {least:g} and {most:g}"
    elif least > -np.inf:
        rule = f"a finite number of at least {least:g}"
    raise ConfigError(f"{name} of {subject} must be {rule}, got {value!r}.")


def _column(subject: str, data: MultimodalData, modality: str) -> Column:
    check_names(subject, [modality], data.modalities)
    return data.columns[modality]


def _with_numbers(
    subject: str,
    data: MultimodalData,
    modality: str,
    change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> dict[str, Column]:
    """Return a modality with changed numbers; categories stay as they are.

    Raises:
        DataError: If the modality has no numbers.
    """
    column = _column(subject, data, modality)
    kinds = column.categories or (None,) * (column.channels or 0)
    numeric: IntArray = np.flatnonzero([each is None for each in kinds])
    if column.is_text or not len(numeric):
        raise DataError(
            f"Modality {modality!r} must have numbers for {subject}, got "
            f"{'text' if column.is_text else 'categories'}. Use shuffle or swap."
        )
    values = column.values.copy()
    with np.errstate(over="ignore"):
        values[:, numeric] = change(values[:, numeric].astype(np.float64))
    return {modality: replace(column, values=values)}
