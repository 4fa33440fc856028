"""`mmgraph contributions`: contributions of modalities to the score of a model."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import File, ModalityOption, ModelFolder, MovedEncoderOption
from mmgraph.workflows.outputs import check_file


@app.command(
    epilog="Example: mmgraph contributions heart_model test.parquet --group hospital "
    "--page contributions.html"
)
def contributions(
    model: ModelFolder,
    file: File,
    label: Annotated[
        str | None,
        typer.Option(help="Column of labels (default: that of the training)."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Column of groups, such as sites, whose shares are compared and which "
            "are resampled as a whole (default: that of the training)."
        ),
    ] = None,
    modality: ModalityOption = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Modalities of the gallery entries of a retriever; the others are the "
            "query.",
        ),
    ] = None,
    orders: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Random orders in which modalities are added (default: all orders for "
            "up to 8 modalities, 32 for more).",
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write, with all interactions.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of resamples and orders.")] = 0,
    encoder: MovedEncoderOption = None,
) -> None:
    """Measure what each modality contributes to the score on held-out samples.

    The share of a modality is its Shapley value in the mean log score (for regression,
    negative squared error; for retrieval, nDCG); alone and last are what it adds to
    nothing and to all others. Alarms name what makes the score misleading, such as
    missingness that predicts the label.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities, parse_names
    from mmgraph.workflows.contributions import (
        ContributionsRequest,
        measure_contributions,
        write_contributions_page,
    )

    if page is not None:
        check_file(page, inputs=[model, file])
    request = ContributionsRequest(
        model,
        file,
        label=label,
        group=group,
        modalities=parse_modalities(modality),
        gallery=parse_names(gallery),
        orders=orders,
        seed=seed,
        encoders=parse_encoders(encoder),
    )
    with print_warnings() as warn:
        report = measure_contributions(request, warn)
        show(report.table(f"{model} on {file}"))
        if page is not None:
            write_contributions_page(report, page, f"{model} on {file}")
            typer.echo(f"Page: {page}")
