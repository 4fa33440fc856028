"""A progress bar for work that somebody watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_progress(
    text: str, total: int, verbose: bool | None
) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield what moves it to a number of things done.

    Args:
        text: What is done.
        total: How many things there are to do.
        verbose: Show it; None: only on a terminal.
    """
    shown = sys.stderr.isatty() if verbose is None else verbose
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        job = progress.add_task(text, total=total)
        yield lambda done: progress.update(job, completed=done)
