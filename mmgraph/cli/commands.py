"""The command line. Only this file prints; everything else returns values.

An error in what the user gave ends with exit code 2 and one line on standard
error; a model that failed in a benchmark with 1; an interrupt with 130.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgraph.cli.arguments import OneLineErrors, Recorded
from mmgraph.cli.outputs import check_file, check_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmgraph.benchmark.run import Progress
    from mmgraph.config import BenchConfig
    from mmgraph.table import Table

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Learn from whatever modalities each record has.",
)


def main() -> None:
    """Run the command line."""
    app()


def notice(line: str) -> None:
    """Print a line that is not part of the answer."""
    typer.echo(f"Notice: {line}", err=True)


def _show_version(value: bool) -> bool:
    if value:
        import mmgraph

        typer.echo(f"mmgraph {mmgraph.__version__}")
        raise typer.Exit
    return value


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and leave.",
        ),
    ] = False,
) -> None:
    """Learn from whatever modalities each record has."""


Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Data sets, or Parquet files of to_parquet."),
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
RunFile = Annotated[
    Path | None, typer.Option(help="Run file (.json, .toml) with these options.")
]
ReportOnly = Annotated[
    bool, typer.Option("--report", help="Only rebuild page and table.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget earlier results.")]
Typed = Annotated[str, typer.Option(hidden=True)]


@app.command(
    cls=Recorded,
    epilog="Example: mmgraph bench heart --missing 0 .3 .5 .7 --mask-seeds 3",
)
def bench(
    names: Names = None,
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
    from mmgraph.config import BenchConfig, build_config, parse_names, parse_rates

    values: dict[str, Any] = {
        "datasets": tuple(names) if names else None,
        "missing": parse_rates(missing, "--missing"),
        "train_missing": parse_rates(train_missing, "--train-missing"),
        "models": parse_names(models),
        **{"seeds": seeds, "mask_seeds": mask_seeds, "folds": folds},
        **{"repeats": repeats, "suite": suite, "metric": metric},
        **{"output": output, "jobs": jobs, "fresh": fresh or None},
    }
    settings = build_config(BenchConfig, values, run_file=config)
    check_folder(settings.output)
    failed = () if report else _run(settings, typed)
    _show_report(settings.output, bool(failed))
    if failed:
        raise typer.Exit(1)


def _run(settings: "BenchConfig", command: str) -> tuple[str, ...]:
    """Run the benchmark with progress; return one line for each failed unit."""
    from mmgraph.benchmark.run import run_bench

    with _progress() as tell:
        outcome = run_bench(settings, command=command, on_progress=tell)
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
    from mmgraph.benchmark.finding import headline, overview
    from mmgraph.benchmark.records import Results
    from mmgraph.report.page import block_tables, write_report

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
    typer.echo(headline(blocks))
    typer.echo(f"Page: {folder / 'report.html'}   Table: {folder / 'table.md'}")


def show(table: "Table") -> None:
    """Print a table: drawn on a terminal, in plain columns in a pipe."""
    from mmgraph.table import to_plain

    if not sys.stdout.isatty():
        typer.echo("\n".join(to_plain(table)))
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, title_justify="left", title_style="bold")
    for i, column in enumerate(table.columns):
        drawn.add_column(
            column, justify="left" if i in table.left else "right", no_wrap=not i
        )
    for i, row in enumerate(table.rows):
        cells = [
            f"[bold]{text}[/bold]" if i in best else text
            for text, best in zip(row, table.best, strict=True)
        ]
        drawn.add_row(*cells, style="cyan" if row[0] == "mmgraph" else None)
    console = Console()
    console.print(drawn)
    for note in table.notes:
        console.print(note, style="dim", markup=False)


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.parquet", help="One row per sample; or a folder of such files."
    ),
]
ModelFolder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_DIR",
        help="Folder of mmgraph train, which remembers the columns; or of "
        "save_pretrained, for a file that mmgraph wrote, or --modality.",
    ),
]
ModalityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=COLUMN,COLUMN",
        help="Columns of one modality; give it once for each.",
    ),
]
IdOption = Annotated[
    str | None, typer.Option("--id", help="Column that names the samples.")
]
MovedEncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME=PATH",
        help="Where the pretrained model of a modality is now, if it has moved since "
        "the training; give it once for each.",
    ),
]


@app.command(epilog="Example: mmgraph datasets heart")
def datasets(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of this one.")
    ] = None,
) -> None:
    """List the data sets, or show the card of one."""
    from mmgraph.cli.catalogue import card_text, dataset_table

    if name is None:
        show(dataset_table())
    else:
        typer.echo(card_text(name))


@app.command(epilog="Example: mmgraph schema heart --output heart.svg")
def schema(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Data set, Parquet file, or schema as .json."
        ),
    ],
    modality: ModalityOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Picture to write: .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the graph that a sample becomes, and draw it."""
    from mmgraph.cli.reading import read_schema
    from mmgraph.config import parse_modalities
    from mmgraph.report.drawing import describe_schema

    if output is not None:
        check_file(output, ".png", ".svg")
    found = read_schema(source, parse_modalities(modality) or {})
    if as_json:
        typer.echo(found.to_json())
    else:
        typer.echo("\n".join(describe_schema(found)))
    if output is not None:
        from mmgraph.report.page import draw_schema

        draw_schema(found, output)
        typer.echo(f"Picture: {output}", err=True)
