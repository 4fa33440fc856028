"""Time of every kind of index compared with exact search, and its recall.

Usage: python benchmarks/search.py [--entries 100000] [--width 256] [--queries 500]

The gallery is clustered like embeddings: unit vectors around 1000 centers near a
subspace. Queries are drawn from the same distribution. `--uniform` uses uniform
directions, the worst case of approximate search. Runs are interleaved with exact search
and reported as ratios to it; milliseconds depend on the machine.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mmgraph import Index

PLACES = 10


def draw(count: int, width: int, seed: int, *, uniform: bool) -> np.ndarray:
    """Return unit vectors [count, width] of one law; the seed is that of the draw."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, width))
    if uniform:
        return _unit(noise)
    law = np.random.default_rng(12345)
    centres = law.normal(size=(1000, 32)) @ law.normal(size=(32, width))
    spread = law.uniform(0.2, 0.8, size=1000)
    which = rng.integers(0, 1000, size=count)
    return _unit(_unit(centres)[which] + spread[which, None] * _unit(noise))


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def seconds(index: Index, queries: np.ndarray) -> float:
    """Return the seconds of one search for all queries."""
    start = time.perf_counter()
    index.search(queries, k=PLACES)
    return time.perf_counter() - start


def recall(index: Index, exact: Index, queries: np.ndarray) -> float:
    """Return the share of the exact first ten that the index returns, too."""
    wanted = exact.search(queries, k=PLACES).rows[:, :, None]
    found = index.search(queries, k=PLACES).rows[:, None, :]
    return float((wanted == found).any(axis=2).mean())


def survives(index: Index, queries: np.ndarray) -> bool:
    """Return True if a saved and loaded index returns identical results."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        loaded = Index.load(Path(folder) / "index")
    before, after = (i.search(queries, k=PLACES) for i in (index, loaded))
    same = np.array_equal(before.ids, after.ids)
    return same and np.array_equal(before.scores, after.scores)


def main() -> None:
    """Print one line per kind of index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--uniform", action="store_true")
    args = parser.parse_args()
    vectors = draw(args.entries, args.width, 0, uniform=args.uniform)
    queries = draw(args.queries, args.width, 1, uniform=args.uniform)
    exact = Index(np.arange(len(vectors)), vectors)
    print("kind   build s  recall@10  ms/query  time/exact  one by one  saved=same")
    for kind in ("exact", "flat", "ivf", "hnsw"):
        start = time.perf_counter()
        index = Index(np.arange(len(vectors)), vectors, kind=kind)
        build = time.perf_counter() - start
        many = [(seconds(index, queries), seconds(exact, queries)) for _ in range(3)]
        single = [
            (seconds(index, query), seconds(exact, query)) for query in queries[:50]
        ]
        ratio, alone = (np.median([a / b for a, b in t]) for t in (many, single))
        ms = 1000 * np.median([a for a, _ in many]) / len(queries)
        print(
            f"{kind:6} {build:7.1f} {recall(index, exact, queries):10.4f} {ms:9.3f} "
            f"{ratio:11.3f} {alone:11.3f}  {survives(index, queries)}"
        )


if __name__ == "__main__":
    main()
