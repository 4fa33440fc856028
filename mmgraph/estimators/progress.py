"""A progress bar for trainings that somebody watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmgraph.distributed import Workers


@contextmanager
def show_progress(
    total: int, verbose: bool | None, workers: Workers
) -> Iterator[Callable[[int], None]]:
    """Show a bar, on a terminal or where asked for, and yield what moves it."""
    shown = sys.stderr.isatty() if verbose is None else verbose
    if not shown or not workers.is_lead:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        job = progress.add_task("fitting the graph", total=total)
        yield lambda step: progress.update(job, completed=step)
