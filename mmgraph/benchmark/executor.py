"""Execution of units of work, in this process or in a pool, on one thread each."""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import FrameType

from mmgraph._threads import one_thread
from mmgraph.benchmark.protocol import Unit
from mmgraph.benchmark.results import Record
from mmgraph.benchmark.unit import run_unit
from mmgraph.config import BenchConfig

Finished = tuple[Unit, list[Record], str | None]


def in_process(units: list[Unit], config: BenchConfig) -> Iterator[Finished]:
    """Run units one after the other in this process; yield each when it is finished.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed, even if a library caught it.
    """
    with one_thread(), _interrupts() as interrupts:
        for unit in units:
            finished = try_unit(unit, config)
            if interrupts and finished[2] is not None:  # the interrupt is the error
                raise KeyboardInterrupt
            yield finished
            if interrupts:
                raise KeyboardInterrupt


def in_pool(units: list[Unit], config: BenchConfig) -> Iterator[Finished]:
    """Run units in new processes; yield each when it is finished.

    When a worker process dies, the pool breaks and all running units are lost: each of
    them is run again on its own, and fails only if its process dies again. Running
    processes are stopped when the caller stops, for example by Ctrl-C.
    """
    waiting = deque(units)
    while waiting:
        for unit in (yield from _until_one_dies(waiting, config)):
            if (yield from _until_one_dies(deque([unit]), config)):
                yield unit, [], "the worker process died (out of memory?)"


def _until_one_dies(
    waiting: deque[Unit], config: BenchConfig
) -> Generator[Finished, None, list[Unit]]:
    """Run units until none is left or a process dies.

    Returns:
        The units that were running when a process died.
    """
    size = min(config.jobs, len(waiting))
    running: dict[Future[Finished], Unit] = {}
    with _single_threaded_children(), _workers(size) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < size:
                    running[pool.submit(try_unit, waiting[0], config)] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield future.result()
                    del running[future]
        except BrokenProcessPool:
            pass  # the lost units are those in `running`
    return list(running.values())


@contextlib.contextmanager
def _workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Provide new worker processes; stop them if the block ends with an exception."""
    import multiprocessing

    pool = ProcessPoolExecutor(
        number,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Limit processes started in this block to one thread each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Record interrupts; each still raises KeyboardInterrupt.

    Extension code may convert that exception into another one, which then looks like
    an error of the model. Only the main thread receives signals; in other threads
    nothing is recorded.
    """
    seen: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, record)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C is sent to the whole process group; only the parent handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this process when its parent ends, even if the parent was killed."""
    from multiprocessing import connection, parent_process

    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def try_unit(unit: Unit, config: BenchConfig) -> Finished:
    """Run a unit; return an error of the model as one line."""
    try:
        return unit, run_unit(unit, config), None
    except Exception as error:  # models may raise anything; the failure is recorded
        return unit, [], f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """Return the first line of an error, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
