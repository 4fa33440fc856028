"""Estimated throughput on GPUs, from counts of floating-point operations and bytes.

The costs of the default classifier on an example schema are divided by peak rates of a
machine, which are arguments. Nothing here is measured on a GPU.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from speed.pipeline import Task
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mmgraph import Batch, FusionClassifier
from mmgraph.benchmark.provenance import read_commit

MODALITIES, CHANNELS, FIT_SAMPLES = 4, 32, 512


@dataclass(frozen=True)
class Machine:
    """What is assumed of one GPU and of the network between them.

    Attributes:
        tflops: Peak of matrix products, in 1e12 operations a second.
        gb_per_s: Peak bandwidth of memory, in 1e9 bytes a second.
        use: Share of either peak that is reached.
        network_gb_per_s: Bandwidth of an all-reduce on each GPU, in 1e9 bytes a second.
    """

    tflops: float
    gb_per_s: float
    use: float
    network_gb_per_s: float

    def seconds(self, cost: "Cost") -> float:
        """Return the longer of arithmetic and memory traffic."""
        arithmetic = cost.flops / (self.tflops * 1e12)
        traffic = cost.bytes / (self.gb_per_s * 1e9)
        return max(arithmetic, traffic) / self.use

    def seconds_to_reduce(self, num_bytes: float, gpus: int) -> float:
        """Return the time of a ring all-reduce: each GPU sends 2 (n - 1) / n of it."""
        return 2 * (gpus - 1) / gpus * num_bytes / (self.network_gb_per_s * 1e9)


@dataclass(frozen=True)
class Cost:
    """Operations of matrix products, and bytes read and written by all operations."""

    flops: int
    bytes: int


class ByteCounter(TorchDispatchMode):
    """Adds up the bytes that every operation reads and writes, as if none were fused.

    A view moves nothing. A look-up is charged what it returns, not its whole table.
    """

    LOOKUPS = ("index.Tensor", "gather.default", "index_select.default")

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        written = _bytes(result)
        if str(func).endswith(self.LOOKUPS):
            self.total += 2 * written
        elif "embedding_bag" in str(func):
            self.total += written + _bytes(args[1]) * (1 + args[0].shape[1])
        else:
            self.total += written + _bytes((args, kwargs))
        return result


def _bytes(values: object) -> int:
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def count(step: Callable[[], object]) -> Cost:
    """Return what a step costs."""
    step()  # what is computed once is not counted
    with FlopCounterMode(display=False) as flops:
        step()
    with ByteCounter() as traffic:
        step()
    return Cost(flops.get_total_flops(), traffic.total)


def fitted() -> FusionClassifier:
    """Return a default classifier whose graph speaks."""
    task = replace(Task(MODALITIES), samples=FIT_SAMPLES)
    clf = FusionClassifier(epochs=1, seed=0, verbose=False).fit(task.make_data())
    clf.model_.beta.fill_(0.5)
    return clf


def costs(clf: FusionClassifier, batch_size: int) -> tuple[Cost, Cost]:
    """Return the costs of a prediction and of a training step of the graph.

    Every modality is present: what is missing costs less.
    """
    names = clf.schema_.modality_names
    x = {name: torch.randn(batch_size, CHANNELS) for name in names}
    present = torch.ones(batch_size, len(names), dtype=torch.bool)
    batch, rows = Batch.regular(x, present), list(x.values())
    graph = clf.model_.graph
    evidence = torch.zeros(
        batch_size, len(names), clf.model_.ensemble.pool.prior.numel()
    )

    def predict() -> object:
        with torch.no_grad():
            return clf.model_(batch, rows)

    def train() -> None:
        graph.requires_grad_(True)
        graph(batch, evidence).logits.square().mean().backward()
        graph.zero_grad()

    return count(predict), count(train)


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--tflops", type=float, default=60.0, help="peak, 1e12/s (default: %(default)g)"
    )
    add("--gb-per-s", type=float, default=2000.0, help="memory (default: %(default)g)")
    add("--use", type=float, default=0.3, help="share of peaks (default: %(default)g)")
    add("--network-gb-per-s", type=float, default=20.0, help="default: %(default)g")
    add("--batch", type=int, default=4096, help="of each GPU (default: %(default)d)")
    add("--gpus", type=int, nargs="+", default=(1, 8, 64), help="default: 1 8 64")
    return parser.parse_args()


def main() -> None:
    """Count, divide, print."""
    args = read_arguments()
    os.environ["MMGRAPH_NATIVE"] = "0"  # counters see the operations of torch alone
    machine = Machine(args.tflops, args.gb_per_s, args.use, args.network_gb_per_s)
    clf = fitted()
    predict, train = costs(clf, args.batch)
    parameters = sum(
        p.numel() * p.element_size() for p in clf.model_.graph.parameters()
    )
    buffers = sum(b.numel() * b.element_size() for b in clf.model_.buffers())
    print(f"commit {read_commit()}; {machine}; batch of a GPU {args.batch}")
    print(f"parameters of the graph {parameters / 1e6:.2f} MB, of all else ", end="")
    print(f"{buffers / 1e6:.2f} MB\n")
    print("| step | MFLOP a sample | kB a sample | FLOP a byte | bound by |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name, cost in (("predict", predict), ("train the graph", train)):
        ridge = machine.tflops * 1e12 / (machine.gb_per_s * 1e9)
        intensity = cost.flops / cost.bytes
        bound = "arithmetic" if intensity > ridge else "memory"
        sizes = (
            f"{cost.flops / args.batch / 1e6:.3f} | {cost.bytes / args.batch / 1e3:.0f}"
        )
        print(f"| {name} | {sizes} | {intensity:.2f} | {bound} |")
    print("\n| GPUs | predictions/s | trained samples/s | of which all-reduce |")
    print("| ---: | ---: | ---: | ---: |")
    for gpus in args.gpus:
        reduce = machine.seconds_to_reduce(parameters, gpus)
        step = machine.seconds(train) + reduce
        rates = gpus * args.batch / machine.seconds(predict), gpus * args.batch / step
        print(f"| {gpus} | {rates[0]:.2e} | {rates[1]:.2e} | {reduce / step:.1%} |")


if __name__ == "__main__":
    main()
