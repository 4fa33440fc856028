"""`mmgraph predict` and `mmgraph embed`: outputs of a saved model."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.cli.app import app, print_warnings
from mmgraph.cli.options import (
    AlphaOption,
    DeviceOption,
    File,
    IdOption,
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
    OnlyOption,
)
from mmgraph.workflows.inputs import check_model, check_samples
from mmgraph.workflows.outputs import check_file

if TYPE_CHECKING:
    import pyarrow as pa

    from mmgraph.workflows.predict import PredictRequest
    from mmgraph.workflows.saved_model import Warn

RayOption = Annotated[
    bool,
    typer.Option(
        "--ray", help="Process a folder of Parquet files in parallel with Ray Data."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Ray worker processes (default: one per core)."),
]


@app.command(
    epilog="Example: mmgraph predict heart_model heart.parquet --output p.csv. "
    "Model written by save_pretrained: mmgraph predict icu_model new.parquet "
    "--id patient --modality labs=wbc,crp --modality ecg=rate,qt"
)
def predict(
    model: ModelFolder,
    file: File,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .parquet or .csv (default: CSV on standard output)."
        ),
    ] = None,
    modality: ModalityOption = None,
    id_: IdOption = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Add columns adds_NAME: Shapley contribution of each modality to the "
            "prediction (to the probability of the predicted class), 0 where missing.",
        ),
    ] = False,
    conformal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Labeled samples that were not used in training: add columns "
            "in_set_CLASS, sets that contain the true class with a probability of 1 - "
            "alpha for every subset of modalities; for regression, low and high.",
        ),
    ] = None,
    alpha: AlphaOption = None,
    acquire: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Training samples: add columns value_NAME, the expected information "
            "of each missing modality in nats, and acquire, the best of them.",
        ),
    ] = None,
    encoder: MovedEncoderOption = None,
    device: DeviceOption = None,
    ray: RayOption = False,
    workers: WorkersOption = None,
) -> None:
    """Predict samples with any subset of the modalities.

    Classifiers write the predicted class and all class probabilities, regressors the
    prediction; a matcher scores whether left and right match. Folders of Parquet files
    are read part by part.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities

    if output is not None:
        read = [file, *(x for x in (conformal, acquire) if x is not None)]
        check_file(output, ".parquet", ".csv", inputs=read)
    check_model(model)
    check_samples(file)
    from mmgraph.workflows.predict import PredictRequest, to_csv, write_tables

    chosen, encoders = parse_modalities(modality), parse_encoders(encoder)
    request = PredictRequest(
        "predict",
        model,
        file,
        chosen,
        id_,
        encoders=encoders,
        explain=explain,
        conformal=conformal,
        alpha=alpha,
        acquire=acquire,
        device=device,
    )
    with print_warnings() as warn:
        tables = _tables(request, warn, ray, workers)
        if output is None:
            for text in to_csv(tables):
                typer.echo(text, nl=False)
        else:
            num, _ = write_tables(tables, output)
            typer.echo(f"{num} predictions: {output}")


@app.command(
    epilog="Example: mmgraph embed heart.parquet --model heart_model --output z.parquet"
)
def embed(
    file: File,
    model: Annotated[
        Path,
        typer.Option(help="Model folder written by mmgraph train or save_pretrained."),
    ],
    output: Annotated[Path, typer.Option(help="File to write: .parquet or .npy.")],
    modality: ModalityOption = None,
    id_: IdOption = None,
    only: OnlyOption = None,
    encoder: MovedEncoderOption = None,
    device: DeviceOption = None,
    ray: RayOption = False,
    workers: WorkersOption = None,
) -> None:
    """Embed each sample as a vector, from any subset of its modalities.

    The embedding of a retriever is the one that it searches with; that of a classifier
    or regressor is the concatenated graph states of its ensemble members. Parquet files
    have the columns id and z. Folders of Parquet files are read part by part.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities, parse_names

    check_file(output, ".parquet", ".npy", inputs=[file])
    check_model(model)
    check_samples(file)
    from mmgraph.workflows.predict import PredictRequest, write_tables

    chosen = parse_modalities(modality)
    names, encoders = parse_names(only), parse_encoders(encoder)
    request = PredictRequest(
        "embed", model, file, chosen, id_, names, encoders, device=device
    )
    with print_warnings() as warn:
        tables = _tables(request, warn, ray, workers)
        num, width = write_tables(tables, output)
        typer.echo(f"{num} embeddings of {width} numbers: {output}")


def _tables(
    request: "PredictRequest", warn: "Warn", ray: bool, workers: int | None
) -> "Iterator[pa.Table]":
    if not ray:
        from mmgraph.workflows.predict import predict_tables

        return predict_tables(request, warn)
    from mmgraph.workflows.ray import predict_on_ray

    return predict_on_ray(request, workers=workers, warn=warn)
