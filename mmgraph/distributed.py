"""Process group of a distributed training, as started by torchrun.

A single process communicates nothing and does not use ``torch.distributed``.
"""

import atexit
import gc
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmgraph.errors import PeerError

T = TypeVar("T")

TIMEOUT = timedelta(days=1)  # others wait while the main process fits base learners
MAIN = 0


@dataclass(frozen=True)
class ProcessGroup:
    """Group of processes that train one model.

    Attributes:
        rank: Rank of this process.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """True in the process of rank 0, which logs and writes files."""
        return self.rank == MAIN

    def share(self, total: int) -> slice:
        """Return this process's part of ``total`` samples; it may be empty."""
        first, last = (total * r // self.size for r in (self.rank, self.rank + 1))
        return slice(first, last)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over processes; shapes must be equal."""
        if self.size == 1:
            return x
        total = x.detach().clone()
        with distributed_errors():
            torch.distributed.all_reduce(total)
        return total

    def broadcast(self, x: Tensor) -> Tensor:
        """Return the tensor of the main process; shapes must be equal."""
        if self.size == 1:
            return x
        sent = x.detach().clone()
        with distributed_errors():
            torch.distributed.broadcast(sent, MAIN)
        return sent

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in order of rank."""
        if self.size == 1:
            return [text]
        content = text.encode()
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(content)
        sizes = self.sum(sizes.to(_wire())).cpu()
        if not int(sizes.max()):
            return [""] * self.size
        table = torch.zeros(self.size, int(sizes.max()), dtype=torch.uint8)
        table[self.rank, : len(content)] = _to_tensor(content)
        table = self.sum(table.to(_wire())).cpu()
        return [
            bytes(row[:size].numpy()).decode()
            for row, size in zip(table, sizes.tolist(), strict=True)
        ]

    def run_on_all(self, action: Callable[[], T]) -> T:
        """Run a function in every process; if it fails in one, stop all of them.

        Args:
            action: Function that may raise an exception.

        Returns:
            The result of this process.

        Raises:
            PeerError: If the function failed in a process of lower rank, or in any
                other process but not in this one.
            Exception: If this is the process of lowest rank in which the function
                failed: the exception that it raised.
        """
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:
            failure = error
        errors = self.gather("" if failure is None else f"x{failure}")
        first = next((i for i, text in enumerate(errors) if text), None)
        if first is None:
            return result
        if failure is not None and first == self.rank:
            raise failure
        peer = PeerError(f"Process {first} stopped: {errors[first][1:]}")
        peer.reported = True
        raise peer from failure

    def broadcast_state(
        self, pack: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Send tensors and JSON content from the main process to all others.

        Args:
            pack: Returns tensors and JSON content; called in the main process only.

        Returns:
            Tensors on the CPU and JSON content, in every process.

        Raises:
            PeerError: If ``pack`` failed in the main process, which raises the original
                exception.
        """
        packed = self.run_on_all(lambda: pack() if self.is_main_process else ({}, {}))
        tensors, plain = packed
        if self.size == 1:
            return dict(tensors), dict(plain)
        from safetensors.torch import load, save

        detached = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        text = self._broadcast_bytes(json.dumps(plain).encode())
        content = self._broadcast_bytes(save(detached) if self.is_main_process else b"")
        return load(content), json.loads(text)

    def require_same(self, what: str, value: str) -> None:
        """Require a value to be equal in all processes.

        Args:
            what: Name of the value, for the message.
            value: Value as text.

        Raises:
            PeerError: If processes have different values.
        """
        values = self.gather(value)
        other = next((i for i, v in enumerate(values) if v != values[0]), None)
        if other is not None:
            raise PeerError(
                f"All processes must fit the same {what}, got different values in "
                f"processes 0 and {other}. To fit an independent model in each process "
                "of torchrun, unset RANK and WORLD_SIZE."
            )

    def _broadcast_bytes(self, content: bytes) -> bytes:
        size = int(self.broadcast(torch.tensor(len(content), device=_wire())))
        sent = torch.zeros(size, dtype=torch.uint8)
        if self.is_main_process:
            sent = _to_tensor(content)
        return bytes(self.broadcast(sent.to(_wire())).cpu().numpy())


SINGLE_PROCESS = ProcessGroup()


def init_process_group() -> ProcessGroup:
    """Return the process group of this process, and initialize it if necessary.

    An initialized default group of ``torch.distributed`` is used. Otherwise, if
    ``RANK`` and ``WORLD_SIZE`` are set, as torchrun sets them, a group is initialized
    (gloo; NCCL between GPUs) and destroyed at the end of the process. Otherwise the
    group has this process only.
    """
    distributed = torch.distributed
    if not distributed.is_available():
        return SINGLE_PROCESS
    if not distributed.is_initialized():
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
            return SINGLE_PROCESS
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_device())
            backend = "cpu:gloo,cuda:nccl"
        with distributed_errors():
            distributed.init_process_group(backend, timeout=TIMEOUT)
        atexit.register(_leave)
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size())


def local_device() -> torch.device:
    """Return the GPU of this process by ``LOCAL_RANK``, or the CPU without GPUs."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", number % torch.cuda.device_count())


def _leave() -> None:
    """Destroy the process group before the interpreter shuts down.

    A thread of gloo that releases a tensor after that aborts the process. Reference
    cycles of a training can hold the group, so that garbage is collected first.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def _wire() -> torch.device:
    """Return a device whose tensors the group can send."""
    only_gpus = torch.distributed.get_backend() == "nccl"
    return local_device() if only_gpus else torch.device("cpu")


def _to_tensor(content: bytes) -> Tensor:
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@contextmanager
def distributed_errors() -> Iterator[None]:
    """Replace errors of gloo and NCCL about lost processes by a short message.

    Raises:
        PeerError: If another process of the group stopped.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError)
        if not lost and "gloo" not in str(error):
            raise
        raise PeerError(
            "Another process of this training stopped. Run the same command again to "
            f"resume. ({str(error).splitlines()[0][:120]})"
        ) from None
