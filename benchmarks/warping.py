"""Measure soft-DTW and dynamic time warping.

``python benchmarks/warping.py speed`` compares the seconds of soft-DTW of a batch,
forward and backward, with a loop over its cells in PyTorch; the loop runs on one pair,
and its time is multiplied by the number of pairs.

``python benchmarks/warping.py digits`` classifies spoken digits (data set
spoken_digits) by the nearest recording of other speakers. For each of the six speakers,
takes 0 to 4 are queries, and takes from 5 of the other five speakers are the gallery.
Distances are the squared differences of equal frames, DTW, and the soft-DTW divergence.
Log-mel frames have the mean of their recording subtracted with ``--center``. Both print
Markdown tables.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

import mmgraph as mg
from mmgraph.alignment import dtw
from mmgraph.benchmark.provenance import read_commit
from mmgraph.losses import soft_dtw, soft_dtw_divergence

STEPS = 32  # frames of a recording of spoken_digits
TAKES = 5  # of each speaker and digit are queries
CHUNK = 4096  # pairs that are computed together


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/warping.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed", help="soft-DTW against a loop over cells")
    speed.add_argument("--pairs", type=int, default=32, help="default: %(default)d")
    speed.add_argument("--steps", type=int, default=100, help="default: %(default)d")
    speed.add_argument("--repeats", type=int, default=5, help="default: %(default)d")
    digits = commands.add_parser("digits", help="nearest neighbors among speakers")
    digits.add_argument("--center", action="store_true", help="subtract means")
    digits.add_argument("--gamma", type=float, help="also soft-DTW with this gamma")
    return parser.parse_args(arguments)


def cell_loop(cost: Tensor, gamma: float) -> Tensor:
    """Return the soft-DTW of one pair ``[T, S]``, cell by cell."""
    value: dict[tuple[int, int], Tensor] = {}
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            before = [
                value[cell]
                for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1))
                if cell in value
            ]
            value[i, j] = cost[i, j]
            if before:
                exponent = -torch.stack(before) / gamma
                value[i, j] = cost[i, j] - gamma * exponent.logsumexp(0)
    return value[cost.shape[0] - 1, cost.shape[1] - 1]


def measure(function: Callable[[Tensor], Tensor], cost: Tensor) -> tuple[float, Tensor]:
    """Return the processor seconds of a value and its gradient, and the gradient."""
    start = time.process_time()
    cost = cost.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(cost).sum(), cost)
    return time.process_time() - start, gradient


def speed(pairs: int, steps: int, repeats: int) -> list[str]:
    """Return the lines of a table of seconds."""
    torch.set_num_threads(1)
    cost = torch.rand(pairs, steps, steps, generator=torch.Generator().manual_seed(0))
    slow, reference = measure(lambda c: cell_loop(c, 1.0), cost[0])
    runs = [measure(soft_dtw, cost) for _ in range(repeats)]
    fast = float(np.median([seconds for seconds, _ in runs]))
    error = float((runs[0][1][0] - reference).abs().max())
    loop = slow * pairs
    return [
        f"{pairs} pairs of {steps} x {steps} steps, forward and backward, float32, one"
        f" thread, median of {repeats} runs; largest difference of gradients"
        f" {error:.1e}",
        "",
        "| | processor seconds |",
        "|---|---:|",
        f"| loop over cells | {loop:.2f} |",
        f"| `soft_dtw` | {fast:.3f} |",
        f"| ratio | {loop / fast:.0f} |",
    ]


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances of recordings ``[B, T, C]`` frame by frame."""
    return (x - y).square().sum((1, 2))


def warped(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared DTW distances ``[B]``."""
    return soft_dtw(torch.cdist(x, y).square(), gamma=0.0)


def distances(
    queries: Tensor, gallery: Tensor, function: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the distances of all pairs, ``[Q, G]``."""
    rows = []
    for query in queries:
        parts = [
            function(query.expand(len(part), -1, -1), part)
            for part in gallery.split(CHUNK)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def check_dtw(x: Tensor, y: Tensor) -> float:
    """Return the largest difference of `alignment.dtw` from batches, over pairs."""
    batch = warped(x, y).sqrt().tolist()
    single = [dtw(*pair).distance for pair in zip(x, y, strict=True)]
    return float(np.abs(np.subtract(single, batch)).max())


def digits(center: bool, gamma: float | None) -> list[str]:
    """Return the lines of a table of accuracies by speaker."""
    data = mg.load_dataset("spoken_digits")
    x = torch.from_numpy(data.features()["speech"]).view(len(data), STEPS, -1)
    if center:
        x = x - x.mean(1, keepdim=True)
    speaker, y = data.groups, data.y
    query = data.split_name == "test"
    names = np.unique(speaker)
    methods = {"frame by frame": euclidean, "DTW": warped}
    if gamma is not None:
        methods[f"soft-DTW divergence, gamma {gamma:g}"] = lambda x, y: (
            soft_dtw_divergence(x, y, gamma=gamma)
        )
    head = " | ".join(names)
    table = [f"| distance | {head} | all |", "|---|" + "---:|" * (len(names) + 1)]
    for method, function in methods.items():
        right = []
        for name in names:
            queries = np.flatnonzero(query & (speaker == name))
            gallery = np.flatnonzero(~query & (speaker != name))
            with torch.no_grad():
                nearest = distances(x[queries], x[gallery], function).argmin(1)
            right.append(y[gallery][nearest.numpy()] == y[queries])
        each = " | ".join(f"{np.mean(r):.3f}" for r in right)
        table.append(f"| {method} | {each} | {np.concatenate(right).mean():.3f} |")
    error = check_dtw(x[:40], x[-40:])
    return [
        f"{int(query.sum())} queries, accuracy of the nearest recording of another"
        f" speaker; `alignment.dtw` differs from the batches by at most {error:.1e}",
        "",
        *table,
    ]


def main() -> None:
    """Measure and print."""
    found = read_arguments()
    if found.command == "speed":
        lines = speed(found.pairs, found.steps, found.repeats)
    else:
        lines = digits(found.center, found.gamma)
    sys.stdout.write("\n".join([f"commit {read_commit()}", "", *lines, ""]))


if __name__ == "__main__":
    main()
