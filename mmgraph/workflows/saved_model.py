"""Models that were trained on files and folders of one's own.

A trained model is a folder: what `save_pretrained` writes, and `columns.json`, which
remembers which columns of the file are which modality. Without the latter, samples are
read as mmgraph writes them.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categorical import resolve_column
from mmgraph.data.io.parquet import column_names, parquet_files
from mmgraph.data.stream.stream import DataOrStream, parts_of
from mmgraph.data.validation import check_names
from mmgraph.errors import CheckpointError, DataError

COLUMNS_FILE = "columns.json"
Task = Literal["classification", "regression", "retrieval", "matching"]
Warn = Callable[[str], None]
TASKS: dict[str, Task] = {
    "FusionClassifier": "classification",
    "FusionRegressor": "regression",
    "FusionRetriever": "retrieval",
    "FusionMatcher": "matching",
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are what.

    Attributes:
        task: What the model was trained for.
        label: Column of labels, or None.
        modalities: Columns of each modality; empty where the file says it itself.
        group: Column of groups, or None.
        id: Column of ids, or None.
    """

    task: Task
    label: str | None
    modalities: Mapping[str, tuple[str, ...]]
    group: str | None
    id: str | None

    def save(self, folder: Path) -> None:
        """Write `columns.json` into a folder."""
        text = json.dumps(vars(self), indent=1)
        (folder / COLUMNS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Columns":
        """Read `columns.json` from a folder, or say how mmgraph itself names columns.

        Raises:
            CheckpointError: If it is damaged, or missing where there is no model.
        """
        from mmgraph.estimators.load import read_kind

        path = folder / COLUMNS_FILE
        if not path.is_file():
            return cls(TASKS[read_kind(folder)], "y", {}, None, None)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            modalities = {m: tuple(names) for m, names in values["modalities"].items()}
            return cls(**{**values, "modalities": modalities})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{path} must be JSON as mmgraph train writes it, got something "
                "else; train again."
            ) from None


def apply_training_schema(samples: DataOrStream, model: Any) -> DataOrStream:  # noqa: ANN401
    """Read sequences of a stream as the model was trained on such.

    Args:
        samples: Samples; those in memory conform to the model at prediction.
        model: A fitted estimator.
    """
    if not isinstance(samples, MultimodalStream):
        return samples
    stream: MultimodalStream = model.input_spec_.read_stream(samples)
    return stream


def load_model(
    folder: Path, *tasks: Task, encoders: Mapping[str, str] | None = None
) -> tuple[Any, Columns]:
    """Load an estimator from its folder, and what columns it was trained on.

    Args:
        folder: Where it was saved.
        tasks: What it may have been trained for.
        encoders: Where pretrained encoders are now, by modality, if they have moved.

    Raises:
        CheckpointError: If the folder is not one of such a model, or a pretrained
            encoder is not where it was.
        ConfigError: If an encoder is of a modality that had none.
    """
    check_model(folder)
    columns = Columns.load(folder)
    if columns.task not in tasks:
        raise CheckpointError(
            f"{folder} must hold a model of {', '.join(tasks)}, got one of "
            f"{columns.task}. A retriever is asked by mmgraph embed, index, search and "
            "evaluate."
        )
    return load_any(folder, encoders=encoders), columns


def load_any(
    folder: Path,
    *,
    encoders: Mapping[str, str] | None = None,
    device: str | None = None,
) -> Any:  # noqa: ANN401
    """Load an estimator from its folder, whatever it was trained for.

    Raises:
        CheckpointError: If the folder is not one of a model, or a pretrained encoder
            is not where it was.
        ConfigError: If an encoder is of a modality that had none.
    """
    from mmgraph.estimators.load import load_estimator

    check_model(folder)
    return load_estimator(folder, device=device, encoders=encoders)


def check_model(folder: Path) -> None:
    """Refuse a model folder that is not there.

    Raises:
        CheckpointError: If it is not.
    """
    if not folder.is_dir():
        raise CheckpointError(f"Model folder must exist, got '{folder}'.")


def check_given(
    given: Mapping[str, Sequence[str]] | None,
    model: Any,  # noqa: ANN401
) -> None:
    """Refuse columns of a modality that a fitted estimator does not know.

    Raises:
        DataError: If it is not one of its schema.
    """
    check_names("--modality", given or (), model.schema_.modality_names)


def no_op(line: str) -> None:
    """Warn nobody."""


def warn_missing_columns(
    file: Path,
    samples: DataOrStream,
    model: Any,  # noqa: ANN401
    warn: Warn,
) -> None:
    """Warn which modalities of a model a file has no column of.

    Args:
        file: Where the samples are from.
        samples: All of them.
        model: A fitted estimator.
        warn: Takes a line, if there is one to tell.
    """
    _tell_missing(file, samples, model, samples.schema.modality_names, warn)


def warn_missing(
    file: Path,
    samples: DataOrStream,
    model: Any,  # noqa: ANN401
    warn: Warn,
) -> Iterator[MultimodalData]:
    """Yield samples part after part, then tell what they all lack of a model.

    What a file has a column of may be missing in every sample too.

    Args:
        file: Where the samples are from.
        samples: All of them.
        model: A fitted estimator.
        warn: Takes a line, if there is one to tell.
    """
    seen: set[str] = set()
    num = 0
    for data in parts_of(samples):
        seen.update(name for name, c in data.columns.items() if c.present.any())
        num += len(data)
        yield data
    have = seen if num else samples.schema.modality_names
    _tell_missing(file, samples, model, have, warn)


def _tell_missing(
    file: Path,
    samples: DataOrStream,
    model: Any,  # noqa: ANN401
    have: Collection[str],
    warn: Warn,
) -> None:
    none = model.input_spec_.absent(have)
    if none:
        said = f"{file} has no {', '.join(none)}: missing in every sample."
        if not set(none) <= set(samples.schema.modality_names):
            said += " Columns of other names are given by --modality."
        warn(said)


def resolve_columns(
    columns: Columns, file: Path, given: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the columns of each modality to read of a file.

    Args:
        columns: Those of the training; what the file has no column of is missing.
        file: Parquet file, or a folder.
        given: Columns to read whatever those of the training are, by modality.

    Raises:
        DataError: If it has no column of any of them.
    """
    asked = {name: tuple(names) for name, names in (given or {}).items()}
    first = next(iter(parquet_files(file)), file)
    if not columns.modalities or not first.is_file():
        return {**columns.modalities, **asked}
    have = set(column_names(first))
    found = {
        modality: fields
        for modality, fields in columns.modalities.items()
        if have & {resolve_column(field, have) for field in fields}
    } | asked
    if not found:
        raise DataError(
            f"{file} must hold columns of at least one of the modalities "
            f"{', '.join(columns.modalities)}, got none."
        )
    return found
