"""The HTML page and the Markdown tables of a folder of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgraph._html import render
from mmgraph.benchmark.figures import (
    calibration_svg,
    curve_svg,
    left_out_svg,
    legend_svg,
    roc_svg,
    shown_models,
)
from mmgraph.benchmark.models import model_description
from mmgraph.benchmark.overview import overview, summary_sentence
from mmgraph.benchmark.results import Record, Results, read_lines
from mmgraph.benchmark.summary import SettingSummary, summarise
from mmgraph.benchmark.tables import (
    block_title,
    class_note,
    confusion_table,
    contribution_table,
    corruption_table,
    detail_table,
    difference_table,
    direction_tables,
    edge_note,
    name_of,
    result_table,
    shortcut_note,
    split_note,
)
from mmgraph.errors import ConfigError
from mmgraph.evaluation.table import Table, number, to_markdown
from mmgraph.files import replacing

__all__ = [
    "block_tables",
    "markdown",
    "page",
    "write_report",
]


def write_report(folder: str | Path) -> tuple[SettingSummary, ...]:
    """Write `report.html` and `table.md` from the result lines of a folder.

    Args:
        folder: Output folder of `mmgraph bench`.

    Returns:
        The summaries on the page: one per data set and train rate.

    Raises:
        ConfigError: If the folder has no results.
    """
    results = Results(folder)
    blocks = summarise(results)
    if not blocks:
        raise ConfigError(
            f"Folder '{folder}' must hold results to report, got none. Run mmgraph "
            "bench first."
        )
    runs = read_lines(results.path("runs"))
    texts = {
        "table.md": markdown(blocks, runs),
        "report.html": page(blocks, runs, results.lines()),
    }
    for name, text in texts.items():
        with replacing(results.folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return blocks


def block_tables(block: SettingSummary) -> list[Table]:
    """Return the tables of one setting: results, differences, confusion, details."""
    tables = [
        result_table(block),
        *direction_tables(block),
        difference_table(block),
        confusion_table(block),
        contribution_table(block),
        corruption_table(block),
        detail_table(block),
    ]
    return [table for table in tables if table is not None]


def markdown(blocks: Sequence[SettingSummary], runs: Sequence[Record]) -> str:
    """Return all tables as Markdown, with the commands and commits of the runs."""
    tables = overview(blocks)
    tables += [table for block in blocks for table in block_tables(block)]
    made_by = [f"Made by `{r['command']}` at commit {r['commit'][:12]}." for r in runs]
    parts = [
        summary_sentence(blocks),
        *map(to_markdown, tables),
        *dict.fromkeys(made_by),
    ]
    return "\n\n".join(parts) + "\n"


def page(
    blocks: Sequence[SettingSummary], runs: Sequence[Record], lines: Sequence[Record]
) -> str:
    """Return one self-contained HTML page: no external resources."""
    from markupsafe import Markup

    models = dict.fromkeys(row.model for block in blocks for row in block.rows)
    return render(
        "report.html",
        headline=summary_sentence(blocks),
        sections=[_section(block, lines) for block in blocks],
        overview=overview(blocks),
        runs=runs,
        keys={model: Markup(legend_svg(model)) for model in models},
        descriptions={
            model: model_description(model, blocks[0].task) for model in models
        },
        commits=sorted({line["commit"] for line in lines}),
        versions=_versions(lines),
    )


def _section(block: SettingSummary, lines: Sequence[Record]) -> dict[str, Any]:
    from markupsafe import Markup

    plans = sorted(
        {
            (line["pattern"], line["split"], line["seed"], line["plan_hash"])
            for line in lines
            if line["dataset"] == block.dataset
            and line["train_missing"] == block.train_missing
        }
    )
    has_left_out = any(row.left_out for row in block.rows)
    classifies = block.task == "classification"
    has_curve = classifies or len(block.rates) > 1
    is_calibrated = classifies and bool(block.rates)
    has_roc = is_calibrated and all(row.roc for row in block.rows)
    return {
        "id": f"{block.dataset}-{block.train_missing:g}",
        "name": name_of(block),
        "title": block.facts["title"],
        "subtitle": block_title(block).partition(": ")[2],
        "facts": block.facts,
        "classifies": classifies,
        "missing": [
            (name, f"{100 * share:.0f}%") for name, share in block.facts["missing"]
        ],
        "classes": class_note(block) if classifies else None,
        "splits": split_note(block),
        "edges": edge_note(block),
        "shortcut": shortcut_note(block) if block.has_shortcut else None,
        "shortcut_auroc": number(block.facts["shortcut_auroc"], 2),
        "models": [row.model for row in block.rows],
        "tables": block_tables(block),
        "curve": Markup(curve_svg(block)) if block.rates and has_curve else None,
        "left_out": Markup(left_out_svg(block)) if has_left_out else None,
        "reference": block.reference,
        "calibration": Markup(calibration_svg(block)) if is_calibrated else None,
        "roc": Markup(roc_svg(block)) if has_roc else None,
        "positive": str(block.facts["classes"][-1][0]) if has_roc else None,
        "shown_models": shown_models(block),
        "plans": plans,
        "num_splits": block.num_splits,
    }


def _versions(lines: Sequence[Record]) -> list[str]:
    texts = (
        ", ".join(f"{name} {version}" for name, version in line["versions"].items())
        for line in lines
    )
    return list(dict.fromkeys(texts))
