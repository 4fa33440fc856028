"""Report of a run: table during the run, summary, and JSON."""

import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from mmgraph.benchmark.provenance import read_commit, read_versions
from speed.contenders import (
    BARE,
    HGT,
    OURS,
    PRODUCTS,
    SAME_FUNCTION,
    TRANSFORMER,
)
from speed.pairing import Ratio
from speed.pipeline import LIKE_PYG

OPTIONAL = ("torch-scatter", "torch-sparse", "pyg-lib")
HEADINGS = ("part", "workload", "threads", "time of", "over time of", "ratio", "")


@dataclass
class Report:
    """Rows as they come.

    Attributes:
        rows: One dict for each comparison.
        threads: Threads that the summary reads.
    """

    threads: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def heading(self) -> None:
        """Print the head of the table."""
        print(_line(*HEADINGS), flush=True)

    def compare(
        self,
        part: str,
        workload: str,
        over: str,
        under: str,
        ratio: Ratio,
        **facts: object,
    ) -> None:
        """Add and print the time of ``over`` divided by the time of ``under``."""
        threads = torch.get_num_threads()
        self.rows.append(
            {
                "part": part,
                "workload": workload,
                "threads": threads,
                "over": over,
                "under": under,
                "ratio": ratio.median,
                "quartiles": [ratio.low, ratio.high],
                "blocks": ratio.blocks,
                **facts,
            }
        )
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        shown = f"{ratio.median:.2f}"
        print(_line(part, workload, threads, over, under, shown, spread), flush=True)

    def add(self, row: dict[str, Any], shown: str) -> None:
        """Add a row that is not a ratio, and print a line for it."""
        self.rows.append(row)
        print(f"{row['part']:9} {shown}", flush=True)

    def summary(self) -> dict[str, float | None]:
        """Return the figures that targets are set for; None where nothing was run."""
        found = self._ratios
        hgt = found("layer", over=HGT, under=BARE)  # equal function: neither has one
        fed = found("layer", over=HGT, under=OURS)
        half = found("half")
        epochs = {
            (under, m): found("epoch", under=under, modalities=m, setting="full")
            for under in (LIKE_PYG, OURS)  # equal parts; the default model
            for m in (4, 8)
        }
        floors = [t for n in (1, 8) for t in found("floor", tokens=n)]
        transformer = found("layer", over=TRANSFORMER, under=OURS, missing=0.5)
        whole = [
            row["milliseconds"]
            for row in self.rows
            if row["part"] == "latency" and row["ours"] and row["whole"]
        ]
        imports = [r["seconds"] for r in self.rows if r["part"] == "import"]
        return {
            "layer_vs_hgtconv_geomean": _geomean(hgt),
            "layer_vs_hgtconv_min": min(hgt, default=None),
            "layer_with_feed_forward_vs_hgtconv_geomean": _geomean(fed),
            "epoch_vs_pyg_4": _geomean(epochs[LIKE_PYG, 4]),
            "epoch_vs_pyg_8": _geomean(epochs[LIKE_PYG, 8]),
            "epoch_default_vs_pyg_4": _geomean(epochs[OURS, 4]),
            "epoch_default_vs_pyg_8": _geomean(epochs[OURS, 8]),
            "forward_vs_floor_geomean": _geomean(floors),
            "layer_vs_transformer_half_missing": _geomean(transformer),
            "half_missing_step_share": _geomean(half),
            "single_sample_ms": min(whole, default=None),
            "import_cpu_s": min(imports, default=None),
        }

    def context(self) -> dict[str, float | None]:
        """Return values that put the summary into context; None if not run.

        HGTConv has separate maps per relation. It is compared with the layer of mmgraph
        that computes the same function, and with the matrix products of the layer with
        feed-forward block, as computed by PyTorch.
        """
        found: dict[str, float | None] = {}
        subjects = {
            "same_function": SAME_FUNCTION,
            "matrix_products_alone": PRODUCTS,
        }
        for name, under in subjects.items():
            ratios = self._ratios("layer", over=HGT, under=under)
            found[f"hgtconv_vs_{name}_geomean"] = _geomean(ratios)
            found[f"hgtconv_vs_{name}_min"] = min(ratios, default=None)
        return found

    def _ratios(self, part: str, **where: object) -> list[float]:
        wanted = {"part": part, "threads": self.threads, **where}
        return [row["ratio"] for row in self.rows if _matches(row, wanted)]

    def document(self, command: str) -> dict[str, Any]:
        """Return everything; the summary and the rows come last."""
        return {
            "command": command,
            "commit": read_commit(),
            "versions": read_versions() | {name: _version(name) for name in OPTIONAL},
            "machine": describe_machine(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "summary_threads": self.threads,
            "context": self.context(),
            "summary": self.summary(),
            "rows": self.rows,
        }


def describe_machine() -> dict[str, Any]:
    """Return system, processor, cores, and how busy the machine is."""
    import os
    import platform

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def as_facts(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the fields of a dataclass, without empty notes."""
    return {name: v for name, v in asdict(value).items() if v != ""}


def _matches(row: dict[str, Any], wanted: dict[str, object]) -> bool:
    return all(row.get(name) == value for name, value in wanted.items())


def _geomean(values: list[float]) -> float | None:
    if not values:
        return None
    return math.exp(sum(map(math.log, values)) / len(values))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _line(*cells: object) -> str:
    widths = (9, 19, 8, 30, 29, 7, 16)
    return " ".join(
        f"{cell!s:{w}}" for cell, w in zip(cells, widths, strict=True)
    ).rstrip()
