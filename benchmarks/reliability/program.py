"""The command line of the reliability table."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mmgraph.benchmark.provenance import read_commit
from reliability.page import render
from reliability.row import Row

Measure = Callable[[bool], Row]

# Modules whose functions `row_NN` measure row NN.
MODULES = ("files", "numerics", "install")
PREFIX = "row_"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "results" / "reliability.md"
EXAMPLE = """examples:
  python benchmarks/reliability.py
  python benchmarks/reliability.py --full --json runs/reliability.json
  python benchmarks/reliability.py --rows 6 7 8

The quick form takes about a minute; the full form, with 20,000 damaged files for every
loader and 50 interrupted trainings, takes hours. SECURITY.md states what is promised.
"""


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/reliability.py",
        description="Measure the rows of the reliability table. The exit status is 1 "
        "if one of them is not reached.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--rows",
        type=int,
        nargs="+",
        metavar="N",
        help="rows to measure (default: all)",
    )
    add("--full", action="store_true", help="the numbers of repetitions of the promise")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the rows there; other rows in the file are kept",
    )
    add(
        "--page",
        action="store_true",
        help="measure nothing; write the page of the documentation",
    )
    return parser.parse_args(arguments)


def find_rows(modules: Sequence[ModuleType] | None = None) -> dict[int, Measure]:
    """Return the function of each row by its number, ascending.

    Args:
        modules: Modules with functions ``row_NN``; default: all of the table.
    """
    if modules is None:
        modules = [import_module(f"reliability.{name}") for name in MODULES]
    found = {
        int(name.removeprefix(PREFIX)): getattr(module, name)
        for module in modules
        for name in vars(module)
        if name.startswith(PREFIX)
    }
    return dict(sorted(found.items()))


def measure(function: Measure, full: bool) -> tuple[Row, float, float]:
    """Return a row, the seconds and the CPU seconds that it took."""
    start, cpu = time.perf_counter(), _cpu_seconds()
    row = function(full)
    return row, time.perf_counter() - start, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    return sum(os.times()[:4])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print each row as it is measured, and write all of them."""
    options = read_arguments(arguments)
    if options.page:
        rows = json.loads((options.json or RESULTS).read_text("utf-8"))
        PAGE.write_text(render(rows), encoding="utf-8")
        return
    functions = find_rows()
    unknown = sorted(set(options.rows or ()) - set(functions))
    if unknown:
        sys.exit(f"Row {unknown[0]} must be one of {', '.join(map(str, functions))}.")
    results = []
    for number in options.rows or functions:
        row, seconds, cpu = measure(functions[number], options.full)
        verdict = "reached" if row.reached else "NOT REACHED"
        print(f"{row.number:2} {row.name}: {row.figure} [{verdict}, {cpu:.0f} CPU-s]")
        print(f"   {row.reach}", flush=True)
        facts = {"full": options.full, "commit": read_commit()}
        times = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
        results.append({**asdict(row), **facts, **times})
        if options.json:
            write_rows(options.json, results)
    sys.exit(0 if all(row["reached"] for row in results) else 1)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows into a JSON file; other rows that it contains are kept."""
    kept = {}
    if path.exists():
        kept = {row["number"]: row for row in json.loads(path.read_text("utf-8"))}
    kept |= {row["number"]: row for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = [kept[number] for number in sorted(kept)]
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
