"""`mmgraph bench`: comparison of models on data sets at several missing rates."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import ModalityOption, Recorded, RunFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmgraph.benchmark.run import Progress
    from mmgraph.config import BenchConfig

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="Names of data sets, or files: .parquet, .csv."
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Column of classes in a file (default: y).")
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column of groups in a file: samples of one group stay in the same fold."
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        metavar="RATE...",
        help="Shares of observed modalities removed at test time (default: 0 .3 .5 "
        ".7).",
    ),
]
TrainMissing = Annotated[
    str | None,
    typer.Option(
        metavar="RATE...",
        help="Shares of modalities removed from training samples (default: 0).",
    ),
]
Seeds = Annotated[
    int | None, typer.Option(help="Training seeds on an official split (default: 3).")
]
MaskSeeds = Annotated[
    int | None, typer.Option(help="Masks per test rate (default: value of --seeds).")
]
Folds = Annotated[
    int | None, typer.Option(help="Folds of cross-validation (default: 5).")
]
Repeats = Annotated[
    int | None, typer.Option(help="Repeats of cross-validation (default: 1).")
]
Models = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL...",
        help="Models to compare (default: all but mmgraph_data, mmgraph_feature and "
        "mmgraph_model, which have one level of fusion).",
    ),
]
Corrupt = Annotated[
    str | None,
    typer.Option(
        metavar="CORRUPTION...",
        help="Corruptions of each modality of the test samples in turn: noise:SD, "
        "scale:FACTOR, shuffle, swap (content of a sample of another class).",
    ),
]
Suite = Annotated[
    str | None,
    typer.Option(
        help="Group of data sets: medical, sensor, retrieval or all. Data sets that "
        "are not on this machine are skipped."
    ),
]
Metric = Annotated[
    str | None, typer.Option(help="Score to show (default: that of the data set).")
]
ResultFolder = Annotated[
    Path | None, typer.Option(help="Results folder (default: runs/bench).")
]
Jobs = Annotated[
    int | None, typer.Option(help="Worker processes (default: one per core).")
]
ReportOnly = Annotated[
    bool,
    typer.Option("--report", help="Only rebuild report.html and table.md."),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        "--restart",
        help="Delete the results in the output folder and start over.",
    ),
]
Typed = Annotated[str, typer.Option(hidden=True)]


@app.command(
    cls=Recorded,
    epilog="Example: mmgraph bench heart --missing 0 .3 .5 .7 --mask-seeds 3. "
    "On a file: mmgraph bench icu.parquet --label died --group hospital "
    "--modality labs=wbc,crp --modality ecg=rate,qt",
)
def bench(
    names: Names = None,
    label: Label = None,
    modality: ModalityOption = None,
    group: Group = None,
    missing: Missing = None,
    train_missing: TrainMissing = None,
    seeds: Seeds = None,
    mask_seeds: MaskSeeds = None,
    folds: Folds = None,
    repeats: Repeats = None,
    models: Models = None,
    corrupt: Corrupt = None,
    suite: Suite = None,
    metric: Metric = None,
    output: ResultFolder = None,
    jobs: Jobs = None,
    config: RunFile = None,
    report: ReportOnly = False,
    fresh: Fresh = False,
    typed: Typed = "",
) -> None:
    """Compare models on data sets at several missing rates.

    Writes results.jsonl, table.md and report.html to the results folder. After an
    interrupt, run the same command again: finished fits are not repeated.
    """
    from mmgraph.cli.options import parse_modalities, parse_names, parse_rates
    from mmgraph.config import BenchConfig, build_config

    values: dict[str, Any] = {
        "datasets": tuple(names) if names else None,
        **{"label": label, "group": group, "modalities": parse_modalities(modality)},
        "missing": parse_rates(missing, "--missing"),
        "train_missing": parse_rates(train_missing, "--train-missing"),
        "models": parse_names(models),
        "corrupt": parse_names(corrupt),
        **{"seeds": seeds, "mask_seeds": mask_seeds, "folds": folds},
        **{"repeats": repeats, "suite": suite, "metric": metric},
        **{"output": output, "jobs": jobs, "fresh": fresh or None},
    }
    settings = build_config(BenchConfig, values, run_file=config)
    failed = () if report else _run(settings, typed)
    _show_report(settings.output)
    if failed:
        raise typer.Exit(1)


def _run(settings: "BenchConfig", command: str) -> tuple[str, ...]:
    """Run the benchmark with progress; return one line per failed unit."""
    from mmgraph.workflows.bench import run_benchmark

    with print_warnings(), _progress() as on_progress:
        outcome = run_benchmark(settings, command=command, on_progress=on_progress)
    for line in outcome.skipped:
        typer.echo(f"Skipped {line}", err=True)
    for line in outcome.failed:
        typer.echo(f"Failed {line}", err=True)
    if outcome.resumed:
        typer.echo(f"{outcome.resumed} units were already there.", err=True)
    return outcome.failed


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """Show a bar with the remaining time on a terminal, else one line per unit."""
    if not sys.stderr.isatty():
        yield lambda p: typer.echo(
            f"[{p.done}/{p.total}] {p.text}" + (" failed" if p.error else ""), err=True
        )
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}", justify="left"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("remaining"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None, visible=False)
        yield lambda p: bar.update(
            task, description=p.text, completed=p.done, total=p.total, visible=True
        )


def _show_report(folder: Path) -> None:
    """Rebuild the page and print its tables; nothing if all units failed."""
    from mmgraph.workflows.bench import report_benchmark

    report = report_benchmark(folder)
    if report is None:
        return
    if report.num_commits > 1:
        typer.echo(
            f"These results are from {report.num_commits} commits of mmgraph; --fresh "
            "deletes them and starts over.",
            err=True,
        )
    for table in report.tables:
        show(table)
    typer.echo(report.summary)
    typer.echo(f"Page: {report.page}   Table: {report.markdown}")
