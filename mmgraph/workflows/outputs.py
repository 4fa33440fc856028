"""Where commands write: checked before the work, replaced at its end."""

import os
from pathlib import Path

from mmgraph.errors import ConfigError


def check_file(path: Path, *endings: str) -> None:
    """Refuse a file to write before anything is computed.

    Raises:
        ConfigError: If the path ends otherwise, or cannot be written.
    """
    if endings and path.suffix not in endings:
        known = ", ".join(endings[:-1]) + f" or {endings[-1]}"
        raise ConfigError(f"Output must end in {known}, got '{path}'.")
    if path.is_dir():
        raise ConfigError(f"Output must be a file, got the folder '{path}'.")
    _check_writable(path.parent, path)


def check_folder(path: Path) -> None:
    """Refuse a folder to write, which need not be there, before anything is computed.

    Raises:
        ConfigError: If it is a file or in one, or cannot be written.
    """
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise ConfigError(f"Output must be a folder, got the file '{there}'.")
    _check_writable(there, path)


def _check_writable(folder: Path, output: Path) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        rule = "can be written" if folder.is_dir() else "exists"
        raise ConfigError(
            f"Output must be in a folder that {rule}, got '{output}'. Make "
            f"'{folder}' {'writable' if folder.is_dir() else 'first'}."
        )
