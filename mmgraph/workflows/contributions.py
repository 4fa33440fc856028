"""Contributions of modalities of a saved model on the samples of a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmgraph._html import render
from mmgraph.data.stream.stream import in_memory
from mmgraph.evaluation.contribution import Contributions, contributions
from mmgraph.evaluation.table import interval, signed
from mmgraph.files import write_text
from mmgraph.workflows.samples import read_samples
from mmgraph.workflows.saved_model import (
    Task,
    Warn,
    check_given,
    load_model,
    no_op,
    resolve_columns,
    warn_missing_columns,
)

TASKS: tuple[Task, ...] = "classification", "regression", "survival", "retrieval"


@dataclass(frozen=True)
class ContributionsRequest:
    """Model, samples and options.

    Attributes:
        model: Folder of the saved model.
        file: Parquet or CSV file, or folder of Parquet files, with labels.
        label: Column of labels; None is that of the training.
        group: Column of groups; None is that of the training, if the file has it.
        modalities: Columns of modalities that differ from those of the training.
        gallery: Modalities of the gallery entries of a retriever.
        orders: Number of random orders; None is the default.
        seed: Seed of resamples and orders.
        encoders: Paths of pretrained encoders that have moved, by modality.
    """

    model: Path
    file: Path
    label: str | None = None
    group: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    gallery: Sequence[str] | None = None
    orders: int | None = None
    seed: int = 0
    encoders: Mapping[str, str] | None = None


def measure_contributions(
    request: ContributionsRequest, warn: Warn = no_op
) -> Contributions:
    """Measure the contributions of the modalities of a saved model.

    Args:
        request: Model, samples and options.
        warn: Function that receives one line per modality without a column.

    Raises:
        CheckpointError: If the folder contains no classifier, regressor or retriever.
        ConfigError: If an option does not apply to the model.
        DataError: If the file has no labels, or a class is unknown to the model.
    """
    model, columns = load_model(request.model, *TASKS, encoders=request.encoders)
    check_given(request.modalities, model)
    existing = columns.in_file(request.file)
    used = existing if columns.task == "retrieval" else columns
    samples = read_samples(
        request.file,
        modalities=resolve_columns(columns, request.file, request.modalities),
        label=replace(used, label=request.label or used.label).target,
        group=request.group or existing.group,
        id=existing.id,
    )
    warn_missing_columns(request.file, samples, model, warn)
    return contributions(
        model,
        in_memory(samples),
        gallery=request.gallery,
        orders=request.orders,
        seed=request.seed,
    )


def write_contributions_page(report: Contributions, path: Path, title: str) -> None:
    """Write contributions as a self-contained HTML page.

    Args:
        report: Contributions.
        path: File to write.
        title: Heading of the page.
    """
    ends = [0.0, *(x for e in report.modalities for x in e.share)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    rows = [
        {
            "each": each,
            "zero": place(0.0),
            "left": place(min(each.share.mean, 0.0)),
            "width": round(100 * abs(each.share.mean) / span, 2),
            "low": place(each.share.low),
            "high": place(each.share.high),
            "share": signed(each.share.mean),
            "interval": interval(each.share.low, each.share.high),
            "alone": signed(each.alone.mean),
            "last": signed(each.last.mean),
            "present": f"{each.present:.0%}",
        }
        for each in report.modalities
    ]
    pairs = [
        {
            "pair": " and ".join(each.pair),
            "value": signed(each.value.mean),
            "interval": interval(each.value.low, each.value.high),
        }
        for each in report.interactions
    ]
    page = render(
        "contributions.html",
        title=title,
        report=report,
        rows=rows,
        pairs=pairs,
        notes=report.table().notes[:1],
    )
    write_text(path, page)
