"""Processes that train one model together, as torchrun starts them.

One process alone is the normal case: then nothing here is sent, and ``torch``'s
distributed package is not touched.
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

TIMEOUT = timedelta(days=1)  # others wait while one process fits experts
MAIN = 0


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, seen from one of them.

    Attributes:
        rank: Number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that logs and writes."""
        return self.rank == MAIN

    def share(self, total: int) -> slice:
        """Return this process's part of ``total`` samples; it may be empty."""
        first, last = (total * r // self.size for r in (self.rank, self.rank + 1))
        return slice(first, last)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of what every process gives, all of one shape."""
        if self.size == 1:
            return x
        total = x.detach().clone()
        with distributed_errors():
            torch.distributed.all_reduce(total)
        return total

    def broadcast(self, x: Tensor) -> Tensor:
        """Return what the lead gives; the others give a tensor of its shape."""
        if self.size == 1:
            return x
        sent = x.detach().clone()
        with distributed_errors():
            torch.distributed.broadcast(sent, MAIN)
        return sent

    def gather(self, text: str) -> list[str]:
        """Return what every process says, in order."""
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
        """Do something that may be refused; where one process fails, all stop.

        Raises:
            PeerError: Another process failed.
            Exception: What this process failed with, on the first that did.
        """
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:
            failure = error
        said = self.gather("" if failure is None else f"x{failure}")
        first = next((i for i, text in enumerate(said) if text), None)
        if first is None:
            return result
        if failure is not None and first == self.rank:
            raise failure
        peer = PeerError(f"Process {first} stopped: {said[first][1:]}")
        peer.reported = True
        raise peer from failure

    def broadcast_state(
        self, pack: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors on the CPU and JSON that the lead packs, on every process.

        Raises:
            PeerError: The lead failed; it raises what it failed with.
        """
        packed = self.run_on_all(lambda: pack() if self.is_main_process else ({}, {}))
        tensors, plain = packed
        if self.size == 1:
            return dict(tensors), dict(plain)
        from safetensors.torch import load, save

        still = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        text = self._broadcast_bytes(json.dumps(plain).encode())
        content = self._broadcast_bytes(save(still) if self.is_main_process else b"")
        return load(content), json.loads(text)

    def require_same(self, what: str, value: str) -> None:
        """Refuse to go on where processes differ in something.

        Raises:
            PeerError: They do.
        """
        values = self.gather(value)
        other = next((i for i, v in enumerate(values) if v != values[0]), None)
        if other is not None:
            raise PeerError(
                f"All processes must fit the same {what}, got another on process "
                f"{other}. To fit models of their own in the processes of torchrun, "
                "unset RANK and WORLD_SIZE."
            )

    def _broadcast_bytes(self, content: bytes) -> bytes:
        size = int(self.broadcast(torch.tensor(len(content), device=_wire())))
        sent = torch.zeros(size, dtype=torch.uint8)
        if self.is_main_process:
            sent = _to_tensor(content)
        return bytes(self.broadcast(sent.to(_wire())).cpu().numpy())


SINGLE_PROCESS = ProcessGroup()


def init_process_group() -> ProcessGroup:
    """Return the processes that this one trains with.

    Those of the user's process group, where one is initialised; else those that
    ``RANK`` and ``WORLD_SIZE`` tell of, as torchrun sets them: the group is then
    initialised (gloo; NCCL between GPUs) and left at the end of the process. Without
    either, the process is alone.
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
    """Return the GPU of this process by ``LOCAL_RANK``, or the CPU without one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", number % torch.cuda.device_count())


def _leave() -> None:
    """Leave the group while its threads can still give back what they hold.

    A thread of gloo that lets go of a tensor when the interpreter has gone aborts the
    process. What a training kept in cycles keeps the group, so that it goes first.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def _wire() -> torch.device:
    """Return the device from which the group can send."""
    only_gpus = torch.distributed.get_backend() == "nccl"
    return local_device() if only_gpus else torch.device("cpu")


def _to_tensor(content: bytes) -> Tensor:
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@contextmanager
def distributed_errors() -> Iterator[None]:
    """Say in one line that a process is gone, which gloo and NCCL tell at length."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError)
        if not lost and "gloo" not in str(error):
            raise
        raise PeerError(
            "Another process of this training stopped. The same command again goes on "
            f"where it was. ({str(error).splitlines()[0][:120]})"
        ) from None
