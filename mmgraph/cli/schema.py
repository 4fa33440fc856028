"""``mmgraph schema``: print or draw the graph of a sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.workflows.outputs import check_file

if TYPE_CHECKING:
    pass
from mmgraph.cli.app import app
from mmgraph.cli.options import ModalityOption


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
    from mmgraph.cli.options import parse_modalities
    from mmgraph.plotting import describe_schema
    from mmgraph.workflows.samples import read_schema

    if output is not None:
        check_file(output, ".png", ".svg")
    found = read_schema(source, parse_modalities(modality) or {})
    if as_json:
        typer.echo(found.to_json())
    else:
        typer.echo("\n".join(describe_schema(found)))
    if output is not None:
        from mmgraph.plotting import draw_schema

        draw_schema(found, output)
        typer.echo(f"Picture: {output}", err=True)
