"""Markdown tables of a run, for the documentation."""

from typing import Any

from speed.contenders import BARE, FLOOR, GATV2, HGT, OURS, PRODUCTS, TRANSFORMER

Rows = list[dict[str, Any]]

TARGETS = {
    "layer_vs_hgtconv_geomean": "at least 10",
    "layer_vs_hgtconv_min": "at least 4",
    "layer_with_feed_forward_vs_hgtconv_geomean": "",
    "epoch_vs_pyg_4": "at least 15",
    "epoch_vs_pyg_8": "at least 30",
    "epoch_default_vs_pyg_4": "",
    "epoch_default_vs_pyg_8": "",
    "forward_vs_floor_geomean": "at most 2",
    "layer_vs_transformer_half_missing": "at least 1.5",
    "half_missing_step_share": "at most .65",
    "single_sample_ms": "below 2",
    "import_cpu_s": "below .3",
}
LAYER_COLUMNS = (
    ("layer", HGT, OURS),
    ("layer", GATV2, OURS),
    ("layer", TRANSFORMER, OURS),
    ("layer", HGT, BARE),
    ("layer", HGT, PRODUCTS),
    ("floor", BARE, FLOOR),
    ("memory", HGT, OURS),
    ("memory", TRANSFORMER, OURS),
)


def markdown(document: dict[str, Any]) -> str:
    """Return the summary, the layers at the summary's threads, and the rest."""
    threads, rows = document["summary_threads"], document["rows"]
    machine = document["machine"]
    made = (
        f"Made by `{document['command']}` at commit `{document['commit'][:12]}` on "
        f"{machine['cores']} cores ({machine['vector_instructions']}, load "
        f"{machine['load_1min']}), {threads} thread(s), {document['time'][:10]}."
    )
    parts = [made, _summary(document["summary"]), _layers(rows, threads), _rest(rows)]
    return "\n\n".join(parts) + "\n"


def _summary(summary: dict[str, float | None]) -> str:
    lines = ["| figure | measured | target |", "| --- | ---: | ---: |"]
    for name, value in summary.items():
        shown = "not run" if value is None else f"{value:.3g}"
        lines.append(f"| `{name}` | {shown} | {TARGETS[name]} |")
    return "\n".join(lines)


def _layers(rows: Rows, threads: int) -> str:
    head = ["workload", *(f"{over} / {under}" for _, over, under in LAYER_COLUMNS)]
    head[-2:] = [f"memory: {name}" for name in head[-2:]]
    lines = [_row(head), _row(["---", *["---:"] * len(LAYER_COLUMNS)])]
    mine = [row for row in rows if row.get("threads") == threads]
    names = dict.fromkeys(row["workload"] for row in mine if row["part"] == "layer")
    for name in names:
        cells = [
            _cell([r for r in mine if _key(r) == column and r["workload"] == name])
            for column in LAYER_COLUMNS
        ]
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def _rest(rows: Rows) -> str:
    lines = [_row(["part", "threads", "what", "median", "quartiles"])]
    lines.append("| --- | ---: | --- | ---: | ---: |")
    for row in rows:
        low, high = row["quartiles"]
        if row["part"] in ("half", "epoch", "compile"):
            what = f"{row['workload']}: {row['over']} / {row['under']}"
            values = [f"{row['ratio']:.2f}", f"{low:.2f} to {high:.2f}"]
        elif row["part"] == "latency":
            what = row["name"]
            values = [f"{row['milliseconds']:.2f} ms", f"{low:.2f} to {high:.2f}"]
        elif row["part"] == "import":
            what = "CPU-seconds added to `import torch`"
            values = [f"{row['seconds']:.3f}", f"{low:.3f} to {high:.3f}"]
        else:
            continue
        lines.append(_row([row["part"], str(row.get("threads", 1)), what, *values]))
    return "\n".join(lines)


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return row["part"], row.get("over"), row.get("under")


def _cell(found: Rows) -> str:
    return f"{found[0]['ratio']:.2f}" if found else ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
