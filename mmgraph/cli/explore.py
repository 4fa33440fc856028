"""`mmgraph explore`: a page to explore the predictions of a model."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings
from mmgraph.cli.options import (
    AlphaOption,
    File,
    IdOption,
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
)
from mmgraph.workflows.outputs import check_file


@app.command(
    epilog="Example: mmgraph explore heart_model test.parquet --output explore.html "
    "--conformal calibration.parquet"
)
def explore(
    model: ModelFolder,
    file: File,
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path(
        "explore.html"
    ),
    label: Annotated[
        str | None,
        typer.Option(
            help="Column of labels (default: that of the training, if the file has it)."
        ),
    ] = None,
    modality: ModalityOption = None,
    id_: IdOption = None,
    conformal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Labeled samples that were not used in training: show prediction sets "
            "or intervals (default: those that are saved with the model).",
        ),
    ] = None,
    alpha: AlphaOption = None,
    limit: Annotated[
        int,
        typer.Option(min=1, help="Samples of the page, drawn at random from more."),
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    encoder: MovedEncoderOption = None,
) -> None:
    """Write a page on which modalities of samples are switched off and on.

    The page shows prediction, prediction set, contributions and the most valuable
    missing modality of a sample for each subset of its modalities, and the missingness
    and calibration of all samples. It needs no server and no network.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities
    from mmgraph.workflows.explore import ExploreRequest, write_explore_page

    read = [model, file, *([] if conformal is None else [conformal])]
    check_file(output, ".html", ".htm", inputs=read)
    request = ExploreRequest(
        model,
        file,
        label=label,
        modalities=parse_modalities(modality),
        id=id_,
        conformal=conformal,
        alpha=alpha,
        limit=limit,
        seed=seed,
        encoders=parse_encoders(encoder),
    )
    with print_warnings() as warn:
        count = write_explore_page(
            request, output, f"{model.name} on {file.name}", warn
        )
        typer.echo(f"Page of {count} samples: {output}")
