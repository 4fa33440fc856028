"""Samples read from files and folders, with columns mapped by options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgraph.config import as_sources, is_file
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categorical import resolve_column
from mmgraph.data.io.folder import read_text
from mmgraph.data.io.parquet import column_names, csv_remedy, parquet_files
from mmgraph.data.stream.stream import DataOrStream
from mmgraph.errors import Argument, DataError, did_you_mean
from mmgraph.schema import Schema
from mmgraph.workflows.inputs import check_samples

# Parameters that options are named after.
PARAMETERS = {
    **{"--label": "y", "--group": "groups", "--id": "ids"},
    "--modality": "modalities",
}


def read_samples(
    file: Path,
    *,
    modalities: Mapping[str, Sequence[str]],
    label: str | None,
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
        label: Column of labels; None reads no labels.
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


def check_columns(
    file: Path,
    *,
    label: str | None = None,
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
    by_option = {"--label": label, "--group": group, "--id": id}
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
