"""Folders of image, text and audio files: files of one stem are one sample.

``birds/robin.png``, ``birds/robin.txt`` and ``birds/robin.wav`` are the sample
``birds/robin``; a modality without a file is missing. A reader function converts a file
to a row; pretrained encoders read the paths themselves.
"""

import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgraph.data.column import Column
from mmgraph.data.features.audio import describe_audio
from mmgraph.data.features.image import describe_image
from mmgraph.data.features.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from mmgraph.data.io.arrays import build_column
from mmgraph.data.io.parquet import csv_remedy
from mmgraph.errors import DataError, DataWarning
from mmgraph.files import marked_encoding
from mmgraph.schema import Kind, Modality, Schema

Reader = Callable[[Path], Any]


def read_text(path: Path) -> str:
    """Return the text of a file without leading and trailing white space.

    Args:
        path: Text file.

    Raises:
        DataError: If the file is neither UTF-8 nor has another byte-order mark.
    """
    content = path.read_bytes()
    try:
        return content.decode(marked_encoding(content) or "utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, got {error.reason} at byte {error.start}. "
            "Convert the file."
        ) from None


READERS: Mapping[str, Reader] = {
    "image": describe_image,
    "text": read_text,
    "sound": describe_audio,
}
# encoders read the files themselves
RAW_READERS: Mapping[str, Reader] = {"image": str, "text": read_text, "sound": str}
KINDS: Mapping[str, Kind] = {"image": "image", "text": "text", "sound": "audio"}
SUFFIXES = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    ".txt": "text",
    **dict.fromkeys(AUDIO_SUFFIXES, "sound"),
}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
MAX_NAMED = 5  # files in a warning


def find_files(folder: Path, *, warn: bool = True) -> dict[str, dict[str, Path]]:
    """Return the files of each sample, by path without suffix and by modality.

    Names are compared in Unicode normal form C, suffixes case-insensitively. Hidden
    files are ignored.

    Args:
        folder: Folder, searched recursively.
        warn: Warn about files that are not read, other than hidden files.

    Raises:
        DataError: If there is no folder, it holds no file of a known suffix, or two
            files are the same modality of one sample.
    """
    if not folder.is_dir():
        raise DataError(f"Folder must exist, got '{folder}'. Check the path.")
    samples: dict[str, dict[str, Path]] = {}
    unread: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or any(map(is_hidden, name.parts)):
            continue
        modality = SUFFIXES.get(path.suffix.lower())
        if modality is None or not path.is_file():
            unread.append(name.as_posix())
            continue
        key = unicodedata.normalize("NFC", name.with_suffix("").as_posix())
        sample = samples.setdefault(key, {})
        if modality in sample:
            raise DataError(
                f"{folder} must hold one {modality} file per name, got {path.name} "
                f"and {sample[modality].name}. Rename one of them."
            )
        sample[modality] = path
    if not samples:
        raise DataError(
            f"{folder} must hold files that end in .parquet, or in "
            f"{', '.join(SUFFIXES)}, got none.",
            csv_remedy(folder),
        )
    if unread and warn:
        named = ", ".join(unread[:MAX_NAMED])
        more = f" and {len(unread) - MAX_NAMED} more" if len(unread) > MAX_NAMED else ""
        message = f"{folder}: {len(unread)} files are not read: {named}{more}."
        rule = f"Files of these kinds are read: {', '.join(SUFFIXES)}."
        warnings.warn(f"{message} {rule}", DataWarning, stacklevel=3)
    return samples


def is_hidden(part: str) -> bool:
    """Return True if a part of a path is hidden, or a file of the system."""
    return part.startswith(".") or part.lower() in SYSTEM_FILES


def read_columns(
    samples: Sequence[Mapping[str, Path]], readers: Mapping[str, Reader] = READERS
) -> dict[str, Column]:
    """Read files into columns.

    Args:
        samples: Files of each sample, by modality.
        readers: Function that converts a file to a row, by modality.

    Returns:
        Columns of the modalities with at least one file; missing where a sample has no
        file.

    Raises:
        ConfigError: If a library that a file format needs is not installed.
        DataError: If a file does not match its suffix.
    """
    columns = {}
    for name, reader in readers.items():
        rows = [reader(files[name]) if name in files else None for files in samples]
        if any(row is not None for row in rows):
            columns[name] = build_column(name, rows)
    return columns


def raw_schema(modalities: Sequence[str]) -> Schema:
    """Return the star schema of modalities that hold texts and paths of files."""
    return Schema.star([Modality(name, kind=KINDS[name]) for name in modalities])
