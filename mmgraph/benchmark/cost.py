"""Cost of a fit: wall time and peak memory."""

import contextlib
import time
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost:
    """Context manager that measures time and peak memory of its block.

    Attributes:
        seconds: Wall time; 0 before the end of the block.
        peak_mb: Peak resident memory of this process in megabytes (2**20 bytes), minus
            that at the beginning of the block; None except on Linux.

    Example:
        >>> from mmgraph.benchmark.cost import Cost
        >>> with Cost() as cost:
        ...     total = sum(range(1000))
        >>> cost.seconds > 0
        True
    """

    seconds: float = 0.0
    peak_mb: float | None = None
    _before: float | None = None

    def __enter__(self) -> "Cost":
        """Start the measurement and reset the peak."""
        with contextlib.suppress(OSError):
            RESET.write_text("5")
            self._before = _resident("VmRSS")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """End the measurement, also after an error."""
        self.seconds = time.perf_counter() - self._start
        if self._before is not None:
            self.peak_mb = max(0.0, _resident("VmHWM") - self._before)


def _resident(key: str) -> float:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(key))
    return float(line.split()[1]) / 1024
