"""What is asked of a saved model: `mmgraph predict` and `embed`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.cli.app import app, print_warnings
from mmgraph.cli.options import (
    File,
    IdOption,
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
)
from mmgraph.workflows.outputs import check_file
from mmgraph.workflows.predict import PredictRequest, answer, to_csv, write_answers
from mmgraph.workflows.saved_model import Warn

if TYPE_CHECKING:
    import pyarrow as pa

RayOption = Annotated[
    bool, typer.Option("--ray", help="Spread a folder over workers of Ray Data.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="ProcessGroup of Ray (default: one per core)."),
]


@app.command(
    epilog="Example: mmgraph predict icu_model new.parquet --output predictions.csv. "
    "Of a model of save_pretrained: mmgraph predict icu_model new.parquet --id patient "
    "--modality labs=wbc,crp --modality ecg=rate,qt"
)
def predict(
    model: ModelFolder,
    file: File,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; .parquet or .csv (default: screen)."),
    ] = None,
    modality: ModalityOption = None,
    id_: IdOption = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Add columns adds_NAME: what each modality adds to the prediction "
            "(to the probability of the predicted class), 0 where it is missing.",
        ),
    ] = False,
    encoder: MovedEncoderOption = None,
    ray: RayOption = False,
    workers: WorkersOption = None,
) -> None:
    """Predict the samples of a Parquet file or folder, whatever modalities they have.

    A matcher says whether the left and the right side of each sample belong together.
    A folder of Parquet files is read piece by piece.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities

    if output is not None:
        check_file(output, ".parquet", ".csv")
    chosen, encoders = parse_modalities(modality), parse_encoders(encoder)
    request = PredictRequest(
        "predict", model, file, chosen, id_, encoders=encoders, explain=explain
    )
    with print_warnings() as warn:
        tables = _answers(request, warn, ray, workers)
        if output is None:
            for text in to_csv(tables):
                typer.echo(text, nl=False)
        else:
            num, _ = write_answers(tables, output)
            typer.echo(f"{num} predictions: {output}")


@app.command(
    epilog="Example: mmgraph embed new.parquet --model icu_model --output z.parquet"
)
def embed(
    file: File,
    model: Annotated[
        Path, typer.Option(help="Folder of mmgraph train or save_pretrained.")
    ],
    output: Annotated[Path, typer.Option(help="Where to write; .parquet or .npy.")],
    modality: ModalityOption = None,
    id_: IdOption = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Embed these modalities alone."),
    ] = None,
    encoder: MovedEncoderOption = None,
    ray: RayOption = False,
    workers: WorkersOption = None,
) -> None:
    """Turn every sample into a vector, from whatever modalities it has.

    A retriever gives the vectors that it searches with; a classifier or regressor the
    states of its graph, members side by side. Parquet gets the columns id and z. A
    folder of Parquet files is read piece by piece.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities, parse_names

    check_file(output, ".parquet", ".npy")
    chosen = parse_modalities(modality)
    names, encoders = parse_names(only), parse_encoders(encoder)
    request = PredictRequest("embed", model, file, chosen, id_, names, encoders)
    with print_warnings() as warn:
        tables = _answers(request, warn, ray, workers)
        num, width = write_answers(tables, output)
        typer.echo(f"{num} embeddings of {width} numbers: {output}")


def _answers(
    request: PredictRequest, warn: Warn, ray: bool, workers: int | None
) -> "Iterator[pa.Table]":
    if not ray:
        return answer(request, warn)
    from mmgraph.workflows.ray import answer_on_ray

    num = workers or os.cpu_count() or 1
    return answer_on_ray(request, workers=num, warn=warn)
