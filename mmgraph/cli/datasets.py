"""`mmgraph datasets`: the catalog of data sets, their cards, and copies as files."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, show
from mmgraph.cli.errors import bad_usage


@app.command(
    epilog="Example: mmgraph datasets heart shows the card; "
    "mmgraph datasets get heart --output heart.parquet writes a file that can be used "
    "at once: mmgraph train heart.parquet --label y --output heart_model"
)
def datasets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|get",
            help="Data set whose card is shown, or get to write one as a file.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="With get: data set to write."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="With get: Parquet file to write (default: NAME.parquet)."),
    ] = None,
) -> None:
    """List the data sets, show the card of one, or write one as a Parquet file.

    The Parquet file contains the modalities, so that no --modality is needed: the
    labels are column y.
    """
    from mmgraph.workflows.datasets import card_text, dataset_table, write_dataset

    if name == "get":
        if dataset is None:
            raise bad_usage("datasets get must be given a name, got none")
        path = output or Path(f"{dataset}.parquet")
        typer.echo(f"{write_dataset(dataset, path)} samples: {path}")
        return
    if dataset is not None or output is not None:
        given = "--output" if dataset is None else f"{name} {dataset}"
        raise bad_usage(f"datasets must be given get NAME to write a file, got {given}")
    if name is None:
        show(dataset_table())
    else:
        typer.echo(card_text(name))
