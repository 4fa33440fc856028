"""Samples of files and folders of one's own, and models that were trained on them.

A trained model is a folder: what `save_pretrained` writes, and `columns.json`, which
remembers which columns of the file are which modality. Without the latter, samples are
read as mmgraph writes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.folder import read_text
from mmgraph.data.storage import column_names
from mmgraph.errors import CheckpointError, DataError
from mmgraph.schema import Schema

COLUMNS_FILE = "columns.json"
Task = Literal["classification", "regression", "retrieval", "matching"]
Samples = MultimodalData | MultimodalStream
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
        from mmgraph.estimators.loading import read_kind

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


def read_samples(
    file: Path,
    *,
    modalities: Mapping[str, Sequence[str]],
    label: str | None,
    group: str | None = None,
    id: str | None = None,
    memory: int = 1024,
    schema: Schema | None = None,
) -> Samples:
    """Read a Parquet file or a folder of files, or open a folder of them as a stream.

    Args:
        file: One row per sample; a folder of such files; or a folder of pictures,
            texts and sounds, see `MultimodalData.from_folder`.
        modalities: Columns of each modality; empty where mmgraph wrote the file.
        label: Column of labels; None reads none.
        group: Column of groups, or None.
        id: Column of ids; None takes "id" where it can be used as such.
        memory: Megabytes that a stream may take.
        schema: What the samples must fit, or None.

    Raises:
        DataError: If the file or one of the columns is not there or unreadable, or
            does not fit the schema.
    """
    if is_folder_of_files(file):
        columns = {"--label": label, "--modality": modalities}
        refuse_columns(file, columns | {"--group": group, "--id": id})
        found = MultimodalData.from_folder(file, raw=True)  # estimators read them
        return found if schema is None else found.with_schema(schema)
    if not file.exists():
        raise DataError(f"Parquet file must exist, got '{file}'.")
    chosen = {
        name: columns[0] if len(columns) == 1 else list(columns)
        for name, columns in modalities.items()
    }
    asked = {"ids": id, "groups": group}
    fields: dict[str, Any] = {
        **{"modalities": chosen or None, "y": label},
        **{field: name for field, name in asked.items() if name is not None},
    }
    check_columns(file, label=label, group=group, id=id, modalities=modalities)
    if file.is_dir():
        fields |= {"memory": memory << 20, "schema": schema}
        stream = MultimodalStream.from_parquet(file, **fields)
        next(stream.chunks(1))
        return stream
    data = MultimodalData.from_parquet(file, **fields)
    return data if schema is None else data.with_schema(schema)


def check_columns(
    file: Path,
    *,
    label: str | None = None,
    group: str | None = None,
    id: str | None = None,
    modalities: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Refuse columns that were asked for and are not in a file, or one of a folder.

    Raises:
        DataError: If one of them is missing, or a file is unreadable.
    """
    asked = {"--label": [label], "--group": [group], "--id": [id]}
    asked["--modality"] = [
        name for names in (modalities or {}).values() for name in names
    ]
    for path in sorted(file.rglob("*.parquet")) if file.is_dir() else [file]:
        have = column_names(path)
        for option, names in asked.items():
            missing = [name for name in names if name is not None and name not in have]
            if missing:
                noun = option.removeprefix("--")
                raise DataError(
                    f"{path} must hold the {noun} column '{missing[0]}', got "
                    f"{', '.join(have[:20])}.",
                    f"Name one of these by {option}.",
                )


def refuse_columns(folder: Path, columns: Mapping[str, object]) -> None:
    """Refuse columns of a folder of pictures, texts and sounds: it has none.

    Raises:
        DataError: Naming the first option that asks for one.
    """
    given = [option for option, value in columns.items() if value]
    if given:
        raise DataError(
            f"{folder} must hold Parquet files to have columns, got {given[0]} for a "
            "folder without one.",
            f"Leave {given[0]} out.",
        )


def is_folder_of_files(path: Path) -> bool:
    """Tell whether a path is a folder of pictures, texts and sounds."""
    return path.is_dir() and not any(path.rglob("*.parquet"))


def in_memory(samples: Samples) -> MultimodalData:
    """Return all samples, those of a stream one part after the other."""
    if isinstance(samples, MultimodalData):
        return samples
    return MultimodalData.concat(list(samples.chunks()))


def as_trained(samples: Samples, model: Any) -> Samples:  # noqa: ANN401
    """Read sequences of a stream as such, though the first ones look like vectors.

    Args:
        samples: A stream; data in memory conform to the model when it is asked.
        model: A fitted estimator that knows what they are.
    """
    if not isinstance(samples, MultimodalStream):
        return samples
    known = {m.name: m for m in model.schema_.modalities if m.tokens == "ragged"}
    for name in model.unseen_:
        known.pop(name, None)
    modalities = [known.get(m.name, m) for m in samples.schema.modalities]
    return samples.with_schema(Schema.star(modalities)) if known else samples


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
    from mmgraph.estimators.loading import load_estimator

    check_model(folder)
    return load_estimator(folder, device=device, encoders=encoders)


def check_model(folder: Path) -> None:
    """Refuse a model folder that is not there.

    Raises:
        CheckpointError: If it is not.
    """
    if not folder.is_dir():
        raise CheckpointError(f"Model folder must exist, got '{folder}'.")


def there(columns: Columns, file: Path) -> dict[str, tuple[str, ...]]:
    """Return the modalities of which the file has at least one column."""
    first = next(iter(sorted(file.rglob("*.parquet"))), file)
    if not columns.modalities or not first.is_file():
        return dict(columns.modalities)
    names = set(column_names(first))
    found = {m: c for m, c in columns.modalities.items() if names & set(c)}
    if not found:
        raise DataError(
            f"{file} must hold columns of at least one of the modalities "
            f"{', '.join(columns.modalities)}, got none."
        )
    return found


def read_schema(source: str, modalities: Mapping[str, Sequence[str]]) -> Schema:
    """Return the schema of a data set by name, a Parquet file or a JSON file.

    Args:
        source: Name of a data set, or path that ends in .parquet or .json.
        modalities: Columns of each modality, for a file that mmgraph did not write.

    Raises:
        DataError: If it is no known data set or file.
        SchemaError: If the JSON file holds no valid schema.
    """
    path = Path(source)
    if path.suffix == ".parquet":
        return read_samples(path, modalities=modalities, label=None).schema
    if path.suffix == ".json":
        return parse_schema_file(path)
    from mmgraph.datasets.load import load_dataset

    return load_dataset(source).schema


def parse_schema_file(path: Path) -> Schema:
    """Return the schema that a JSON file holds.

    Raises:
        DataError: If there is no such file, or it is not UTF-8.
        SchemaError: If it holds no valid schema.
    """
    if not path.is_file():
        raise DataError(f"Schema file must exist, got '{path}'.")
    return Schema.from_json(read_text(path))
