"""Parts of the baseline `kernel_fusion`, and the weight of a modality of noise.

Splits and masks are those of `mmgraph bench`. The first table has the mean score over
missing rates (AURC) of variants with one part changed; the second the weight of a
modality of standard normal numbers that is added to the data set.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmgraph import MultimodalData
from mmgraph.baselines import KernelFusion
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.protocol import BenchData, Split, make_splits, scored_patterns
from mmgraph.benchmark.provenance import read_commit
from mmgraph.benchmark.run import choose_metric
from mmgraph.config import BenchConfig
from mmgraph.metrics import aurc, classification_scores

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "equal weights": {"weights": "uniform"},
    "without copies": {"copies": 0},
    "Gaussian kernels alone": {"linear_share": 0.0},
    "with a linear kernel": {"linear_share": 0.5},
    "100 landmarks": {"landmarks": 100},
    "ridge 0.1": {"ridge": 0.1},
    "ridge 1": {"ridge": 1.0},
}
RATES, MASKS = (0.0, 0.3, 0.5, 0.7), 3
NOISE, NOISE_CHANNELS = "noise", 5


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/kernel_fusion.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("datasets", nargs="*", default=["heart"], help="default: heart")
    add("--splits", type=int, default=5, help="default: %(default)d")
    return parser.parse_args(arguments)


def score(model: KernelFusion, bench: BenchData, split: Split) -> float:
    """Return the AURC of a fitted model on the test part of a split."""
    test, codes = bench.data[split.test], bench.codes[split.test]
    by_rate: dict[float, list[float]] = {rate: [] for rate in RATES}
    for condition in scored_patterns(test, RATES, MASKS, split):
        if condition.test_missing is not None:
            proba = model.predict_proba(condition.apply(test))
            scores = classification_scores(codes, proba)
            by_rate[condition.test_missing].append(scores[choose_metric(bench, "auto")])
    means = [float(np.mean(values)) for values in by_rate.values()]
    return aurc(np.array(RATES), np.array(means))


def with_noise(data: MultimodalData, seed: int) -> MultimodalData:
    """Return the data with one more modality of standard normal numbers."""
    rng = np.random.default_rng(seed)
    arrays = {NOISE: rng.normal(size=(len(data), NOISE_CHANNELS))}
    column = MultimodalData.from_arrays(arrays).columns[NOISE]
    return MultimodalData.from_columns(
        {**data.columns, NOISE: column}, y=data.y, groups=data.groups
    )


def noise_weights(data: MultimodalData, seed: int) -> tuple[float, float]:
    """Return the aligned and the final weight of a modality of noise."""
    model = KernelFusion(ridge=1.0, copies=0, seed=seed).fit(with_noise(data, seed))
    return model.alignment_[NOISE], model.weights_[NOISE]


def main() -> None:
    """Run from the command line."""
    args = read_arguments()
    print(f"Commit {read_commit()}, {args.splits} splits.\n")
    opened = [open_bench_data(name, BenchConfig()) for name in args.datasets]
    rows: dict[str, list[str]] = {name: [] for name in VARIANTS}
    noise = []
    for bench in opened:
        data = bench.data.replace(groups=None)
        splits = make_splits(bench)[: args.splits]
        for name, options in VARIANTS.items():
            values = [
                score(
                    KernelFusion(**options, seed=s.number).fit(data[s.train]), bench, s
                )
                for s in splits
            ]
            error = np.std(values, ddof=1) / len(values) ** 0.5
            rows[name].append(f"{np.mean(values):.3f} ± {error:.3f}")
        weights = np.array([noise_weights(data[s.train], s.number) for s in splits])
        aligned, final = weights.max(axis=0)
        equal = 1 / (len(data.modalities) + 1)
        noise.append(f"| {bench.name} | {aligned:.4f} | {final:.3f} | {equal:.3f} |")
    print(f"| variant | {' | '.join(args.datasets)} |")
    print("|---|" + "---|" * len(opened))
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    print("\nLargest weight of a modality of noise over the splits:\n")
    print("| data set | aligned part | final weight | equal weight |")
    print("|---|---|---|---|")
    print("\n".join(noise))


if __name__ == "__main__":
    main()
