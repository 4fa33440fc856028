"""Indexing of a gallery, and queries to the index.

The folder of an index contains the files of `Index.save`, a copy of the model, and
`entries.parquet` with the text and image file of each entry.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph import checkpoint
from mmgraph.data import MultimodalData
from mmgraph.data.io.folder import KINDS
from mmgraph.data.stream.stream import in_memory
from mmgraph.data.validation import check_names
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.estimators.input_spec import declare_texts
from mmgraph.files import parse_document, read_bytes, replacing, write_text
from mmgraph.retrieval import Index
from mmgraph.schema import Kind, Modality, Schema
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.predict import Embeds, PredictRequest
from mmgraph.workflows.samples import is_folder_of_files, refuse_columns
from mmgraph.workflows.saved_model import apply_training_schema, load_any
from mmgraph.workflows.search_page import Hit, SearchResult

MODEL, ENTRIES, GALLERY = "model", "entries.parquet", "gallery.json"


@dataclass(frozen=True)
class IndexResult:
    """A new index.

    Attributes:
        index: The index.
        num_samples: Samples of the gallery, including those without embedding, which
            are not in the index.
    """

    index: Index
    num_samples: int


def build_index(
    gallery: Path,
    model: Path,
    output: Path,
    *,
    only: Sequence[str] | None = None,
    kind: str = "exact",
    modalities: dict[str, tuple[str, ...]] | None = None,
    id: str | None = None,
    picture: str | None = None,
    encoders: Mapping[str, str] | None = None,
) -> IndexResult:
    """Embed a gallery and save its index, with a copy of the model.

    Args:
        gallery: Folder of images, texts and audio, Parquet file, or folder of Parquet
            files.
        model: Folder of a saved retriever.
        output: Folder to save in; an existing index is replaced.
        only: Modalities to embed; None is all modalities of the gallery.
        kind: Kind of index.
        modalities: Columns of each modality of a Parquet file; default: those of the
            training.
        id: Column of ids of a Parquet file.
        picture: Column of a Parquet file with paths of image files.
        encoders: Paths of pretrained encoders that have moved, by modality.

    Raises:
        CheckpointError: If the model is not a retriever.
        ConfigError: If the output contains anything but an index, is in the folder of
            the model, or is not a folder that can be written.
        DataError: If the gallery or one of its columns cannot be read.
    """
    _check_output(output, model)
    check_folder(output, inputs=[gallery])
    retriever = load_retriever(model, encoders)
    request = PredictRequest("embed", model, gallery, modalities, id)
    data = in_memory(apply_training_schema(request.open(), retriever))
    data = declare_texts(data, retriever.input_spec_.featurizer.kinds)
    check_names("only", only or (), data.modalities)
    pictures = _pictures(gallery, data, picture)
    z = retriever.embed(data, modalities=only)
    index = Index(
        data.ids, z, present=data.present, modalities=data.modalities, kind=kind
    )
    output.mkdir(parents=True, exist_ok=True)
    _copy_model(model, output / MODEL)
    if encoders:  # the copy contains the new paths
        retriever.save_pretrained(output / MODEL)
    _save_entries(data, pictures, output / ENTRIES)
    facts = {"files": is_folder_of_files(gallery), "text": _texts(data)}
    write_text(output / GALLERY, json.dumps(facts) + "\n")
    index.save(output)
    return IndexResult(index, len(data))


def _check_output(output: Path, model: Path) -> None:
    """Refuse an output folder in which the index would overwrite other files."""
    check_folder(output)
    own = "Output must be a separate folder for the index"
    manifest = output / checkpoint.MANIFEST
    if manifest.is_file() and "index" not in checkpoint.read_manifest(output):
        raise ConfigError(f"{own}, got '{output}', which contains a model.")
    source, copy = model.resolve(), (output / MODEL).resolve()
    if output.resolve().is_relative_to(source):
        raise ConfigError(
            f"{own}, got '{output}' in the folder of the model '{model}'."
        )
    foreign = copy.exists() and not manifest.is_file()
    if source != copy and (foreign or source.is_relative_to(copy)):
        raise ConfigError(
            f"{own}, got '{output}', which would overwrite '{output / MODEL}'. "
            "Choose another folder."
        )


def _copy_model(model: Path, copy: Path) -> None:
    """Replace the copy of the model in an index folder."""
    if model.resolve() == copy.resolve():
        return
    part, old = (copy.with_name(f".{copy.name}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(model, part)
        if copy.exists():
            shutil.rmtree(old, ignore_errors=True)
            copy.rename(old)
        part.rename(copy)
    finally:
        if old.exists() and not copy.exists():
            old.rename(copy)
        for each in (part, old):
            shutil.rmtree(each, ignore_errors=True)


def load_retriever(folder: Path, encoders: Mapping[str, str] | None = None) -> Embeds:
    """Load a retriever.

    Args:
        folder: Folder of the saved model.
        encoders: Paths of pretrained encoders that have moved, by modality.

    Raises:
        CheckpointError: If the folder contains no retriever, or a pretrained encoder is
            not at its path.
        ConfigError: If an encoder is given for a modality without one.
    """
    model = load_any(folder, encoders=encoders)
    if not isinstance(model, Embeds):
        raise CheckpointError(
            f"{folder} must contain a retriever, got a {type(model).__name__}. Train "
            "one with mmgraph train --task retrieval."
        )
    return model


def _texts(data: MultimodalData) -> list[str]:
    """Return the names of the text modalities."""
    return [m.name for m in data.schema.modalities if m.kind == "text"]


def _pictures(gallery: Path, data: MultimodalData, column: str | None) -> list[str]:
    """Return the absolute path of the image of each sample, "" without one."""
    if is_folder_of_files(gallery):
        from mmgraph.data.io.folder import find_files

        refuse_columns(gallery, {"--picture": column})

        files = find_files(gallery, warn=False)
        images = [files[name].get("image") for name in data.ids.tolist()]
        return ["" if path is None else str(path.resolve()) for path in images]
    if column is None:
        return [""] * len(data)
    from mmgraph.data.io.parquet import read_table

    table = read_table(gallery)
    if column not in table.column_names:
        raise DataError(
            f"{gallery} must have the image column '{column}', got "
            f"{', '.join(table.column_names[:20])}.",
            "Name one of these by --picture.",
        )
    root, paths = gallery.resolve().parent, table[column].to_pylist()
    if not all(isinstance(path, str | None) for path in paths):
        raise DataError(
            f"{gallery}: picture column '{column}' must hold paths, got "
            f"{table[column].type}.",
            "Name another one by --picture.",
        )
    return [str(root / path) if path else "" for path in paths]


def _save_entries(data: MultimodalData, pictures: list[str], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [""] * len(data)
    for name in _texts(data)[:1]:
        column = data.columns[name]
        rows = np.flatnonzero(column.present)
        for row, text in zip(rows, column.values, strict=True):
            texts[row] = str(text)
    columns = {"id": list(map(str, data.ids)), "text": texts, "picture": pictures}
    with replacing(path) as part:
        pq.write_table(pa.table(columns), part)


def find(
    folder: Path,
    query: Mapping[str, Any],
    *,
    top: int = 10,
    require: Sequence[str] = (),
    encoders: Mapping[str, str] | None = None,
) -> SearchResult:
    """Retrieve the entries of an index that are most similar to a query.

    Args:
        folder: Folder of `mmgraph index`.
        query: Text as ``text``, files as ``image`` and ``sound``; at least one.
        top: Number of entries to retrieve.
        require: Modalities that an entry must have.
        encoders: Paths of pretrained encoders that have moved, by modality.

    Raises:
        CheckpointError: If the folder contains no index with a model.
        ConfigError: If the query is empty, or ``top`` is below 1.
        DataError: If the gallery does not support this kind of query.
    """
    query = {name: value for name, value in query.items() if str(value).strip()}
    if not query:
        raise ConfigError(
            "search must be given a text, --image or --sound, got none of them."
        )
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}.")
    index = Index.load(folder)
    entries, facts = _load_entries(folder)
    data = _as_sample(query, facts)
    retriever = load_retriever(folder / MODEL, encoders)
    z = retriever.embed(data, modalities=data.modalities)
    hits = index.search(z, k=top, require=require)
    rows = hits.rows[0][hits.found[0]]
    return SearchResult(
        query={name: str(value) for name, value in query.items()},
        require=tuple(require),
        hits=tuple(
            Hit(
                id=str(index.ids[row]),
                score=float(score),
                modalities=index.modalities,
                present=tuple(map(bool, index.present[row])),
                **entries[str(index.ids[row])],
            )
            for row, score in zip(rows, hits.scores[0], strict=False)
        ),
        num_entries=len(index),
    )


def _load_entries(folder: Path) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    from mmgraph.data.io.parquet import read_table

    path = folder / GALLERY
    try:
        content = read_bytes(path, "document_bytes", CheckpointError)
        facts = parse_document(content, str(path), CheckpointError)
        table = read_table(folder / ENTRIES)
        rows = table.select(["id", "text", "picture"]).to_pylist()
        shown = {row.pop("id"): row for row in rows}
        texts = [str(name) for name in facts["text"]]
        return shown, {"files": bool(facts["files"]), "text": texts}
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(
            f"{folder} must contain an index written by mmgraph index, got: {reason}."
        ) from None


def _as_sample(query: Mapping[str, Any], facts: Mapping[str, Any]) -> MultimodalData:
    """Return the query as data of one sample."""
    arrays: dict[str, list[str]] = {}
    kinds: dict[str, Kind] = {}
    if "text" in query:
        names = facts["text"]
        if len(names) != 1:
            raise DataError(
                "A text query must go with a gallery of one text modality, got "
                f"{', '.join(names) or 'none'}."
            )
        arrays[names[0]], kinds[names[0]] = [query["text"]], "text"
    files = [name for name in query if name != "text"]
    if files and not facts["files"]:
        raise DataError(
            "A query by file must go with a gallery that is a folder of files, got "
            f"--{files[0]} for a gallery in a Parquet file."
        )
    for name in files:
        path = Path(query[name])
        if not path.is_file():
            raise DataError(f"File of --{name} must exist, got '{path}'.")
        arrays[name], kinds[name] = [str(path)], KINDS[name]
    schema = Schema.star([Modality(name, kind=kind) for name, kind in kinds.items()])
    return MultimodalData.from_arrays(arrays, ids=["query"], schema=schema)
