"""Evaluation of a saved model on the samples of a file or folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgraph.config import PAIR_TASKS
from mmgraph.data import MultimodalData
from mmgraph.data.stream.stream import DataOrStream, in_memory
from mmgraph.data.targets import class_numbers
from mmgraph.errors import ConfigError, DataError
from mmgraph.evaluation import Evaluation, evaluate
from mmgraph.workflows.samples import is_folder_of_files, read_samples
from mmgraph.workflows.saved_model import (
    Columns,
    Task,
    Warn,
    apply_training_schema,
    check_given,
    load_model,
    no_op,
    resolve_columns,
    warn_missing_columns,
)

TASKS: tuple[Task, ...] = (
    *("classification", "regression", "survival", "retrieval", "matching"),
)
SEEDS = 3  # masks per missing rate above 0


@dataclass(frozen=True)
class EvaluateRequest:
    """Model, samples and scenarios of an evaluation.

    Attributes:
        model: Folder of `mmgraph train`.
        file: Parquet or CSV file, folder of Parquet files, or folder of images, texts
            and audio.
        label: Column of labels; None is that of the training.
        modalities: Columns of modalities that differ from those of the training.
        group: Column of groups, whose samples belong together in retrieval, matching
            and intervals; None is that of the training.
        rates: Shares of the observed modalities to remove; 0 removes nothing.
        query: Modalities of a query, used together; None is each on its own.
        gallery: Modalities of a gallery entry, used together; None is each on its own.
        threshold: Probability of the second class from which on a sample is classified
            as that class; None scores no decisions.
        metrics: Names of scores of labels; None is all.
        intervals: Whether to compute bootstrap intervals.
        seed: Seed of masks, negatives and intervals.
        encoders: Paths of pretrained encoders that have moved, by modality.
        device: Device of the model; None is a GPU if there is one.
    """

    model: Path
    file: Path
    label: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    group: str | None = None
    rates: tuple[float, ...] = (0.0,)
    query: tuple[str, ...] | None = None
    gallery: tuple[str, ...] | None = None
    threshold: float | None = None
    metrics: tuple[str, ...] | None = None
    intervals: bool = False
    seed: int = 0
    encoders: Mapping[str, str] | None = None
    device: str | None = None

    def check(self, task: Task) -> None:
        """Refuse options that do not apply to a model of this task.

        Raises:
            ConfigError: If there is such an option; it names the first one.
        """
        sides = {"--query": self.query, "--gallery": self.gallery}
        given = [option for option, value in sides.items() if value is not None]
        given = [] if task == "retrieval" else given
        if task not in PAIR_TASKS and self.group is not None and not self.intervals:
            given.append("--group")
        if given:
            raise ConfigError(
                f"{given[0]} must go with a retriever{_or_matcher(given[0])}, got a "
                f"{task} model. Leave {given[0]} out."
            )


def _or_matcher(option: str) -> str:
    return " or matcher" if option == "--group" else ""


def evaluate_saved(request: EvaluateRequest, warn: Warn = no_op) -> Evaluation:
    """Score a saved model on a file, at each test missing rate.

    Args:
        request: Model, file and scenarios.
        warn: Function that receives one line per modality without a column.

    Raises:
        CheckpointError: If the folder does not contain a model.
        ConfigError: If an option does not apply to the model.
        DataError: If the file has no labels, a class is unknown to the model, or
            modalities for retrieval or matching are missing.
    """
    options: Any = {"encoders": request.encoders, "device": request.device}
    model, columns = load_model(request.model, *TASKS, **options)
    request.check(columns.task)
    check_given(request.modalities, model)
    samples = apply_training_schema(_read(columns, request), model)
    warn_missing_columns(request.file, samples, model, warn)
    if columns.task in PAIR_TASKS:
        samples = in_memory(samples)
        _check_label(request.label, samples)
    return evaluate(
        model,
        samples,
        request.rates,
        query=request.query,
        gallery=request.gallery,
        threshold=request.threshold,
        metrics=request.metrics,
        intervals=request.intervals,
        seeds=SEEDS,
        seed=request.seed,
    )


def _check_label(label: str | None, data: MultimodalData) -> None:
    if label is not None and class_numbers(data.y) is None:
        raise DataError(
            f"--label must name a column of at least two classes of which samples "
            f"share one, got '{label}'. Leave --label out to evaluate without labels."
        )


def _read(columns: Columns, request: EvaluateRequest) -> DataOrStream:
    if columns.task in PAIR_TASKS:
        return _read_pairs(columns, request)
    existing = columns.in_file(request.file)
    return read_samples(
        request.file,
        modalities=resolve_columns(columns, request.file, request.modalities),
        label=replace(columns, label=request.label or columns.label).target,
        group=(request.group or existing.group) if request.intervals else None,
        id=existing.id,
    )


def _read_pairs(columns: Columns, request: EvaluateRequest) -> DataOrStream:
    """Read the samples, with labels and groups if the file has them."""
    file = request.file
    if is_folder_of_files(file):
        label, group = request.label, request.group
        given = request.modalities or {}
        return read_samples(file, modalities=given, label=label, group=group)
    modalities = resolve_columns(columns, file, request.modalities)
    # columns of the training are optional for retrieval and matching
    existing = columns.in_file(file)
    return read_samples(
        file,
        modalities=modalities,
        label=request.label or existing.label,
        group=request.group or existing.group,
        id=existing.id,
    )
