"""Run units of work in this process or in a pool, one thread each."""

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
    """Run units one after the other here; yield each when it is finished.

    Raises:
        KeyboardInterrupt: After Ctrl-C, also where a library swallowed it.
    """
    with one_thread(), _interrupts() as interrupts:
        for unit in units:
            finished = try_unit(unit, config)
            if interrupts and finished[2] is not None:  # no fault of the unit
                raise KeyboardInterrupt
            yield finished
            if interrupts:
                raise KeyboardInterrupt


def in_pool(units: list[Unit], config: BenchConfig) -> Iterator[Finished]:
    """Run units in new processes; yield each when it is finished.

    A process that dies takes down those of the other units at work: each of them is run
    again on its own, and only one that dies there too has failed. Processes still at
    work are stopped when the caller stops, for example by Ctrl-C.
    """
    waiting = deque(units)
    while waiting:
        for unit in (yield from _until_one_dies(waiting, config)):
            if (yield from _until_one_dies(deque([unit]), config)):
                yield unit, [], "the worker process died (out of memory?)"


def _until_one_dies(
    waiting: deque[Unit], config: BenchConfig
) -> Generator[Finished, None, list[Unit]]:
    """Take units and run them until none is left or a process dies.

    Returns:
        The units without a result, that were at work when a process died.
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
            pass  # it is told by what is still running
    return list(running.values())


@contextlib.contextmanager
def _workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Hold new processes, which are stopped when the block ends by an exception."""
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
    """Let processes started here use one thread each."""
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
    """Collect interrupts, which still raise KeyboardInterrupt where they arrive.

    Code in C may turn that exception into one of its own, which then looks like an
    error of the model. Only the main thread hears signals; elsewhere none is collected.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the whole group; only the parent answers it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this process when its parent has: killed, it could not say so."""
    from multiprocessing import connection, parent_process

    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def try_unit(unit: Unit, config: BenchConfig) -> Finished:
    """Run a unit; an error of the model becomes one line instead."""
    try:
        return unit, run_unit(unit, config), None
    except Exception as error:  # any model may fail in any way; it is recorded
        return unit, [], f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """Return the first line of an error, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
