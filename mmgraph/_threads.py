"""Thread limits for small computations."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch, OpenMP and BLAS to one thread within the context.

    Small models do not gain from more threads: on a busy machine, threads that wait for
    each other made training ten times slower, and results can depend on their number.
    Libraries that are loaded within the context are not limited.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
