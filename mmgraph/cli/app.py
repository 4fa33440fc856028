"""The application of the command line, and the output of tables and warnings.

Exit codes: 2 with one line on standard error for invalid input, 1 if a model failed in
a benchmark, 130 after an interrupt.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.cli.errors import CLIGroup
from mmgraph.errors import DataWarning

if TYPE_CHECKING:
    from mmgraph.evaluation.table import Table

DESCRIPTION = (
    "Graph neural networks for multimodal data with missing modalities: train, "
    "predict, evaluate, benchmark and search with any subset of modalities."
)

app = typer.Typer(
    cls=CLIGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=DESCRIPTION,
    epilog="Example: mmgraph datasets get heart --output heart.parquet, then mmgraph "
    "train heart.parquet --label y --output heart_model",
)


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def print_warnings() -> Iterator[Callable[[str], None]]:
    """Print warnings after the output, each once; none after an error.

    Warnings about the data (`DataWarning`) and about a training that stopped are
    included.
    """
    from sklearn.exceptions import ConvergenceWarning

    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        for category in (DataWarning, ConvergenceWarning):
            warnings.simplefilter("always", category)
        yield lines.append
    for warning in caught:
        if issubclass(warning.category, DataWarning | ConvergenceWarning):
            lines.append(str(warning.message))
        else:
            warnings.showwarning(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    for line in dict.fromkeys(lines):
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
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Handle the options before the command."""


def show(table: "Table") -> None:
    """Print a table: with borders on a terminal, in plain columns in a pipe."""
    from mmgraph.evaluation.table import to_plain

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
