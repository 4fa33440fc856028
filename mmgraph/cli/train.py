"""`mmgraph train`: fit an estimator on files of one's own and save it as a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mmgraph.cli.app import app
from mmgraph.cli.options import (
    IdOption,
    ModalityOption,
    RunFile,
    parse_encoders,
    parse_modalities,
    parse_names,
)
from mmgraph.config import PAIR_TASKS, TrainConfig, build_config
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.data.targets import missing_labels
from mmgraph.data.validation import check_names
from mmgraph.distributed import ProcessGroup, init_process_group
from mmgraph.errors import ConfigError
from mmgraph.train.progress_dir import remove_progress
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.samples import parse_schema_file, read_samples
from mmgraph.workflows.saved_model import Columns, Task

PROGRESS_FOLDER = "training"  # in the output folder, until the model is saved


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    Attributes:
        model: The fitted estimator.
        samples: What it saw.
        resumed: Step after which it went on, 0 where it began anew.
    """

    model: Any
    samples: DataOrStream
    resumed: int = 0


FileOrFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FILE_OR_FOLDER",
        help="File with one row per sample (.parquet, .csv), a folder of Parquet "
        "files, or "
        "(retrieval, matching) of pictures, texts and sounds: a.png, a.txt, a.wav "
        "are one sample.",
    ),
]
Output = Annotated[Path, typer.Option(help="Folder to save the model in.")]
Label = Annotated[
    str | None,
    typer.Option(help="Column to predict; retrieval and matching need none."),
]
Encoder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PATH",
        help="Pretrained model of a modality of text, or of paths of pictures or "
        "sounds: a folder of transformers; give it once for each.",
    ),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        help="Graph of a sample, as mmgraph schema --json prints it (default: a star "
        "of all modalities)."
    ),
]
Group = Annotated[
    str | None, typer.Option(help="Column whose values stay together in a split.")
]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="auto, classification, regression, retrieval or matching "
        "(default: auto, one of the first two)."
    ),
]
Left = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Modalities of one side of matching."),
]
Right = Annotated[
    str | None, typer.Option(metavar="NAME,NAME", help="Those of the other side.")
]
Aligned = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Modalities of retrieval or matching whose vectors one model, such as "
        "CLIP, put into one space.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the training (default: 0).")]
Epochs = Annotated[
    int | None, typer.Option(help="Most epochs (default: chosen by the estimator).")
]
Memory = Annotated[
    int | None,
    typer.Option(help="Megabytes to train on a folder within (default: 1024)."),
]
Fresh = Annotated[
    bool | None,
    typer.Option("--fresh", help="Forget the progress of an interrupted run."),
]


@app.command(
    epilog="Example: mmgraph train icu.parquet --label died --modality labs=wbc,crp "
    "--modality ecg=rate,qt --output icu_model. "
    "To search pictures by words: mmgraph train stamps --task retrieval "
    "--output stamp_model. "
    "In two processes: torchrun --standalone "
    "--nproc-per-node 2 -m mmgraph train icu.parquet --label died "
    "--output icu_model"
)
def train(
    file: FileOrFolder,
    output: Output,
    label: Label = None,
    modality: ModalityOption = None,
    encoder: Encoder = None,
    schema: SchemaFile = None,
    group: Group = None,
    id_: IdOption = None,
    task: TaskName = None,
    left: Left = None,
    right: Right = None,
    aligned: Aligned = None,
    seed: Seed = None,
    epochs: Epochs = None,
    memory: Memory = None,
    config: RunFile = None,
    fresh: Fresh = None,
) -> None:
    """Train on a file or folder and save the model.

    Classification and regression learn to predict a label. A folder of Parquet files
    may then be larger than the memory: it is streamed. An interrupted training goes on
    where it was when the same command is given again.

    Retrieval and matching learn which modalities belong to one sample: a retriever is
    for mmgraph index and search, a matcher says by mmgraph predict whether the left
    and the right side of each sample belong together.

    The graph of a sample is a star of its modalities, or what a schema says: mmgraph
    schema FILE --json prints the star to begin with.
    """
    values: dict[str, Any] = {
        **{"file": file, "label": label, "output": output, "group": group, "id": id_},
        **{"task": task, "seed": seed, "epochs": epochs, "fresh": fresh},
        **{"memory": memory, "left": parse_names(left), "right": parse_names(right)},
        **{"schema": schema, "aligned": parse_names(aligned)},
    }
    workers = init_process_group()
    settings = workers.run_on_all(lambda: _settings(values, modality, encoder, config))
    trained = train_file(settings)
    if workers.is_main_process:
        if trained.resumed:
            typer.echo(f"Went on after step {trained.resumed}.", err=True)
        typer.echo(repr(trained.samples))
        typer.echo(f"Model: {settings.output}")


def _settings(
    values: dict[str, Any],
    modality: list[str] | None,
    encoder: list[str] | None,
    run_file: Path | None,
) -> TrainConfig:
    """Check what was typed together with the run file."""
    given = {
        **values,
        "modalities": parse_modalities(modality),
        "encoders": parse_encoders(encoder),
    }
    return build_config(TrainConfig, given, run_file=run_file)


def train_file(config: TrainConfig) -> TrainResult:
    """Fit an estimator on a file or folder and save it with its columns.

    Raises:
        ConfigError: If the output is no folder that can be written, or a retriever or
            matcher is asked of several processes.
        DataError: If the file, its columns or its labels cannot be used.
    """
    workers = init_process_group()
    data = workers.run_on_all(lambda: _open(config, workers))
    task = _task(config, data)
    if task in PAIR_TASKS:
        trained = _fit_pairs(config, task, data)
    else:
        trained = _fit_labels(config, task, data, workers)
    columns = Columns(task, config.label, config.modalities, config.group, config.id)

    def save() -> None:
        if workers.is_main_process:
            trained.model.save_pretrained(config.output)
            columns.save(config.output)

    workers.run_on_all(save)
    return trained


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
    """Return what was asked for, or what the first labels that are known are."""
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
    """Fit under torchrun in all its processes; progress is kept in the output."""
    from mmgraph.estimators import FusionClassifier, FusionRegressor

    kind = FusionRegressor if task == "regression" else FusionClassifier
    progress = config.output / PROGRESS_FOLDER
    if config.fresh and workers.is_main_process:
        remove_progress(progress)
    options = {"seed": config.seed, **_options(config)}
    model = kind(checkpoint_dir=progress, **options).fit(data)
    return TrainResult(model, data, model.history_.resumed)


def _fit_pairs(config: TrainConfig, task: Task, data: DataOrStream) -> TrainResult:
    from mmgraph.estimators import FusionMatcher, FusionRetriever

    options = {"seed": config.seed, **_options(config)}
    samples = in_memory(data)
    for side, names in (("left", config.left), ("right", config.right)):
        check_names(side, names, samples.modalities)
    if task == "retrieval":
        return TrainResult(FusionRetriever(**options).fit(samples), samples)
    matcher = FusionMatcher(config.left, config.right, **options)
    return TrainResult(matcher.fit(samples), samples)


def _options(config: TrainConfig) -> dict[str, Any]:
    """Return what was given of what estimators choose themselves."""
    given = {
        "epochs": config.epochs,
        "encoders": config.encoders or None,
        "aligned": config.aligned,
    }
    return {name: value for name, value in given.items() if value is not None}
