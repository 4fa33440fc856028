"""`mmgraph schema`: the graph of a sample as text, JSON or image."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings
from mmgraph.cli.options import ModalityOption


@app.command(
    epilog="Example: mmgraph schema heart --output heart.svg. "
    "For other files: mmgraph schema shards --modality labs=wbc,crp --json"
)
def schema(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Name of a data set; Parquet or CSV file; folder of Parquet files, or "
            "of images, texts and audio files; or schema in a .json file.",
        ),
    ],
    modality: ModalityOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Image to write: .png or .svg.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for mmgraph train --schema.")
    ] = False,
) -> None:
    """Print or draw the graph that a sample is converted to."""
    from mmgraph.cli.options import parse_modalities
    from mmgraph.workflows.schema import show_schema

    with print_warnings():
        result = show_schema(source, parse_modalities(modality) or {}, output)
        typer.echo(result.schema.to_json() if as_json else result.text)
    if output is not None:
        typer.echo(f"Image: {output}", err=True)
