"""Saved models and the mapping of columns to their modalities.

`mmgraph train` writes a folder: the files of `save_pretrained`, whose manifest also has
the columns of labels, modalities, groups and ids. Without them, samples are read with
the column names that mmgraph writes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from mmgraph import checkpoint
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categorical import resolve_column
from mmgraph.data.io.parquet import column_names, parquet_files
from mmgraph.data.stream.stream import DataOrStream, parts_of
from mmgraph.data.validation import check_names
from mmgraph.errors import CheckpointError, DataError
from mmgraph.evaluation.evaluate import unobserved_message
from mmgraph.files import parse_document, read_bytes
from mmgraph.workflows.inputs import check_model
from mmgraph.workflows.samples import Target

COLUMNS = "columns"  # entry of the manifest
COLUMNS_FILE = "columns.json"  # of models of older formats
FORMAT_OF_COLUMNS = 3
Task = Literal["classification", "regression", "survival", "retrieval", "matching"]
Warn = Callable[[str], None]
TASKS: dict[str, Task] = {
    "FusionClassifier": "classification",
    "FusionRegressor": "regression",
    "FusionSurvival": "survival",
    "FusionRetriever": "retrieval",
    "FusionMatcher": "matching",
}


@dataclass(frozen=True)
class Columns:
    """Columns of a file by role.

    Attributes:
        task: Task of the model.
        label: Column of labels, or None.
        modalities: Columns of each modality; empty for files written by mmgraph.
        group: Column of groups, or None.
        id: Column of ids, or None.
        time: Column of times to an event of a survival model, whose label is the event;
            None if the label holds both.
    """

    task: Task
    label: str | None
    modalities: Mapping[str, tuple[str, ...]]
    group: str | None
    id: str | None
    time: str | None = None

    @property
    def target(self) -> "Target":
        """Column of labels, or of events and times; None without any."""
        pair = self.label is not None and self.time is not None
        return (self.label, self.time) if pair else self.label  # type: ignore[return-value]

    def save(self, model: Any, folder: Path) -> None:  # noqa: ANN401
        """Save a fitted estimator with these columns.

        Args:
            model: Fitted estimator.
            folder: Folder; a model in it is replaced.

        Raises:
            CheckpointError: If the folder cannot be written.
        """
        from mmgraph.estimators.persistence import save_with_columns

        save_with_columns(model, folder, vars(self))
        with suppress(OSError):  # of a model of format 2, which was replaced
            (folder / COLUMNS_FILE).unlink()

    def in_file(self, file: Path) -> "Columns":
        """Return these columns without the label, groups and ids that a file lacks."""
        existing = common_columns(file)
        roles = {"label": self.label, "group": self.group, "id": self.id}
        roles |= {"time": self.time}
        missing = [role for role, name in roles.items() if name not in existing]
        return replace(self, **dict.fromkeys(missing))  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> "Columns":
        """Return the columns of a saved model; default to the names mmgraph writes.

        Raises:
            CheckpointError: If the columns are damaged, or there is no model.
        """
        from mmgraph.workflows.load import kind_of

        manifest = checkpoint.read_manifest(folder)
        task = TASKS[kind_of(folder, manifest)]
        return cls._read(folder, manifest) or cls(task, "y", {}, None, None)

    @classmethod
    def stored(cls, folder: Path) -> "Columns | None":
        """Return the columns of a saved model; None if it has none.

        Raises:
            CheckpointError: If the columns are damaged, or there is no model.
        """
        return cls._read(folder, checkpoint.read_manifest(folder))

    @classmethod
    def _read(cls, folder: Path, manifest: Mapping[str, Any]) -> "Columns | None":
        path, values = folder / checkpoint.MANIFEST, manifest.get(COLUMNS)
        old = folder / COLUMNS_FILE
        if manifest["format"] < FORMAT_OF_COLUMNS and old.exists():
            content = read_bytes(old, "document_bytes", CheckpointError)
            path, values = old, parse_document(content, str(old), CheckpointError)
        elif values is None:
            return None
        if not _are_columns(values):
            raise CheckpointError(
                f"{path} must have the columns as written by mmgraph train, got other "
                "content. Train the model again."
            )
        modalities = {m: tuple(names) for m, names in values["modalities"].items()}
        return cls(**{**values, "modalities": modalities})


def _are_columns(values: object) -> bool:
    """Return True if the content of a document is that of :class:`Columns`."""
    names = {field.name for field in fields(Columns)}
    if not isinstance(values, dict) or values.keys() | {"time"} != names:
        return False
    modalities = values["modalities"]
    return (
        values["task"] in [*TASKS.values()]
        and all(isinstance(values.get(n), str | None) for n in names - {"modalities"})
        and isinstance(modalities, dict)
        and all(
            isinstance(each, list) and all(isinstance(name, str) for name in each)
            for each in modalities.values()
        )
    )


def apply_training_schema(samples: DataOrStream, model: Any) -> DataOrStream:  # noqa: ANN401
    """Read the sequences and strings of a stream like those of the training.

    Args:
        samples: Samples; data in memory are converted by the model at prediction.
        model: Fitted estimator.
    """
    if not isinstance(samples, MultimodalStream):
        return samples
    stream: MultimodalStream = model.input_spec_.read_stream(samples)
    return stream


def load_model(
    folder: Path,
    *tasks: Task,
    encoders: Mapping[str, str] | None = None,
    device: str | None = None,
) -> tuple[Any, Columns]:
    """Load an estimator and the columns it was trained on.

    Args:
        folder: Folder of the saved model.
        tasks: Allowed tasks.
        encoders: Paths of pretrained encoders that have moved, by modality.
        device: Device of the model; None is a GPU if there is one.

    Raises:
        CheckpointError: If the folder contains no model of these tasks, or a
            pretrained encoder is not at its path.
        ConfigError: If an encoder is given for a modality without one, or the device
            is not available.
    """
    check_model(folder)
    columns = Columns.load(folder)
    if columns.task not in tasks:
        raise CheckpointError(
            f"{folder} must contain a model of {', '.join(tasks)}, got {columns.task}. "
            "Use a retriever with mmgraph embed, index, search and evaluate."
        )
    return load_any(folder, encoders=encoders, device=device), columns


def load_any(
    folder: Path,
    *,
    encoders: Mapping[str, str] | None = None,
    device: str | None = None,
) -> Any:  # noqa: ANN401
    """Load an estimator of any task.

    Raises:
        CheckpointError: If the folder contains no model, or a pretrained encoder is not
            at its path.
        ConfigError: If an encoder is given for a modality without one.
    """
    from mmgraph.workflows.load import load_estimator

    check_model(folder)
    return load_estimator(folder, device=device, encoders=encoders)


def check_given(
    given: Mapping[str, Sequence[str]] | None,
    model: Any,  # noqa: ANN401
) -> None:
    """Check that columns are given only for modalities of a fitted estimator.

    Raises:
        DataError: If a modality is not in its schema.
    """
    check_names("--modality", given or (), model.schema_.modality_names)


def no_op(line: str) -> None:
    """Ignore a warning."""


def warn_missing_columns(
    file: Path,
    samples: DataOrStream,
    model: Any,  # noqa: ANN401
    warn: Warn,
) -> None:
    """Warn about modalities of a model that a file has no column of.

    Args:
        file: File or folder of the samples.
        samples: All samples.
        model: Fitted estimator.
        warn: Function that receives one line per modality.
    """
    for name in model.input_spec_.absent(samples.schema.modality_names):
        warn(
            f"No column found for modality '{name}'; it is treated as missing. Map "
            f"columns with --modality {name}=COLUMN,..."
            if parquet_files(file) or file.is_file()
            else f"{file} has no files of modality '{name}'; it is treated as missing."
        )


def warn_missing(
    file: Path,
    samples: DataOrStream,
    model: Any,  # noqa: ANN401
    warn: Warn,
) -> Iterator[MultimodalData]:
    """Yield samples part by part, then warn about modalities without any value.

    Args:
        file: File or folder of the samples.
        samples: All samples.
        model: Fitted estimator.
        warn: Function that receives one line per modality.
    """
    observed: set[str] = set()
    num_samples = 0
    for data in parts_of(samples):
        observed.update(name for name, c in data.columns.items() if c.present.any())
        num_samples += len(data)
        yield data
    warn_missing_columns(file, samples, model, warn)
    if not num_samples:
        return
    for name in model.input_spec_.absent(observed):
        if name in samples.schema.modality_names:
            warn(unobserved_message(name))


def common_columns(file: Path) -> set[str]:
    """Return the names of the columns that a file, or all files of a folder have."""
    files = [path for path in parquet_files(file) or [file] if path.is_file()]
    names = [set(column_names(path)) for path in files]
    return set.intersection(*names) if names else set()


def resolve_columns(
    columns: Columns, file: Path, given: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Sequence[str]]:
    """Return the columns of each modality to read from a file.

    They are a list where the file has only some of the columns.

    Args:
        columns: Columns of the training. A column that no file has is missing, as is a
            modality without a column.
        file: Parquet or CSV file, or a folder.
        given: Columns that replace those of the training, by modality.

    Raises:
        DataError: If the file has no column of any modality.
    """
    replaced: dict[str, Sequence[str]] = dict(given or {})
    files = [path for path in parquet_files(file) or [file] if path.is_file()]
    if not columns.modalities or not files:
        return {**columns.modalities, **replaced}
    existing = {name for path in files for name in column_names(path)}
    resolved: dict[str, Sequence[str]] = {}
    for modality, sources in columns.modalities.items():
        known = [f for f in sources if resolve_column(f, existing) in existing]
        if known:
            resolved[modality] = sources if len(known) == len(sources) else known
    resolved |= replaced
    if not resolved:
        raise DataError(
            f"{file} must have columns of at least one of the modalities "
            f"{', '.join(columns.modalities)}, got none. Map columns with --modality."
        )
    return resolved
