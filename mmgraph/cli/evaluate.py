"""`mmgraph evaluate`: scores of a saved model as a table."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import (
    DeviceOption,
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
    SeveralValues,
)
from mmgraph.workflows.inputs import check_model, check_samples

FileOrFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FILE_OR_FOLDER",
        help="File with one row per sample (.parquet, .csv), a folder of Parquet "
        "files, or (retrieval, matching) a folder of images, texts and audio files.",
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Column of labels (default: that of the training).")
]
Missing = Annotated[
    str | None,
    typer.Option(
        metavar="RATE...",
        help="Shares of observed modalities to remove, one row each (default: 0, which "
        "removes nothing).",
    ),
]
Query = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Modalities of a query, used together (default: each on its own).",
    ),
]
Gallery = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Modalities of a gallery entry, used together (default: each on its own).",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column of groups: samples with equal values belong together in retrieval "
        "and matching (default: that of the training, else each sample on its own)."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Probability of the second class from which on a sample is classified as "
        "that class: shows sensitivity, specificity, PPV, NPV and net benefit "
        "(two classes only).",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="NAME...",
        help="Scores to show, such as auroc accuracy (default: all).",
    ),
]
Intervals = Annotated[
    bool,
    typer.Option(
        "--intervals",
        help="Add 95% bootstrap intervals over samples, or groups of at least 10.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of masks, negatives and intervals.")]


@app.command(
    cls=SeveralValues,
    epilog="Example: mmgraph evaluate heart_model heart.parquet --missing 0 0.3 0.5. "
    "One direction of a retriever: mmgraph evaluate stamp_model stamps "
    "--query image,sound --gallery text. "
    "Model written by save_pretrained: mmgraph evaluate icu_model test.parquet "
    "--label died --modality labs=wbc,crp --modality ecg=rate,qt",
)
def evaluate(
    model: ModelFolder,
    file: FileOrFolder,
    label: Label = None,
    modality: ModalityOption = None,
    missing: Missing = None,
    query: Query = None,
    gallery: Gallery = None,
    group: Group = None,
    threshold: Threshold = None,
    metrics: Metrics = None,
    intervals: Intervals = False,
    seed: Seed = 0,
    encoder: MovedEncoderOption = None,
    device: DeviceOption = None,
) -> None:
    """Score a model on held-out samples, also with modalities removed.

    Use samples that are not in the training file: scores on training samples are too
    high. A classifier or regressor needs labels. A retriever is scored from every
    modality to every other: Recall@K, mean reciprocal rank, median rank and mAP; with
    labels also category mAP. A matcher is scored on true pairs against random and hard
    negatives and, with labels, negatives of the same class. Missing rates remove
    modalities completely at random, with three masks each.
    """
    from mmgraph.cli.options import (
        parse_encoders,
        parse_modalities,
        parse_names,
        parse_rates,
    )

    check_model(model)
    check_samples(file)
    from mmgraph.workflows.evaluate import EvaluateRequest, evaluate_saved

    request = EvaluateRequest(
        model,
        file,
        label=label,
        modalities=parse_modalities(modality),
        group=group,
        rates=parse_rates(missing, "--missing") or (0.0,),
        query=parse_names(query),
        gallery=parse_names(gallery),
        threshold=threshold,
        metrics=parse_names(metrics),
        intervals=intervals,
        seed=seed,
        encoders=parse_encoders(encoder),
        device=device,
    )
    with print_warnings() as warn:
        tables = evaluate_saved(request, warn).tables(f"{model} on {file}")
        for number, table in enumerate(tables):
            if number:
                typer.echo()
            show(table)
