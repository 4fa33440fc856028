"""What is removed before a model is asked, and how often."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypeAlias

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError
from mmgraph.missing import Pattern, mcar, natural

Missing: TypeAlias = float | int | Pattern


@dataclass(frozen=True)
class Scenario:
    """One missing pattern, drawn with several seeds.

    Attributes:
        name: The rate, or the pattern in words.
        pattern: The rule.
        seeds: Of the masks; a score is the mean over them.
    """

    name: str
    pattern: Pattern
    seeds: range

    @property
    def removes(self) -> bool:
        """Whether anything can go missing."""
        return not isinstance(self.pattern, natural)

    def __iter__(self) -> Iterator[int]:
        return iter(self.seeds)

    def apply(self, data: MultimodalData, seed: int) -> MultimodalData:
        """Return the data without what the mask of that seed removes."""
        return self.pattern.plan(data, seed=seed).apply(data)


def build_scenarios(
    missing: Sequence[Missing], seeds: int, seed: int
) -> list[Scenario]:
    """Return what is asked for, in order.

    Args:
        missing: Rates of what is removed completely at random, from 0 to 1, or
            patterns of `mmgraph.missing`; at least one.
        seeds: Masks of each, at least 1. Nothing is removed but once.
        seed: Of the first mask; other seeds share no mask.

    Raises:
        ConfigError: Another rate, no pattern, or other seeds.
    """
    if not _whole(seed, 0):
        raise ConfigError(f"seed must be a whole number of at least 0, got {seed!r}.")
    if not _whole(seeds, 1):
        raise ConfigError(f"seeds must be a whole number of at least 1, got {seeds!r}.")
    if isinstance(missing, str | Pattern | Real) or not len(missing):
        raise ConfigError(
            f"missing must be a list of rates or patterns, got {missing!r}. The default is "
            "[0, 0.3, 0.5, 0.7]."
        )
    return [_removal(each, int(seeds), int(seed)) for each in missing]


def _removal(given: object, seeds: int, seed: int) -> Scenario:
    first = seed * seeds
    if isinstance(given, Pattern):
        once = isinstance(given, natural)
        drawn = range(first, first + (1 if once else seeds))
        return Scenario(given.describe(), given, drawn)
    if not isinstance(given, Real) or isinstance(given, bool):
        raise ConfigError(
            f"missing must be rates or patterns, got {given!r}. Patterns are those of "
            "mmgraph.missing."
        )
    rate = float(given)
    if not 0 <= rate <= 1:
        raise ConfigError(f"missing must be rates from 0 to 1, got {rate:g}.")
    pattern = mcar(rate) if rate else natural()
    return Scenario(f"{rate:g}", pattern, range(first, first + (seeds if rate else 1)))


def _whole(value: object, least: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= least  # type: ignore[call-overload]
