"""Interleaved timing: the median of ratios within short blocks.

Other load on the machine slows down whatever runs at the same time. In a block all
contenders run shortly after each other, the first one before and after the others, so
that their ratio is affected little; the median is robust to single disturbed blocks.

On one thread the clock counts the processor's time for this process, which is the time
on the wall where nothing else runs; on several threads it is the wall's.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

Step = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: After which no further block begins.
        min_blocks: Blocks that are run in any case.
        max_blocks: Blocks after which it is enough.
        slice_seconds: How long one contender runs within a block, at least; one call
            where that takes longer.
    """

    seconds: float = 4.0
    min_blocks: int = 3
    max_blocks: int = 15
    slice_seconds: float = 0.04


QUICK = Effort(seconds=0.0, min_blocks=2, max_blocks=2, slice_seconds=0.0)


@dataclass(frozen=True)
class Ratio:
    """How many times longer one thing takes than another.

    Attributes:
        median: Over blocks.
        low: First quartile.
        high: Third quartile.
        blocks: Their number.
    """

    median: float
    low: float
    high: float
    blocks: int

    @classmethod
    def of(cls, ratios: "np.typing.ArrayLike") -> "Ratio":
        """Summarise the ratios of blocks."""
        values = np.asarray(ratios, dtype=float)
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high), values.size)


@dataclass(frozen=True)
class Blocks:
    """Seconds of every contender in every block.

    Attributes:
        seconds: ``[blocks]`` by name.
    """

    seconds: dict[str, np.ndarray]

    def ratio(self, slow: str, fast: str) -> Ratio:
        """How many times longer ``slow`` takes than ``fast``."""
        return Ratio.of(self.seconds[slow] / self.seconds[fast])


def run_interleaved(steps: Mapping[str, Step], effort: Effort) -> Blocks:
    """Time steps in blocks; the first one is run at both ends of a block.

    The order of the others changes from block to block. Every step runs once before
    timing, which also determines how often it runs within a slice.
    """
    gc.collect()
    counts = {name: _count(step, effort) for name, step in steps.items()}
    first, *others = steps
    found: dict[str, list[float]] = {name: [] for name in steps}
    begin = time.perf_counter()
    for block in range(effort.max_blocks):
        late = time.perf_counter() - begin > effort.seconds
        if late and block >= effort.min_blocks:
            break
        before = _time(steps[first], counts[first])
        turn = block % max(len(others), 1)
        for name in others[turn:] + others[:turn]:
            found[name].append(_time(steps[name], counts[name]))
        after = _time(steps[first], counts[first])
        found[first].append((before + after) / 2)
    return Blocks({name: np.array(values) for name, values in found.items()})


def _count(step: Step, effort: Effort) -> int:
    """Warm up and return the number of calls that fill a slice."""
    if _time(step, 1) > 1.0:  # so long that a first call hardly differs
        return 1
    return max(1, round(effort.slice_seconds / max(_time(step, 1), 1e-6)))


def _time(step: Step, count: int) -> float:
    """Return seconds a call."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    for _ in range(count):
        step()
    return (clock() - begin) / count
