"""Corruptions of test data that the benchmark is given by name."""

from collections.abc import Callable, Iterator

import numpy as np

from mmgraph import corruption
from mmgraph.corruption import Corruption
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError

# by name: corruption of a modality with a parameter
WITH_NUMBER: dict[str, Callable[[str, float], Corruption]] = {
    "noise": corruption.noise,
    "scale": corruption.scale,
}
PLAIN: dict[str, Callable[[str], Corruption]] = {
    "shuffle": corruption.shuffle,
    "swap": corruption.swap,
}


def check_corruption(text: str) -> str:
    """Return the name of a corruption unchanged.

    Args:
        text: "noise:SD", "scale:FACTOR", "shuffle" or "swap".

    Raises:
        ConfigError: If it is another text.
    """
    name, number = _parse(text)
    if (name in WITH_NUMBER and number is not None) or text in PLAIN:
        return text
    raise ConfigError(
        "corrupt must be noise:SD, scale:FACTOR, shuffle or swap, such as noise:1, got "
        f"'{text}'.",
        parameter="corrupt",
    )


def corruptions_of(text: str, data: MultimodalData) -> Iterator[tuple[str, Corruption]]:
    """Yield each modality that a corruption applies to, and its corruption.

    Noise and scale apply to modalities of numbers.

    Args:
        text: See :func:`check_corruption`.
        data: Test samples.
    """
    name, number = _parse(check_corruption(text))
    for modality, column in data.columns.items():
        if number is None:
            yield modality, PLAIN[name](modality)
        elif not column.is_text and _has_numbers(data, modality):
            yield modality, WITH_NUMBER[name](modality, number)


def _parse(text: str) -> tuple[str, float | None]:
    name, colon, value = text.partition(":")
    try:
        number = float(value) if colon else None
    except ValueError:
        number = None
    usable = number is not None and np.isfinite(number)
    return name, number if usable else None


def _has_numbers(data: MultimodalData, modality: str) -> bool:
    column = data.columns[modality]
    kinds = column.categories or (None,) * (column.channels or 0)
    return any(each is None for each in kinds)
