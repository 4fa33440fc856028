"""`mmgraph evaluate`: scores of a saved model, in a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.cli.arguments import SeveralValues
from mmgraph.cli.commands import (
    ModalityOption,
    ModelFolder,
    MovedEncoderOption,
    app,
    notices,
    show,
)

if TYPE_CHECKING:
    from mmgraph.cli.scoring import Measured
    from mmgraph.table import Table

TITLES = {
    "num_queries": "queries",
    "num_entries": "gallery",
    "num_pairs": "pairs",
    "category_map": "category mAP",
    "expected_calibration_error": "ECE",
}
DIGITS = {"num_queries": 0, "num_entries": 0, "num_pairs": 0, "median_rank": 1}


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
    from mmgraph.cli.arguments import (
        parse_encoders,
        parse_modalities,
        parse_names,
        parse_rates,
    )
    from mmgraph.cli.scoring import Question, measure

    question = Question(
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
    with notices() as tell:
        show(_table(f"{model} on {file}", measure(question, tell)))


def _table(title: str, measured: "Measured") -> "Table":
    from mmgraph.benchmark.tables import HEADINGS, METRIC_TITLES
    from mmgraph.table import Table, number

    names = list(measured.lines[0][2])
    rows = tuple(
        (
            f"{rate:g}",
            *([asked] if measured.asked else []),
            *(number(scores[name], DIGITS.get(name, 3)) for name in names),
        )
        for rate, asked, scores in measured.lines
    )
    words = [measured.asked] if measured.asked else []
    known = METRIC_TITLES | HEADINGS | TITLES if measured.asked else {}
    titles = [known.get(name, name.replace("_", " ")) for name in names]
    columns = ("missing rate", *words, *titles)
    left = frozenset(range(1 + len(words)))
    best = (frozenset[int](),) * len(columns)
    return Table(title, columns, rows, best, measured.notes, left)
