"""Run units of work in this process or in a pool, one thread each."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import FrameType

from mmgraph.benchmark.protocol import Unit
from mmgraph.benchmark.records import Record
from mmgraph.benchmark.units import run_unit
from mmgraph.config import BenchConfig
from mmgraph.threads import one_thread

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

    Processes still at work are stopped when the caller stops, for example by Ctrl-C.
    """
    import multiprocessing

    with _single_threaded_children():
        pool = ProcessPoolExecutor(
            min(config.jobs, len(units)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        )
        try:
            futures = {pool.submit(try_unit, unit, config): unit for unit in units}
            for future in as_completed(futures):
                yield _result(future, futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        pool.shutdown()


def _result(future: "Future[Finished]", unit: Unit) -> Finished:
    try:
        return future.result()
    except BrokenProcessPool:
        return unit, [], "the worker process died (out of memory?)"


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
