"""Checks of output files and folders, made before anything is computed."""

import os
from pathlib import Path

from mmgraph.errors import ConfigError


def check_file(path: Path, *endings: str) -> None:
    """Check that a file can be written.

    Args:
        path: File to write.
        endings: Allowed endings; none allows all.

    Raises:
        ConfigError: If the path has another ending, is a folder, or cannot be written.
    """
    if endings and path.suffix not in endings:
        known = ", ".join(endings[:-1]) + f" or {endings[-1]}"
        raise ConfigError(f"Output must end in {known}, got '{path}'.")
    if path.is_dir():
        raise ConfigError(f"Output must be a file, got the folder '{path}'.")
    _check_writable(path.parent, path)


def check_folder(path: Path) -> None:
    """Check that a folder, which may not exist yet, can be written.

    Raises:
        ConfigError: If the path is a file or inside a file, or cannot be written.
    """
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise ConfigError(f"Output must be a folder, got the file '{existing}'.")
    _check_writable(existing, path)


def _check_writable(folder: Path, output: Path) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        rule = "can be written" if folder.is_dir() else "exists"
        raise ConfigError(
            f"Output must be in a folder that {rule}, got '{output}'. Make "
            f"'{folder}' {'writable' if folder.is_dir() else 'first'}."
        )
