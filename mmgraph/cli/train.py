"""`mmgraph train`: fit an estimator on a file or folder and save it."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import (
    DeviceOption,
    IdOption,
    ModalityOption,
    RunFile,
    parse_encoders,
    parse_frequencies,
    parse_modalities,
    parse_names,
    parse_number,
)

if TYPE_CHECKING:
    from mmgraph.config import TrainConfig
    from mmgraph.workflows.train import TrainResult

FileOrFolder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE_OR_FOLDER",
        help="File with one row per sample (.parquet, .csv), a folder of Parquet "
        "files, a folder of recordings (with --labels), or (retrieval, matching) a "
        "folder of images, texts and audio files, in which a.png, a.txt and a.wav are "
        "one sample; required here or as file in --config.",
    ),
]
Output = Annotated[Path | None, typer.Option(help="Folder to write the model to.")]
Label = Annotated[
    str | None,
    typer.Option(
        help="Column to predict; optional for retrieval and matching.",
    ),
]
Encoder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PATH",
        help="Hugging Face model (path or name) used to encode a text, image or audio "
        "modality; repeat the option for each modality.",
    ),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        help="JSON file with the graph of a sample, as printed by mmgraph schema "
        "--json (default: a star of all modalities)."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column of groups, such as hospitals: samples of one group stay in the "
        "same fold of internal validation.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Table of labels of a folder of recordings (.csv, .parquet, .edf, .bdf, "
        ".hea): one row per recording, or per interval with columns start and stop.",
    ),
]
SamplingRate = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="NAME=HZ",
        help="Rate of a modality whose recordings have no column of times; repeat the "
        "option for each modality.",
    ),
]
Window = Annotated[
    float | None,
    typer.Option(help="Cut recordings into windows of this many seconds."),
]
Step = Annotated[
    float | None,
    typer.Option(
        help="Seconds from the start of a window to the start of the next (default: "
        "--window)."
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|FILE",
        help="Score the model on samples that it is not trained on: a share of the "
        "samples, such as 0.2 (groups stay together), or another file. Classifiers and "
        "regressors get 95% bootstrap intervals.",
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="auto, classification, regression, survival, retrieval or matching "
        "(default: auto, survival with --time, regression for fractional numbers or "
        "more than 20 whole numbers, else classification)."
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        help="Column of times to an event, or to censoring where --label is 0 "
        "(survival).",
    ),
]
Left = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Modalities of the left side (matching)."),
]
Right = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Modalities of the right side (matching)."),
]
Aligned = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Modalities in a shared embedding space, such as that of CLIP (retrieval "
        "and matching; default: detected).",
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Random seed of the training (default: 0).")
]
FusionLevel = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="Level of fusion: data (all features at once), feature (graph network), "
        "model (one model per modality, pooled) or all (default: all).",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Maximum number of epochs (default: that of the estimator, see its "
        "documentation)."
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(
        help="Memory limit in megabytes for streaming a folder (default: 1024)."
    ),
]
Fresh = Annotated[
    bool | None,
    typer.Option("--fresh", "--restart", help="Discard the checkpoint and start over."),
]
Overwrite = Annotated[
    bool | None,
    typer.Option(
        "--overwrite",
        help="Replace a model of another task or other columns in the output folder.",
    ),
]


@app.command(
    epilog="Example: mmgraph train heart.parquet --label y --output heart_model (after "
    "mmgraph datasets get heart --output heart.parquet). "
    "Columns of a table: mmgraph train icu.csv --label died "
    "--modality labs=wbc,crp --modality ecg=rate,qt --output icu_model. "
    "Image search by text: mmgraph train stamps --task retrieval --output stamp_model. "
    "Two processes: torchrun --standalone --nproc-per-node 2 -m mmgraph train "
    "heart.parquet --label y --output heart_model"
)
def train(
    file: FileOrFolder = None,
    output: Output = None,
    label: Label = None,
    modality: ModalityOption = None,
    encoder: Encoder = None,
    schema: SchemaFile = None,
    group: Group = None,
    id_: IdOption = None,
    labels: Labels = None,
    rate: SamplingRate = None,
    window: Window = None,
    step: Step = None,
    test: Test = None,
    task: TaskName = None,
    time: Time = None,
    left: Left = None,
    right: Right = None,
    aligned: Aligned = None,
    seed: Seed = None,
    level: FusionLevel = None,
    epochs: Epochs = None,
    device: DeviceOption = None,
    memory: Memory = None,
    config: RunFile = None,
    fresh: Fresh = None,
    overwrite: Overwrite = None,
) -> None:
    """Train a model on a file or folder and save it.

    Classification and regression predict a label, survival the time to an event:
    --label is 1 where the event was observed and 0 where --time is censored. Folders
    of Parquet files are streamed and may be larger than memory. An interrupted
    training is resumed when the same command is run again.

    Retrieval and matching learn which modalities belong to one sample. A retriever is
    used by mmgraph index and search; with a matcher, mmgraph predict scores whether
    left and right match.

    A folder of recordings has one file per recording, or per recording and sensor
    (p1/acc.csv, p1/hr.csv); --labels names the table of labels, and --window cuts them.
    The model predicts windows in files that MultimodalData.to_parquet wrote.

    The graph of a sample is a star of its modalities, or that of --schema; mmgraph
    schema FILE --json prints the star as a starting point.
    """
    from mmgraph.distributed import init_process_group
    from mmgraph.workflows.saved_model import no_op
    from mmgraph.workflows.train import train_file

    values: dict[str, Any] = {
        **{"file": file, "label": label, "output": output, "group": group, "id": id_},
        **{"task": task, "seed": seed, "epochs": epochs, "fresh": fresh},
        **{"memory": memory, "left": parse_names(left), "right": parse_names(right)},
        **{"schema": schema, "aligned": parse_names(aligned), "level": level},
        **{"time": time, "overwrite": overwrite, "test": parse_number(test)},
        **{"labels": labels, "window": window, "step": step, "device": device},
        "rates": parse_frequencies(rate),
    }
    workers = init_process_group()
    settings = workers.run_on_all(lambda: _settings(values, modality, encoder, config))
    with print_warnings() if workers.is_main_process else nullcontext(no_op) as warn:
        result = train_file(settings, warn)
        if workers.is_main_process:
            _show_result(result, settings)


def _show_result(result: "TrainResult", settings: "TrainConfig") -> None:
    from mmgraph.data import MultimodalData
    from mmgraph.workflows.train import score_held_out

    if result.resumed:
        typer.echo(f"Resumed after step {result.resumed}.", err=True)
    typer.echo(repr(result.samples))
    typer.echo(f"Task: {result.description}")
    if result.score is not None:
        typer.echo(f"Out-of-fold {result.score}")
    typer.echo(f"Model: {settings.output}")
    # the model is saved: an error in held-out samples does not lose it
    evaluation = score_held_out(result, settings.seed)
    if evaluation is not None:
        test = result.test
        number = f"{len(test)} " if isinstance(test, MultimodalData) else ""
        typer.echo()
        show(evaluation.table(f"Scores on {number}samples that were held out"))


def _settings(
    values: dict[str, Any],
    modality: list[str] | None,
    encoder: list[str] | None,
    run_file: Path | None,
) -> "TrainConfig":
    """Combine the options with the run file, and check them."""
    from mmgraph.config import TrainConfig, build_config

    given = {
        **values,
        "modalities": parse_modalities(modality),
        "encoders": parse_encoders(encoder),
    }
    return build_config(TrainConfig, given, run_file=run_file)
