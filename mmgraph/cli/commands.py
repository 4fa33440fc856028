"""The command line. Only this file prints; everything else returns values.

An error in what the user gave ends with exit code 2 and one line on standard
error; a model that failed in a benchmark with 1; an interrupt with 130.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.cli.arguments import OneLineErrors
from mmgraph.cli.outputs import check_file

if TYPE_CHECKING:
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


@contextmanager
def notices() -> Iterator[Callable[[str], None]]:
    """Print what was told beside the answer, once after it; an error stands alone."""
    told: dict[str, None] = {}
    yield told.setdefault
    for line in told:
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
        metavar="FILE.parquet",
        help="One row per sample (.parquet, .csv); or a folder of Parquet files.",
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
RunFile = Annotated[
    Path | None, typer.Option(help="Run file (.json, .toml) with these options.")
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


@app.command(
    epilog="Example: mmgraph schema heart --output heart.svg. "
    "Of files of your own: mmgraph schema shards --modality labs=wbc,crp --json"
)
def schema(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Data set; Parquet or CSV file; folder of Parquet files, or of "
            "pictures, texts and sounds; or schema as .json.",
        ),
    ],
    modality: ModalityOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Picture to write: .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the graph that a sample becomes, and draw it."""
    from mmgraph.cli.arguments import parse_modalities
    from mmgraph.cli.reading import read_schema
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
