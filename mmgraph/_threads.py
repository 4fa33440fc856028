"""How many threads compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: torch, and the OpenMP and BLAS of other libraries.

    Small models do not gain from more. Threads that wait for each other made training
    ten times slower on a busy machine, and a result may depend on their number.
    Libraries that are loaded later are not held back.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
