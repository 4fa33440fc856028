"""Samples read from files and folders, with columns mapped by options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mmgraph.config import as_sources, is_file
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categorical import resolve_column
from mmgraph.data.io.folder import read_text
from mmgraph.data.io.parquet import column_names, csv_remedy, parquet_files
from mmgraph.data.stream.stream import DataOrStream
from mmgraph.errors import Argument, ConfigError, DataError, did_you_mean
from mmgraph.schema import Schema
from mmgraph.workflows.inputs import check_samples

Target: TypeAlias = str | tuple[str, str] | None
"""Column of labels, columns of events and times, or None."""

# Parameters that options are named after.
PARAMETERS = {
    **{"--label": "y", "--group": "groups", "--id": "ids", "--time": "time"},
    "--modality": "modalities",
}


def read_samples(
    file: Path,
    *,
    modalities: Mapping[str, Sequence[str]],
    label: Target,
    group: str | None = None,
    id: str | None = None,
    memory: int = 1024,
    schema: Schema | None = None,
) -> DataOrStream:
    """Read a file or a folder of files; a folder of Parquet files is a stream.

    Args:
        file: File with one row per sample; a folder of such files; or a folder of
            images, texts and audio, see `MultimodalData.from_folder`.
        modalities: Columns of each modality; empty for files written by mmgraph.
        label: Column of labels, or those of events and times; None reads no labels.
        group: Column of groups, or None.
        id: Column of ids; None uses "id" if its values are unique.
        memory: Memory limit of a stream in megabytes.
        schema: Schema of the samples, or None.

    Raises:
        DataError: If the file or one of the columns does not exist, cannot be read, or
            does not fit the schema.
    """
    if is_folder_of_files(file):
        columns = {"--label": label, "--modality": modalities}
        refuse_columns(file, columns | {"--group": group, "--id": id})
        files = MultimodalData.from_folder(file, raw=True)  # estimators read the files
        return files if schema is None else files.with_schema(schema)
    check_samples(file)
    metadata = {"ids": id, "groups": group}
    if file.is_dir() and isinstance(label, tuple):
        raise DataError(
            f"{file} must be one file for a column of times, got a folder. Join its "
            "files, or write one column of events and times with to_parquet."
        )
    fields: dict[str, Any] = {
        **{"modalities": as_sources(modalities), "y": label},
        **{field: name for field, name in metadata.items() if name is not None},
    }
    check_columns(file, label=label, group=group, id=id, modalities=modalities)
    if file.is_dir():
        fields |= {"memory": memory << 20, "schema": schema}
        stream = MultimodalStream.from_parquet(file, **fields)
        next(stream.chunks(1))
        return stream
    data = MultimodalData.from_parquet(file, **fields)
    return data if schema is None else data.with_schema(schema)


def read_recordings(
    folder: Path,
    labels: Path,
    *,
    label: str | None,
    modalities: Mapping[str, Sequence[str]],
    rates: Mapping[str, float],
    window: float | None,
    step: float | None,
    group: str | None = None,
    id: str | None = None,
    schema: Schema | None = None,
) -> MultimodalData:
    """Read a folder of recordings, whole or cut into windows.

    Args:
        folder: Folder of recordings, see `MultimodalData.from_recordings`.
        labels: Table of labels.
        label: Column of labels.
        modalities: Channels of each modality; empty for one modality per sensor.
        rates: Hz of modalities without times.
        window: Duration of a window in seconds; None keeps recordings whole.
        step: Seconds between starts of windows; None is the duration.
        group: Column of groups in the table; None uses "group" if it exists.
        id: Column of recordings in the table, or None.
        schema: Schema of the samples, or None.

    Raises:
        ConfigError: If labels over time come without a window.
        DataError: If the folder or the table cannot be read.
    """
    given: dict[str, Any] = {} if group is None else {"groups": group}
    data = MultimodalData.from_recordings(
        folder,
        labels,
        modalities=modalities or None,
        rates=rates or None,
        y=label,
        ids=id,
        **given,
    )
    over_time = label if label in data.modalities else None
    if window is not None:
        data = data.windows(window, step=step, label=over_time)
    elif over_time:
        raise ConfigError(
            f"window is required for labels over time, got none for '{label}'. Give "
            "the duration of a window in seconds.",
            parameter="window",
        )
    return data if schema is None else data.with_schema(schema)


def check_columns(
    file: Path,
    *,
    label: Target = None,
    group: str | None = None,
    id: str | None = None,
    modalities: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Check that the columns given by options exist.

    In a folder, columns of labels, groups and ids must exist in all files, and columns
    of modalities in one of them.

    Raises:
        DataError: If a column does not exist, or a file cannot be read.
    """
    event, time = label if isinstance(label, tuple) else (label, None)
    by_option = {"--label": event, "--time": time, "--group": group, "--id": id}
    fields = [name for names in (modalities or {}).values() for name in names]
    existing: dict[str, None] = {}
    for path in parquet_files(file) if file.is_dir() else [file]:
        columns = column_names(path)
        existing |= dict.fromkeys(columns)
        for option, name in by_option.items():
            if name is not None:
                _check_column(path, option, name, columns)
    for name in fields:
        _check_column(file, "--modality", name, [*existing])


def _check_column(path: Path, option: str, name: str, existing: Sequence[str]) -> None:
    if resolve_column(name, existing) not in existing:
        listed = ", ".join(existing[:20])
        role, hint = option.removeprefix("--"), did_you_mean(name, existing)
        raise DataError(
            f"{path} must hold the {role} column '{name}', got {listed}."
            f"{' ' if hint else ''}{hint}",
            ("Name one of these by ", Argument(PARAMETERS[option]), "."),
        )


def refuse_columns(folder: Path, columns: Mapping[str, object]) -> None:
    """Refuse columns for a folder of images, texts and audio, which has none.

    Raises:
        DataError: If an option names a column.
    """
    given = [option for option, value in columns.items() if value]
    if given:
        raise DataError(
            f"{folder} must hold Parquet files to have columns, got {given[0]} for a "
            "folder without one.",
            csv_remedy(folder) or f"Leave {given[0]} out.",
        )


def is_folder_of_files(path: Path) -> bool:
    """Return whether a path is a folder of images, texts and audio files."""
    return path.is_dir() and not parquet_files(path)


def read_schema(source: str, modalities: Mapping[str, Sequence[str]]) -> Schema:
    """Return the schema of a data set by name, of samples, or in a JSON file.

    Args:
        source: Name of a data set; else a Parquet or CSV file, a folder of Parquet
            files or of images, texts and audio, or a path that ends in .json.
        modalities: Columns of each modality, for files that mmgraph did not write.

    Raises:
        DataError: If the source is not a known data set, file or folder.
        SchemaError: If the JSON file does not contain a valid schema.
    """
    from mmgraph.datasets.load import dataset_names, load_dataset

    path = Path(source)
    if path.suffix.lower() == ".json":
        return parse_schema_file(path)
    is_path = is_file(source) or path.exists()
    if is_path and source not in dataset_names():
        return read_samples(path, modalities=modalities, label=None).schema
    return load_dataset(source).schema


def parse_schema_file(path: Path) -> Schema:
    """Return the schema in a JSON file.

    Raises:
        DataError: If the file does not exist or is not UTF-8.
        SchemaError: If the file does not contain a valid schema.
    """
    if not path.is_file():
        raise DataError(f"Schema file must exist, got '{path}'.")
    return Schema.from_json(read_text(path))
