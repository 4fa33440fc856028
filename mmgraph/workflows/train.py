"""Training on files and folders; the model and its columns are saved as a folder."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph.checkpoint import MANIFEST
from mmgraph.config import PAIR_TASKS, TrainConfig
from mmgraph.data import MultimodalData
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.data.targets import MAX_WHOLE_CLASSES, METADATA_NAMES, missing_labels
from mmgraph.data.validation import check_names
from mmgraph.distributed import ProcessGroup, init_process_group
from mmgraph.errors import ConfigError, DataError, MMGraphError
from mmgraph.evaluation import Evaluation, evaluate
from mmgraph.nn.heads import MultiLabel
from mmgraph.train.progress_dir import remove_progress
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.samples import (
    parse_schema_file,
    read_recordings,
    read_samples,
)
from mmgraph.workflows.saved_model import Columns, Task, Warn, no_op

PROGRESS_FOLDER = "training"  # checkpoint directory in the output folder
MAX_NAMES = 8  # classes that are listed


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        model: The fitted estimator.
        samples: The training samples.
        task: The task, chosen from the labels where it was "auto".
        resumed: Step that the training was resumed after; 0 if it started over.
        test: Held-out samples, which :func:`score_held_out` scores; or None.
    """

    model: Any
    samples: DataOrStream
    task: Task
    resumed: int = 0
    test: DataOrStream | None = None

    @property
    def description(self) -> str:
        """The task, with the number of classes and the first ones."""
        classes = getattr(self.model, "classes_", None)
        if classes is None:
            return self.task
        kind = (
            "labels"
            if isinstance(self.model.model_.graph.task, MultiLabel)
            else ("class" if len(classes) == 1 else "classes")
        )
        names = ", ".join(map(str, classes[:MAX_NAMES]))
        rest = ", ..." if len(classes) > MAX_NAMES else ""
        return f"{self.task}, {len(classes)} {kind}: {names}{rest}"

    @property
    def score(self) -> str | None:
        """The out-of-fold score and its name; None for retrieval and matching."""
        score = getattr(self.model, "out_of_fold_score_", None)
        if score is None or math.isnan(score):
            return None
        names = {"classification": "accuracy", "survival": "concordance index"}
        name = names.get(self.task, "R2")
        return f"{name}: {score:.3f}"


def train_file(config: TrainConfig, warn: Warn = no_op) -> TrainResult:
    """Fit an estimator on a file or folder and save it with its columns.

    Args:
        config: Options of the training.
        warn: Function that receives a line about the choice of the task.

    Raises:
        ConfigError: If the output is not a folder that can be written, contains a
            model of another kind, or is the input; or a retriever or matcher is
            trained in several processes.
        DataError: If the file, its columns or its labels cannot be used.
    """
    workers = init_process_group()
    data, test = workers.run_on_all(lambda: _open(config, workers))
    task = _task(config, data, warn)
    columns = _columns(config, task)
    workers.run_on_all(lambda: _check_replaced(config, columns))
    if task in PAIR_TASKS:
        result = _fit_pairs(config, task, data)
    else:
        result = _fit_labels(config, task, data, workers)

    def save() -> None:
        if workers.is_main_process:
            columns.save(result.model, config.output)

    workers.run_on_all(save)
    return replace(result, test=test)


def score_held_out(result: TrainResult, seed: int = 0) -> Evaluation | None:
    """Score the trained model on the held-out samples; None without any.

    Scores of a classifier or regressor have 95% bootstrap intervals.

    Args:
        result: Result of :func:`train_file`.
        seed: Seed of the resamples, and of the negatives of a matcher.

    Raises:
        DataError: If the samples have no labels, or a class that the model lacks.
    """
    if result.test is None:
        return None
    intervals = result.task in ("classification", "regression")
    return evaluate(result.model, result.test, (0.0,), intervals=intervals, seed=seed)


def _open(
    config: TrainConfig, workers: ProcessGroup
) -> tuple[DataOrStream, DataOrStream | None]:
    """Return training samples, and held-out samples or None."""
    check_folder(config.output, inputs=[config.file])
    if config.task in PAIR_TASKS and workers.size > 1:
        raise ConfigError(
            f"task {config.task} must be trained in one process, got {workers.size}. "
            "Start it without torchrun."
        )
    data = _read(config, config.file)
    return (data, None) if config.test is None else _hold_out(config, config.test, data)


def _hold_out(
    config: TrainConfig, test: Path | float, data: DataOrStream
) -> tuple[DataOrStream, DataOrStream]:
    """Return the samples to train on, and those to score the model on."""
    if isinstance(test, Path):
        if test.exists() and test.samefile(config.file):
            raise ConfigError(
                "test must be samples that are not trained on, got the training file "
                f"'{test}'. Give another file, or a share such as 0.2.",
                parameter="test",
            )
        held_out = _read(config, test)
    elif isinstance(data, MultimodalData):
        data, held_out = data.split(test, seed=config.seed)
    else:
        raise ConfigError(
            "test must be a file or a folder for a folder of Parquet files, got "
            f"{test:g}. Move some of the files to another folder.",
            parameter="test",
        )
    y = next(iter(parts_of(held_out))).y
    one_label = config.task != "survival" and config.time is None
    several = y is not None and np.ndim(y) > 1 and one_label
    if config.task not in PAIR_TASKS and (y is None or several):
        raise DataError(
            f"test must have one label per sample, got {config.label!r} with "
            f"{'none' if y is None else np.shape(y)[1]}. Score several labels in "
            "Python with FusionClassifier.score."
        )
    return data, held_out


def _columns(config: TrainConfig, task: Task) -> Columns:
    """Return the columns that files for the trained model have.

    Windows of recordings are read from files that `MultimodalData.to_parquet` wrote.
    """
    if config.labels is not None:
        return Columns(task, str(METADATA_NAMES["y"]), {}, None, None)
    names = config.label, config.modalities, config.group, config.id
    return Columns(task, *names, config.time)


def _read(config: TrainConfig, file: Path) -> DataOrStream:
    schema = None if config.graph is None else parse_schema_file(config.graph)
    if config.labels is not None and not file.is_file():
        return read_recordings(
            file,
            config.labels,
            label=config.label,
            modalities=config.modalities,
            rates=config.rates,
            window=config.window,
            step=config.step,
            group=config.group,
            id=config.id,
            schema=schema,
        )
    if config.labels is not None:
        raise ConfigError(
            f"labels must come with a folder of recordings, got '{file}'. Leave labels "
            "out.",
            parameter="labels",
        )
    return read_samples(
        file,
        modalities=config.modalities,
        label=config.target,
        group=config.group,
        id=config.id,
        memory=config.memory,
        schema=schema,
    )


def _task(config: TrainConfig, data: DataOrStream, warn: Warn) -> Task:
    """Return the configured task, or the task that the labels suggest."""
    if config.task != "auto":
        return config.task
    if config.time is not None:
        return "survival"
    parts = (np.asarray(part.y) for part in parts_of(data) if part.y is not None)
    whole: set[float] = set()
    for y in parts:
        if missing_labels(y).all():
            continue
        if y.dtype.kind not in "fiu":
            return "classification"
        known = y[np.isfinite(y)]
        if (known != np.round(known)).any():
            return "regression"
        whole.update(np.unique(known).tolist())
        if len(whole) > MAX_WHOLE_CLASSES:
            warn(
                f"Label '{config.label}' has more than {MAX_WHOLE_CLASSES} different "
                "whole numbers and is predicted as a number. Give --task "
                "classification if they are classes."
            )
            return "regression"
    return "classification"


def _check_replaced(config: TrainConfig, columns: Columns) -> None:
    """Refuse to replace a model of another task or of other columns.

    Raises:
        ConfigError: If the output folder contains one, and not ``overwrite``.
    """
    if config.overwrite or not (config.output / MANIFEST).exists():
        return
    try:
        old = Columns.load(config.output)
    except MMGraphError:
        what = "content that is not a model of mmgraph train"
    else:
        named = Columns.stored(config.output) is not None
        fields = ("task", "label", "time", "modalities") if named else ("task",)
        other = [f for f in fields if getattr(old, f) != getattr(columns, f)]
        if not other:
            return
        what = f"a model of {old.task} with another {' and '.join(other)}"
    raise ConfigError(
        f"Output must be a new folder or hold a model of this task and these columns, "
        f"got '{config.output}', which holds {what}. Choose another folder, or replace "
        "it by --overwrite."
    )


def _fit_labels(
    config: TrainConfig, task: Task, data: DataOrStream, workers: ProcessGroup
) -> TrainResult:
    """Fit in all processes of torchrun; checkpoints are kept in the output folder."""
    from mmgraph.estimators import FusionClassifier, FusionRegressor, FusionSurvival

    others = {"regression": FusionRegressor, "survival": FusionSurvival}
    kind = others.get(task, FusionClassifier)
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
        "level": None if config.level == "all" else config.level,
        "epochs": config.epochs,
        "device": config.device,
        "encoders": config.encoders or None,
        "aligned": config.aligned,
    }
    return {name: value for name, value in given.items() if value is not None}
