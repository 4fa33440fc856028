"""What a fit costs: seconds, and how much memory it takes at its peak."""

import contextlib
import time
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost:
    """Measures what runs inside a `with` block.

    Attributes:
        seconds: On the wall; 0 before the end.
        peak_mb: Resident megabytes (2**20 bytes) of this process at their peak, beyond
            those at the beginning; None where the system does not tell (it is Linux
            that does).

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
        """Begin: the peak so far is forgotten."""
        with contextlib.suppress(OSError):
            RESET.write_text("5")
            self._before = _resident("VmRSS")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """End, also after an error."""
        self.seconds = time.perf_counter() - self._start
        if self._before is not None:
            self.peak_mb = max(0.0, _resident("VmHWM") - self._before)


def _resident(key: str) -> float:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(key))
    return float(line.split()[1]) / 1024
