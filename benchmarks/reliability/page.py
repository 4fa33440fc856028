"""The page of the documentation with the measured rows."""

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Reliability

What `python benchmarks/reliability.py` measures, one row per promise. The quick form of
all rows is a test of continuous integration; the full form has the repetitions that are
promised. A row is reached if its figure is within "must be reached".
[SECURITY.md](https://github.com/mmgraph/mmgraph/blob/main/SECURITY.md) states what is
promised, and what is not.

| row | check | must be reached | measured | reached | form | CPU-s |
|---:|---|---|---|---|---|---:|
"""
TAIL = """
The quick form measures the same with fewer repetitions:

<!-- not run: takes about a minute -->
```bash
python benchmarks/reliability.py                    # quick form of all rows
python benchmarks/reliability.py --rows 3 --full    # full form of one row
```

This page is written by `python benchmarks/reliability.py --page`, from the rows in
`benchmarks/results/reliability.json`.
"""


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page in Markdown.

    Args:
        rows: Rows of the JSON file.
    """
    lines = [
        f"| {row['number']} | {row['name']} | {row['reach']} | {row['figure']} | "
        f"{'yes' if row['reached'] else 'no'} | {'full' if row['full'] else 'quick'} | "
        f"{row['cpu_seconds']:.0f} |\n"
        for row in rows
    ]
    return HEAD + "".join(lines) + TAIL
