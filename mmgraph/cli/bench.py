"""`mmgraph bench`: models compared on data sets, at several missing rates."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgraph.cli.app import app, show
from mmgraph.cli.options import ModalityOption, Recorded, RunFile
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.samples import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmgraph.benchmark.run import Progress
    from mmgraph.config import BenchConfig

LABEL = "y"  # what mmgraph calls the column of labels

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="Data sets, or your own files: .parquet, .csv."
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Column of classes of a file (default: y).")
]
Group = Annotated[
    str | None,
    typer.Option(help="Column of a file whose values stay together in a split."),
]
Missing = Annotated[
    str | None,
    typer.Option(metavar="RATE...", help="Test missing rates (default: 0 .3 .5 .7)."),
]
TrainMissing = Annotated[
    str | None,
    typer.Option(metavar="RATE...", help="Train missing rates (default: 0)."),
]
Seeds = Annotated[
    int | None, typer.Option(help="Fits on an official split (default: 3).")
]
MaskSeeds = Annotated[
    int | None, typer.Option(help="Masks per test rate (default: as --seeds).")
]
Folds = Annotated[
    int | None, typer.Option(help="Folds of the cross-validation (default: 5).")
]
Repeats = Annotated[
    int | None, typer.Option(help="Repeats of the cross-validation (default: 1).")
]
Models = Annotated[
    str | None,
    typer.Option(metavar="MODEL...", help="Models to compare (default: all of them)."),
]
Suite = Annotated[
    str | None,
    typer.Option(help="medical, sensor, retrieval or all, of what is here."),
]
Metric = Annotated[
    str | None, typer.Option(help="Score to show (default: that of the card).")
]
ResultFolder = Annotated[
    Path | None, typer.Option(help="Folder of results (default: runs/bench).")
]
Jobs = Annotated[int | None, typer.Option(help="Processes (default: one per core).")]
ReportOnly = Annotated[
    bool, typer.Option("--report", help="Only rebuild page and table.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget earlier results.")]
Typed = Annotated[str, typer.Option(hidden=True)]


@app.command(
    cls=Recorded,
    epilog="Example: mmgraph bench heart --missing 0 .3 .5 .7 --mask-seeds 3. "
    "On a file of your own: mmgraph bench icu.parquet --label died --group hospital "
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

    Writes results.jsonl, table.md and report.html. Run it again to go on after an
    interrupt: what is finished is not computed twice.
    """
    from mmgraph.cli.options import parse_modalities, parse_names, parse_rates
    from mmgraph.config import BenchConfig, build_config

    values: dict[str, Any] = {
        "datasets": tuple(names) if names else None,
        **{"label": label, "group": group, "modalities": parse_modalities(modality)},
        "missing": parse_rates(missing, "--missing"),
        "train_missing": parse_rates(train_missing, "--train-missing"),
        "models": parse_names(models),
        **{"seeds": seeds, "mask_seeds": mask_seeds, "folds": folds},
        **{"repeats": repeats, "suite": suite, "metric": metric},
        **{"output": output, "jobs": jobs, "fresh": fresh or None},
    }
    settings = build_config(BenchConfig, values, run_file=config)
    check_folder(settings.output)
    _check_files(settings)
    failed = () if report else _run(settings, typed)
    _show_report(settings.output, bool(failed))
    if failed:
        raise typer.Exit(1)


def _check_files(settings: "BenchConfig") -> None:
    """Refuse columns that a file does not have, in the words of the options."""
    for file in map(Path, settings.files):
        if file.is_file():
            check_columns(
                file,
                label=settings.label or LABEL,
                group=settings.group,
                modalities=settings.modalities,
            )


def _run(settings: "BenchConfig", command: str) -> tuple[str, ...]:
    """Run the benchmark with progress; return one line for each failed unit."""
    from mmgraph.benchmark.run import run_bench

    with _progress() as warn:
        outcome = run_bench(settings, command=command, on_progress=warn)
    for line in outcome.skipped:
        typer.echo(f"Skipped {line}", err=True)
    for line in outcome.failed:
        typer.echo(f"Failed {line}", err=True)
    if outcome.resumed:
        typer.echo(f"{outcome.resumed} units were already there.", err=True)
    return outcome.failed


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """Show a bar with the time remaining on a terminal, else one line per unit."""
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
        task = bar.add_task("starting", total=None)
        yield lambda p: bar.update(
            task, description=p.text, completed=p.done, total=p.total
        )


def _show_report(folder: Path, failed: bool) -> None:
    """Rebuild the page and print its tables; nothing if all units failed."""
    from mmgraph.benchmark.overview import overview, summary_sentence
    from mmgraph.benchmark.report import block_tables, write_report
    from mmgraph.benchmark.results import Results

    lines = Results(folder).lines()
    if failed and not lines:
        return
    commits = {line["commit"] for line in lines}
    if len(commits) > 1:
        typer.echo(
            f"These results mix {len(commits)} commits of mmgraph; --fresh computes "
            "all of them anew.",
            err=True,
        )
    blocks = write_report(folder)
    tables = [table for block in blocks for table in block_tables(block)]
    for table in (*tables, *overview(blocks)):
        show(table)
    typer.echo(summary_sentence(blocks))
    typer.echo(f"Page: {folder / 'report.html'}   Table: {folder / 'table.md'}")
