"""How good a saved model is on samples that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmgraph.config import PAIR_TASKS
from mmgraph.data.io.parquet import column_names, parquet_files
from mmgraph.data.stream.stream import Samples, in_memory
from mmgraph.data.targets import class_numbers
from mmgraph.errors import ConfigError, DataError
from mmgraph.evaluation import Evaluation
from mmgraph.evaluation.matching import score_matcher
from mmgraph.evaluation.retrieval import score_retriever
from mmgraph.evaluation.scenarios import Removal, removals
from mmgraph.evaluation.supervised import score_labels
from mmgraph.workflows.samples import is_folder_of_files, read_samples
from mmgraph.workflows.saved_model import (
    Columns,
    Task,
    Tell,
    as_trained,
    check_given,
    load_model,
    silent,
    telling_missing,
    there,
)

TASKS: tuple[Task, ...] = ("classification", "regression", "retrieval", "matching")
SEEDS = 3  # masks per rate above 0


@dataclass(frozen=True)
class Question:
    """What is to be measured.

    Attributes:
        model: Folder of `mmgraph train`.
        file: Parquet file, folder of them, or of pictures, texts and sounds.
        label: Column of labels; None is that of the training.
        modalities: Columns of modalities; those of others are as in the training.
        group: Column whose equal values belong together, for retrieval and matching;
            None is that of the training.
        rates: Shares of the observed modalities to remove; 0 is the file as it is.
        query: Modalities that a retriever is asked by; None is each by itself.
        gallery: Modalities that a retriever finds; None is each by itself.
        seed: Of masks and wrong partners.
        encoders: Where pretrained encoders are now, by modality, if they have moved.
    """

    model: Path
    file: Path
    label: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    group: str | None = None
    rates: tuple[float, ...] = (0.0,)
    query: tuple[str, ...] | None = None
    gallery: tuple[str, ...] | None = None
    seed: int = 0
    encoders: Mapping[str, str] | None = None

    def check(self, task: Task) -> None:
        """Refuse options that a model of this task has no use for.

        Raises:
            ConfigError: Naming the first one.
        """
        sides = {"--query": self.query, "--gallery": self.gallery}
        given = [option for option, value in sides.items() if value is not None]
        given = [] if task == "retrieval" else given
        if task not in PAIR_TASKS and self.group is not None:
            given.append("--group")
        if given:
            raise ConfigError(
                f"{given[0]} must go with a retriever{_or_matcher(given[0])}, got a "
                f"model of {task}. Leave it out."
            )


def _or_matcher(option: str) -> str:
    return " or matcher" if option == "--group" else ""


def measure(question: Question, tell: Tell = silent) -> Evaluation:
    """Score a saved model on a file, at each test missing rate.

    Args:
        question: What is to be measured.
        tell: Takes a line that names the modalities of the model that the file lacks.

    Raises:
        CheckpointError: If the folder is not one of a model.
        ConfigError: If an option does not fit the model.
        DataError: If the file has no labels to score by, or a class that the model
            never saw; or lacks the modalities that belong together.
    """
    model, columns = load_model(question.model, *TASKS, encoders=question.encoders)
    question.check(columns.task)
    check_given(question.modalities, model)
    asked = removals(question.rates, SEEDS, question.seed)
    if columns.task in PAIR_TASKS:
        return _measure_pairs(model, columns, question, asked, tell)
    samples = read_samples(
        question.file,
        modalities=there(columns, question.file, question.modalities),
        label=question.label or columns.label,
        id=columns.id,
    )
    samples = as_trained(samples, model)
    read = partial(telling_missing, question.file, samples, model, tell)
    return score_labels(model, read, asked)


def _measure_pairs(
    model: Any,  # noqa: ANN401
    columns: Columns,
    question: Question,
    asked: list[Removal],
    tell: Tell,
) -> Evaluation:
    data = in_memory(as_trained(_read_pairs(columns, question), model))
    for _ in telling_missing(question.file, data, model, tell):
        pass
    if question.label is not None and class_numbers(data.y) is None:
        raise DataError(
            f"--label must name a column of at least two classes of which samples "
            f"share one, got '{question.label}'. Leave it out to measure without."
        )
    group = question.group or columns.group or "group"
    if columns.task == "matching":
        return score_matcher(model, data, asked, group=group)
    sides = {"query": question.query, "gallery": question.gallery}
    return score_retriever(model, data, asked, group=group, **sides)


def _read_pairs(columns: Columns, question: Question) -> Samples:
    """Read the samples, with labels and groups where there are any."""
    file = question.file
    if is_folder_of_files(file):
        label, group = question.label, question.group
        given = question.modalities or {}
        return read_samples(file, modalities=given, label=label, group=group)
    modalities = there(columns, file, question.modalities)
    have = _column_names(file)
    # those of the training are used where the file has them
    label = question.label or (columns.label if columns.label in have else None)
    group = question.group or (columns.group if columns.group in have else None)
    id = columns.id if columns.id in have else None
    return read_samples(file, modalities=modalities, label=label, group=group, id=id)


def _column_names(file: Path) -> set[str]:
    first = next(iter(parquet_files(file)), file)
    return set(column_names(first)) if first.is_file() else set()
