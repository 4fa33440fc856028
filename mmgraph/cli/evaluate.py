"""`mmgraph evaluate`: scores of a saved model, in a table."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import (
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
    SeveralValues,
)

FileOrFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FILE_OR_FOLDER",
        help="File with one row per sample (.parquet, .csv), a folder of Parquet "
        "files, or "
        "(retrieval, matching) of pictures, texts and sounds.",
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Column of labels (default: as in the training).")
]
Missing = Annotated[
    str | None,
    typer.Option(metavar="RATE...", help="Test missing rates (default: 0)."),
]
Query = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Modalities to search by, together (default: each alone).",
    ),
]
Gallery = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Modalities to find (default: each alone)."),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column whose equal values belong together, for retrieval and "
        "matching (default: as in the training, else each sample by itself)."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of masks and of wrong partners.")]


@app.command(
    cls=SeveralValues,
    epilog="Example: mmgraph evaluate icu_model test.parquet --missing 0 .3 .5. "
    "Of a retriever, one direction: mmgraph evaluate stamp_model stamps "
    "--query image,sound --gallery text. "
    "Of a model of save_pretrained: mmgraph evaluate icu_model test.parquet "
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
    seed: Seed = 0,
    encoder: MovedEncoderOption = None,
) -> None:
    """Score a model on samples that it has not seen.

    A classifier or regressor needs labels. A retriever looks up every modality by
    every other: Recall@K, mean reciprocal rank, median rank and mAP; with
    labels also the mAP of categories. A matcher tells true pairs from wrong ones, whose
    partners are drawn at random, among the most similar and, with labels, from the
    same category. Missing rates remove modalities at random, three times each.
    """
    from mmgraph.cli.options import (
        parse_encoders,
        parse_modalities,
        parse_names,
        parse_rates,
    )
    from mmgraph.workflows.evaluate import EvaluateRequest, evaluate_saved

    question = EvaluateRequest(
        model,
        file,
        label=label,
        modalities=parse_modalities(modality),
        group=group,
        rates=parse_rates(missing, "--missing") or (0.0,),
        query=parse_names(query),
        gallery=parse_names(gallery),
        seed=seed,
        encoders=parse_encoders(encoder),
    )
    with print_warnings() as warn:
        show(evaluate_saved(question, warn).table(f"{model} on {file}"))
