"""Scenarios: what is removed or corrupted before prediction, with which seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypeAlias

from mmgraph.corruption import Corruption
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError
from mmgraph.missing import Pattern, mcar, natural

Missing: TypeAlias = float | int | Pattern


@dataclass(frozen=True)
class Scenario:
    """One missing pattern or corruption, drawn with several seeds.

    Attributes:
        name: The rate, or the description of the pattern.
        pattern: The rule that removes or corrupts modalities.
        seeds: Seeds of the masks; a score is the mean over them.
    """

    name: str
    pattern: Pattern | Corruption
    seeds: range

    @property
    def removes(self) -> bool:
        """Whether the pattern can remove anything."""
        return not isinstance(self.pattern, natural | Corruption)

    def __iter__(self) -> Iterator[int]:
        return iter(self.seeds)

    def apply(self, data: MultimodalData, seed: int) -> MultimodalData:
        """Return the data as the pattern changes them with a seed."""
        if isinstance(self.pattern, Corruption):
            return self.pattern.apply(data, seed)
        return self.pattern.plan(data, seed=seed).apply(data)


def build_scenarios(
    missing: Sequence[Missing], seeds: int, seed: int
) -> list[Scenario]:
    """Build one scenario per rate or pattern, in the given order.

    Args:
        missing: Rates from 0 to 1 of modalities removed completely at random, or
            patterns of `mmgraph.missing`; at least one.
        seeds: Masks per scenario, at least 1. A scenario that removes nothing has one.
        seed: Seed of the first mask; different seeds have no mask in common.

    Raises:
        ConfigError: If a rate is outside 0 to 1, an entry is neither a rate nor a
            pattern, or a seed is not a whole number.
    """
    if not _is_whole(seed, 0):
        raise ConfigError(
            f"seed must be a whole number of at least 0, got {seed!r}.",
            parameter="seed",
        )
    if not _is_whole(seeds, 1):
        raise ConfigError(
            f"seeds must be a whole number of at least 1, got {seeds!r}.",
            parameter="seeds",
        )
    if isinstance(missing, str | Pattern | Real) or not len(missing):
        raise ConfigError(
            f"missing must be a list of rates or patterns, got {missing!r}. The "
            "default is [0, 0.3, 0.5, 0.7].",
            parameter="missing",
        )
    return [_build(each, int(seeds), int(seed)) for each in missing]


def build_corrupted(
    corrupted: Sequence[Corruption], seeds: int, seed: int
) -> list[Scenario]:
    """Build one scenario per corruption, in the given order.

    Args:
        corrupted: Corruptions of `mmgraph.corruption`.
        seeds: Draws per corruption, checked by `build_scenarios`.
        seed: Seed of the first draw.

    Raises:
        ConfigError: If an entry is not a corruption.
    """
    single = isinstance(corrupted, str | Corruption)
    for each in [corrupted] if single else corrupted:
        if single or not isinstance(each, Corruption):
            raise ConfigError(
                f"corrupted must be a list of corruptions, got {each!r}. They are "
                "those of mmgraph.corruption.",
                parameter="corrupted",
            )
    first = seed * seeds
    return [
        Scenario(each.describe(), each, range(first, first + seeds))
        for each in corrupted
    ]


def _build(value: object, seeds: int, seed: int) -> Scenario:
    first = seed * seeds
    if isinstance(value, Pattern):
        count = 1 if isinstance(value, natural) else seeds
        return Scenario(value.describe(), value, range(first, first + count))
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ConfigError(
            f"missing must be rates or patterns, got {value!r}. Patterns are those of "
            "mmgraph.missing.",
            parameter="missing",
        )
    rate = float(value)
    if not 0 <= rate <= 1:
        raise ConfigError(
            f"missing must be rates from 0 to 1, got {rate:g}.", parameter="missing"
        )
    pattern = mcar(rate) if rate else natural()
    return Scenario(f"{rate:g}", pattern, range(first, first + (seeds if rate else 1)))


def _is_whole(value: object, least: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= least  # type: ignore[call-overload]
