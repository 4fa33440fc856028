"""Training on files and folders; the model and its columns are saved as a folder."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgraph.config import PAIR_TASKS, TrainConfig
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.data.targets import missing_labels
from mmgraph.data.validation import check_names
from mmgraph.distributed import ProcessGroup, init_process_group
from mmgraph.errors import ConfigError
from mmgraph.train.progress_dir import remove_progress
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.samples import parse_schema_file, read_samples
from mmgraph.workflows.saved_model import Columns, Task

PROGRESS_FOLDER = "training"  # checkpoint directory in the output folder


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        model: The fitted estimator.
        samples: The training samples.
        task: The task, chosen from the labels where it was "auto".
        resumed: Step that the training was resumed after; 0 if it started over.
    """

    model: Any
    samples: DataOrStream
    task: Task
    resumed: int = 0


def train_file(config: TrainConfig) -> TrainResult:
    """Fit an estimator on a file or folder and save it with its columns.

    Raises:
        ConfigError: If the output is not a folder that can be written, or a retriever
            or matcher is trained in several processes.
        DataError: If the file, its columns or its labels cannot be used.
    """
    workers = init_process_group()
    data = workers.run_on_all(lambda: _open(config, workers))
    task = _task(config, data)
    if task in PAIR_TASKS:
        result = _fit_pairs(config, task, data)
    else:
        result = _fit_labels(config, task, data, workers)
    columns = Columns(task, config.label, config.modalities, config.group, config.id)

    def save() -> None:
        if workers.is_main_process:
            result.model.save_pretrained(config.output)
            columns.save(config.output)

    workers.run_on_all(save)
    return result


def _open(config: TrainConfig, workers: ProcessGroup) -> DataOrStream:
    check_folder(config.output)
    if config.task in PAIR_TASKS and workers.size > 1:
        raise ConfigError(
            f"task {config.task} must be trained in one process, got {workers.size}. "
            "Start it without torchrun."
        )
    return read_samples(
        config.file,
        modalities=config.modalities,
        label=config.label,
        group=config.group,
        id=config.id,
        memory=config.memory,
        schema=None if config.graph is None else parse_schema_file(config.graph),
    )


def _task(config: TrainConfig, data: DataOrStream) -> Task:
    """Return the configured task, or the task of the first part with known labels."""
    if config.task != "auto":
        return config.task
    labels = (np.asarray(part.y) for part in parts_of(data))
    y = next((y for y in labels if not missing_labels(y).all()), np.empty(0))
    if y.dtype.kind != "f":
        return "classification"
    known = y[np.isfinite(y)]
    return "regression" if (known != np.round(known)).any() else "classification"


def _fit_labels(
    config: TrainConfig, task: Task, data: DataOrStream, workers: ProcessGroup
) -> TrainResult:
    """Fit in all processes of torchrun; checkpoints are kept in the output folder."""
    from mmgraph.estimators import FusionClassifier, FusionRegressor

    kind = FusionRegressor if task == "regression" else FusionClassifier
    progress = config.output / PROGRESS_FOLDER
    if config.fresh and workers.is_main_process:
        remove_progress(progress)
    options = {"seed": config.seed, **_options(config)}
    model = kind(checkpoint_dir=progress, **options).fit(data)
    return TrainResult(model, data, task, model.history_.resumed)


def _fit_pairs(config: TrainConfig, task: Task, data: DataOrStream) -> TrainResult:
    from mmgraph.estimators import FusionMatcher, FusionRetriever

    options = {"seed": config.seed, **_options(config)}
    samples = in_memory(data)
    for side, names in (("left", config.left), ("right", config.right)):
        check_names(side, names, samples.modalities)
    if task == "retrieval":
        return TrainResult(FusionRetriever(**options).fit(samples), samples, task)
    matcher = FusionMatcher(config.left, config.right, **options)
    return TrainResult(matcher.fit(samples), samples, task)


def _options(config: TrainConfig) -> dict[str, Any]:
    """Return the configured parameters that otherwise keep the estimator's default."""
    given = {
        "epochs": config.epochs,
        "encoders": config.encoders or None,
        "aligned": config.aligned,
    }
    return {name: value for name, value in given.items() if value is not None}
