"""Cost as a function of present modalities, samples, tokens and modalities; plot."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speed.contenders import HGT, OURS, TRANSFORMER
from speed.workloads import Workload

BASE = Workload(modalities=4, tokens=8, missing=0.0)
MOST_GB = 2.0  # HGTConv is left out where it would need more: a step takes seconds
AXES: dict[str, tuple[float, ...]] = {
    "present share": (0.125, 0.25, 0.5, 0.75, 1),
    "batch": (16, 64, 256, 1024),
    "tokens": (1, 2, 4, 8, 16, 32),
    "modalities": (2, 4, 8, 16),
}
COLOURS = {OURS: "#0b6e4f", HGT: "#c1440e", TRANSFORMER: "#4a5a8a"}
MARKS = {OURS: "o", HGT: "s", TRANSFORMER: "^"}


@dataclass(frozen=True)
class Point:
    """A workload that differs from the base along one axis."""

    axis: str
    value: float
    workload: Workload


def sweep(base: Workload, *, quick: bool) -> Iterator[Point]:
    """Yield the points of every axis; the two ends where it has to be quick."""
    for axis, values in AXES.items():
        for value in values[:2] if quick else values:
            if axis == "present share":
                changed = replace(base, missing=1 - value)
            else:
                changed = replace(base, **{axis: int(value)})
            yield Point(axis, value, changed)


def draw_costs(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw rows of the part "cost" as one log-log panel an axis.

    The file's suffix decides between SVG and PNG.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    costs = [row for row in rows if row["part"] == "cost"]
    with mpl.rc_context({"svg.hashsalt": "mmgraph", "font.size": 9}):
        figure = Figure(figsize=(10, 3.1), layout="constrained")
        panels = figure.subplots(1, len(AXES), sharey=True)
        for panel, axis in zip(panels, AXES, strict=True):
            _draw_panel(panel, axis, [row for row in costs if row["axis"] == axis])
        panels[0].set_ylabel(f"time of a step\n(1 = mmgraph, {BASE.name})")
        named = panels[0].get_legend_handles_labels()
        figure.legend(*named, loc="outside upper center", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_panel(panel: Any, axis: str, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401
    for name, colour in COLOURS.items():
        mine = [row for row in rows if row["over"] == name]
        x = [row["value"] for row in mine]
        y = [row["ratio"] for row in mine]
        low = [row["quartiles"][0] for row in mine]
        high = [row["quartiles"][1] for row in mine]
        panel.plot(x, y, color=colour, marker=MARKS[name], markersize=4, label=name)
        panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.set(xscale="log", yscale="log", xlabel=axis)
    ticks = sorted({row["value"] for row in rows})
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
