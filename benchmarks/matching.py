"""Match and retrieve recordings of two sensors, with and without time windows.

Run as ``python benchmarks/matching.py`` (lips and voice of sentences; needs the data
folder). Fits ``FusionRetriever`` and ``FusionMatcher`` with default options to the
training part, once as they are and once with vectors of whole recordings only, and
prints a Markdown table of the scores on the test part:

- R@1 of either direction, over all test recordings,
- AUROC of recordings that belong together against random partners, and against the
  same recording shifted in time by 10% of its length.

Intervals are 95% bootstrap intervals over test recordings.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest import mock

import numpy as np
from sequences import load
from sklearn.metrics import roc_auc_score

import mmgraph as mg
from mmgraph.benchmark.provenance import read_commit
from mmgraph.embedding import fit as embedding_fit

NUM_PARTNERS, RESAMPLES = 5, 1000
SHIFT = 0.1  # of the length of a recording
NAMES = ("R@1 {0} to {1}", "R@1 {1} to {0}", "AUROC, partner", "AUROC, shift")


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/matching.py",
        description="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", default="grid_av_whole", help="default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)d")
    add("--validate", action="store_true", help="score a quarter of the training part")
    return parser.parse_args()


def shifted(data: mg.MultimodalData, name: str) -> mg.MultimodalData:
    """Return the recordings of a modality, whose rows are rotated in time."""
    column = data.columns[name]
    order = np.concatenate(
        [
            start + np.roll(np.arange(count), round(SHIFT * count))
            for start, count in zip(column.offsets[:-1], column.lengths, strict=True)
        ]
    )
    rows = np.split(column.values[order], column.offsets[1:-1])
    times = np.split(column.time, column.offsets[1:-1])
    return mg.MultimodalData.from_arrays({name: rows}, times={name: times})


def score(
    train: mg.MultimodalData, test: mg.MultimodalData, seed: int
) -> tuple[np.ndarray, ...]:
    """Return ranks of either direction, and probabilities of pairs.

    Returns:
        ``[N]`` and ``[N]`` Bool, partner ranked first; ``[N]`` probabilities of the
        partners, ``[N, 5]`` of random ones, and ``[N]`` of shifted ones.
    """
    left, right = train.modalities
    retriever = mg.FusionRetriever(seed=seed, verbose=False).fit(train)
    a, b = (retriever.embed(test, modalities=[name]) for name in (left, right))
    own = np.arange(len(test))
    first = [retriever.similarity(*pair).argmax(1) == own for pair in ((a, b), (b, a))]
    matcher = mg.FusionMatcher([left], [right], seed=seed, verbose=False).fit(train)
    rng = np.random.default_rng(0)
    steps = rng.choice(np.arange(1, len(test)), NUM_PARTNERS, replace=False)
    p = matcher.predict_proba(test, test)
    others = [matcher.predict_proba(test, test[(own + k) % len(own)]) for k in steps]
    moved = matcher.predict_proba(test, shifted(test, right))
    return *first, p, np.stack(others, 1), moved


def scores_of(found: tuple[np.ndarray, ...], rows: np.ndarray) -> np.ndarray:
    """Return the four scores on some test recordings."""
    ahead, back, own, others, moved = (x[rows] for x in found)

    def auroc(wrong: np.ndarray) -> float:
        y = np.repeat([1, 0], [len(own), wrong.size])
        return float(roc_auc_score(y, np.concatenate([own, wrong.ravel()])))

    return np.array([ahead.mean(), back.mean(), auroc(others), auroc(moved)])


def cells(draws: np.ndarray, form: str) -> str:
    """Return the first row of draws ``[1 + R, 4]`` with intervals from the others."""
    low, high = np.quantile(draws[1:], [0.025, 0.975], axis=0)
    parts = zip(draws[0], low, high, strict=True)
    return " | ".join(f"{v:{form}} [{x:{form}}, {z:{form}}]" for v, x, z in parts)


def without_windows() -> "mock._patch[Callable[..., list[int]]]":
    """Compare vectors of whole recordings only."""

    def nothing(schema: mg.Schema, _: object) -> list[int]:
        return [0] * len(schema.modalities)

    return mock.patch.object(embedding_fit, "plan_windows", nothing)


def main() -> None:
    """Fit, score and print."""
    found, commit = read_arguments(), read_commit()
    data = load(found.dataset)
    train, test = (data[np.asarray(data.split_name) == x] for x in ("train", "test"))
    if found.validate:
        train, test = train.split(test_size=0.25, seed=found.seed)
    names = [name.format(*data.modalities) for name in NAMES]
    where = "of the training part" if found.validate else "of the test part"
    lines = [
        f"{found.dataset}, {len(train)} training samples, {len(test)} {where}, commit "
        f"{commit}, default options, seed {found.seed}",
        "",
        f"| windows | {' | '.join(names)} | CPU s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    rng, table = np.random.default_rng(0), {}
    drawn = [np.arange(len(test))]
    drawn += [rng.integers(len(test), size=len(test)) for _ in range(RESAMPLES)]
    for label in ("no", "yes"):
        start = time.process_time()
        with nullcontext() if label == "yes" else without_windows():
            result = score(train, test, found.seed)
        seconds = time.process_time() - start
        table[label] = np.array([scores_of(result, rows) for rows in drawn])
        sys.stdout.write(
            f"| {label} | {cells(table[label], '.3f')} | {seconds:.0f} |\n"
        )
        sys.stdout.flush()
    change = table["yes"] - table["no"]
    sys.stdout.write(f"| difference | {cells(change, '+.3f')} | |\n")


if __name__ == "__main__":
    main()
