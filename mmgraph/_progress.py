"""Progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_progress(
    text: str, total: int, verbose: bool | None
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error, and yield a function that advances it.

    Args:
        text: Description of the work.
        total: Number of steps.
        verbose: Show the bar; None: only if standard error is a terminal.

    Yields:
        A function of the number of completed steps.
    """
    shown = sys.stderr.isatty() if verbose is None else verbose
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)
