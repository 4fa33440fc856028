"""Alignment of modalities: measurements of canonical correlation and transport.

``bridge``: retrieval between two modalities that no training sample has together
(mfeat), and with half of all rows missing. ``half``: retrieval with half of the
training rows missing (tuxpaint), by CCA of three modalities and by CCA of the samples
that have both. ``cells``: alignment of cells without any pair (snare_seq).
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmgraph import MultimodalData, load_dataset, metrics, missing
from mmgraph.alignment import CCA, similarity, transport

EXAMPLE = """examples:
  python benchmarks/alignment.py bridge
  MMGRAPH_DATA=DIR python benchmarks/alignment.py half
  MMGRAPH_DATA=DIR python benchmarks/alignment.py cells
"""
COMPONENTS, RIDGES = (20, 50), (0.3, 0.6, 0.9)  # candidates of `half`
NUM_FOLDS = 3  # of the training part of `half`
SIDES = ("image", "text")
ALL = ("image", "text", "speech_fr")
KINDS = ("all samples", "samples with two modalities", "samples with image and text")
FloatArray = NDArray[np.floating]


def recall(a: FloatArray, b: FloatArray, k: int = 10) -> float:
    """Return the mean Recall@k of both directions; row i of both is one sample."""
    both = ~(np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1))
    table = similarity(a[both], b[both])
    own = np.eye(len(table), dtype=bool)
    return float(np.mean([metrics.recall_at_k(t, own, k) for t in (table, table.T)]))


def unlinked(data: MultimodalData) -> MultimodalData:
    """Remove `pix` from the first half of the samples, and `fac` from the others."""
    first = np.arange(len(data)) < len(data) // 2
    return data.mask({"pix": ~first, "fac": first})


def bridge(
    seed: int, remove: Callable[[MultimodalData], MultimodalData], singles: bool = False
) -> list[float]:
    """Return Recall@10 and Recall@1 between `fac` and `pix` among 500 new samples."""
    data = load_dataset("mfeat").select(["fac", "kar", "pix"])
    order = np.random.default_rng(seed).permutation(len(data))
    train, test = data[order[:1000]], data[order[1000:1500]]
    z = CCA(20, singles=singles).fit(remove(train)).transform(test)
    return [recall(z["fac"], z["pix"], k) for k in (10, 1)]


def print_bridge(draws: int) -> None:
    """Print the recall for two patterns of missing rows."""
    patterns = {
        "no sample has fac and pix": unlinked,
        "half of all rows missing at random": lambda data: (
            missing.mcar(0.5).plan(data, seed=0).apply(data)
        ),
    }
    print("| training rows | singles | Recall@10 | Recall@1 |\n|---|---|---|---|")
    for (name, remove), singles in product(patterns.items(), (False, True)):
        found = np.array([bridge(seed, remove, singles) for seed in range(draws)]).T
        cells = [", ".join(f"{value:.3f}" for value in row) for row in found]
        print(f"| {name} | {singles} | {cells[0]} | {cells[1]} |")


def score_half(
    train: MultimodalData, test: MultimodalData, kind: str, options: tuple[int, float]
) -> float:
    """Return Recall@10 between image and text by one kind of fit."""
    if kind == "samples with image and text":
        train = train.select(SIDES)
    num, ridge = options
    cca = CCA(num, ridge=ridge, singles=kind == "all samples").fit(train)
    z = cca.transform(test.select(SIDES))
    return recall(z["image"], z["text"])


def choose(train: MultimodalData, kind: str) -> tuple[int, float]:
    """Return the options that are best on validation parts of the training data."""
    parts = [train.split(0.3, seed=fold) for fold in range(NUM_FOLDS)]
    candidates = list(product(COMPONENTS, RIDGES))
    scores = [
        np.mean([score_half(*part, kind, options) for part in parts])
        for options in candidates
    ]
    return candidates[int(np.argmax(scores))]


def print_half(draws: int) -> None:
    """Print the recall of three ways to use incomplete samples."""
    data = load_dataset("tuxpaint").select(ALL)
    results: dict[str, list[float]] = {kind: [] for kind in KINDS}
    print(f"| split | {' | '.join(KINDS)} |\n{'|---' * (len(KINDS) + 1)}|")
    for seed in range(draws):
        train, test = data.split(0.3, seed=seed)
        train = missing.mcar(0.5).plan(train, seed=seed).apply(train)
        cells = []
        for kind, scores in results.items():
            options = choose(train, kind)
            scores.append(score_half(train, test, kind, options))
            cells.append(f"{scores[-1]:.3f} {options}")
        print(f"| {seed} | " + " | ".join(cells) + " |", flush=True)
    means = [f"{np.mean(scores):.3f}" for scores in results.values()]
    print("| mean | " + " | ".join(means) + " |")
    gain = np.subtract(results[KINDS[1]], results[KINDS[2]])
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    print(f"second minus third: {gain.mean():.3f} (standard error {error:.3f})")


def align_cells(seed: int) -> tuple[float, float]:
    """Return FOSCTTM and transferred labels of cells whose pairs are not used."""
    data = load_dataset("snare_seq")
    unit = {
        name: x / np.linalg.norm(x, axis=1, keepdims=True)
        for name, x in data.features().items()
    }
    order = np.random.default_rng(seed).permutation(len(data))
    mapped = transport(unit["atac"], unit["rna"][order], kind="gromov").mapped
    assert data.y is not None
    labels = metrics.label_transfer(unit["rna"], data.y, mapped)
    return metrics.foscttm(mapped, unit["rna"]), labels


def print_cells(draws: int) -> None:
    """Print the scores of transport for random orders of the cells."""
    print("| order | seconds | FOSCTTM | labels |\n|---|---|---|---|")
    for seed in range(draws):
        start = time.perf_counter()
        error, labels = align_cells(seed)
        seconds = time.perf_counter() - start
        print(f"| {seed} | {seconds:.0f} | {error:.3f} | {labels:.3f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/alignment.py",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = {
        "bridge": (print_bridge, 3),
        "half": (print_half, 5),
        "cells": (print_cells, 1),
    }
    parser.add_argument("measurement", choices=commands)
    parser.add_argument("--draws", type=int, help="random draws or splits")
    found = parser.parse_args(arguments)
    run, draws = commands[found.measurement]
    run(found.draws or draws)


if __name__ == "__main__":
    main()
