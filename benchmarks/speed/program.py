"""The command line of the benchmark."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mmgraph.benchmark.provenance import read_commit
from speed.parts import ONCE, THREADED, Plan
from speed.report import Report
from speed.scaling import draw_costs
from speed.tables import markdown
from speed.workloads import LIMIT_GB

EXAMPLE = """examples:
  python benchmarks/speed.py --json runs/speed.json --plot runs/speed.svg
  python benchmarks/speed.py --parts layer floor --only "M4 T8" --threads 1

Ratios are medians over interleaved blocks, with their quartiles. The summary reads the
largest number of threads.
"""


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/speed.py",
        description="Compare the cost of mmgraph with PyTorch Geometric, a transformer "
        "layer and one matrix product.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = (*THREADED, *ONCE)
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write rows and summary there")
    add("--tables", type=Path, metavar="FILE", help="write tables in Markdown there")
    add("--plot", type=Path, metavar="FILE", help="draw the costs (.svg or .png)")
    add("--quick", action="store_true", help="tiny sizes: only to see that it runs")
    add("--parts", nargs="+", choices=names, default=names, help="default: all")
    add("--only", nargs="+", default=(), metavar="NAME", help='such as "M4 T8"')
    add("--threads", nargs="+", type=int, default=(1, 2), help="default: 1 2")
    add(
        "--limit-gb",
        type=float,
        default=LIMIT_GB,
        help="batches shrink where HGTConv would need more (default: %(default)g)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected parts, print the table, write the JSON."""
    args = read_arguments(arguments)
    plan = Plan(quick=args.quick, only=tuple(args.only), limit_gb=args.limit_gb)
    read_commit()  # kept: the checkout may change while this runs
    report = Report(max(args.threads))
    report.heading()
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, part in THREADED.items():
            if name in args.parts:
                part(plan, report)
    torch.set_num_threads(report.threads)
    for name, part in ONCE.items():
        if name in args.parts:
            part(plan, report)
    print()
    for name, value in (report.context() | report.summary()).items():
        print(f"{name:38}", "not run" if value is None else f"{value:.3g}")
    words = sys.argv[1:] if arguments is None else arguments
    document = report.document(f"python benchmarks/speed.py {shlex.join(words)}")
    if args.json:
        _write(args.json, json.dumps(document, indent=1) + "\n")
    if args.tables:
        _write(args.tables, markdown(document))
    if args.plot:
        draw_costs(report.rows, args.plot)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
