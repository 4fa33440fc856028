"""Folders of pictures, texts and sounds: files of one stem are one sample.

``birds/robin.png``, ``birds/robin.txt`` and ``birds/robin.wav`` are the sample
``birds/robin``; what is not there is missing. How a file becomes a row is a function of
its own; a pretrained encoder takes paths instead.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph.data.column import Column
from mmgraph.data.features.audio import describe_sound
from mmgraph.data.features.image import describe_picture
from mmgraph.data.io.arrays import build_column
from mmgraph.data.io.parquet import csv_remedy
from mmgraph.errors import DataError
from mmgraph.schema import Kind, Modality, Schema

Reader = Callable[[Path], Any]


def read_text(path: Path) -> str:
    """Return the text of a file, without blank ends.

    Raises:
        DataError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, got {error.reason} at byte {error.start}."
        ) from None


READERS: Mapping[str, Reader] = {
    "image": describe_picture,
    "text": read_text,
    "sound": describe_sound,
}
# for encoders, which read files themselves
RAW_READERS: Mapping[str, Reader] = {"image": str, "text": read_text, "sound": str}
KINDS: Mapping[str, Kind] = {"image": "image", "text": "text", "sound": "audio"}
SUFFIXES = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"), "image"),
    ".txt": "text",
    **dict.fromkeys((".wav", ".ogg", ".flac", ".mp3"), "sound"),
}


def find_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Find the files of each sample, by the path of the sample and the modality.

    Hidden files and files of other kinds are not looked at.

    Raises:
        DataError: If there is no folder, none of its files can be read, or two files
            are the same modality of one sample.
    """
    if not folder.is_dir():
        raise DataError(f"Folder must exist, got '{folder}'.")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        modality = SUFFIXES.get(path.suffix.lower())
        hidden = any(part.startswith(".") for part in name.parts)
        if modality is None or hidden or not path.is_file():
            continue
        sample = found.setdefault(name.with_suffix("").as_posix(), {})
        if modality in sample:
            raise DataError(
                f"{folder} must hold one {modality} for each name, got {path.name} "
                f"beside {sample[modality].name}. Rename one of them."
            )
        sample[modality] = path
    if not found:
        raise DataError(
            f"{folder} must hold files that end in .parquet, or in "
            f"{', '.join(SUFFIXES)}, got none.",
            csv_remedy(folder),
        )
    return found


def read_columns(
    samples: Sequence[Mapping[str, Path]], readers: Mapping[str, Reader] = READERS
) -> dict[str, Column]:
    """Read files into columns.

    Args:
        samples: The file of each modality that a sample has.
        readers: What makes a row of a file, by modality.

    Returns:
        Columns of the modalities of which there is a file, missing where a sample has
        none.

    Raises:
        ConfigError: If the library that a kind of file needs is not installed.
        DataError: If a file is not what its ending says.
    """
    everybody = np.ones(len(samples), dtype=bool)
    columns = {}
    for name, reader in readers.items():
        rows = [reader(one[name]) if name in one else None for one in samples]
        if any(row is not None for row in rows):
            columns[name] = build_column(name, rows, present=everybody)
    return columns


def raw_schema(modalities: Sequence[str]) -> Schema:
    """Return the star of modalities that hold texts and paths of files."""
    return Schema.star([Modality(name, kind=KINDS[name]) for name in modalities])
