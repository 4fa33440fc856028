"""Code that runs in a forked child, whose failures do not end this process."""

import os
import sys
import traceback
from collections.abc import Callable


def run_forked(action: Callable[[], object], *, stream: int = 1) -> tuple[int, str]:
    """Run a function in a forked child.

    Args:
        action: Function; the exit status of the child is 1 if it raises an exception.
        stream: File descriptor that is captured: 1 (output) or 2 (errors).

    Returns:
        Exit status, negative for a signal, and the captured text.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(read_end)
        os.dup2(write_end, stream)
        captured = open(stream, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, "stdout" if stream == 1 else "stderr", captured)
        status = 1
        try:
            action()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:  # the status reports it
            traceback.print_exc()
        captured.flush()
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8", errors="replace") as text:
        content = text.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), content
