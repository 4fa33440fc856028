"""Checks of output files and folders, made before anything is computed."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmgraph.errors import ConfigError
from mmgraph.typing import PathLike


def check_file(path: Path, *endings: str, inputs: Iterable[PathLike] = ()) -> None:
    """Check that a file can be written.

    Args:
        path: File to write.
        endings: Allowed endings; none allows all.
        inputs: Files and folders that are read, which must not be overwritten.

    Raises:
        ConfigError: If the path has another ending, is a folder, cannot be written, or
            is one of the inputs or in one of them.
    """
    if endings and path.suffix not in endings:
        known = ", ".join(endings[:-1]) + f" or {endings[-1]}"
        raise ConfigError(f"Output must end in {known}, got '{path}'.")
    if path.is_dir():
        raise ConfigError(f"Output must be a file, got the folder '{path}'.")
    _check_writable(path.parent, path)
    for each in map(Path, inputs):
        _check_separate(path, each, inside=True)


def check_folder(path: Path, *, inputs: Iterable[PathLike] = ()) -> None:
    """Check that a folder, which may not exist yet, can be written.

    Args:
        path: Folder to write.
        inputs: Files and folders that are read, which must not be overwritten.

    Raises:
        ConfigError: If the path is a file or inside a file, cannot be written, or is
            one of the inputs.
    """
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise ConfigError(f"Output must be a folder, got the file '{existing}'.")
    _check_writable(existing, path)
    for each in map(Path, inputs):
        _check_separate(path, each, inside=False)


def _check_separate(output: Path, source: Path, *, inside: bool) -> None:
    """Refuse an output that is an input, whatever the spelling and through links.

    Args:
        output: File or folder to write.
        source: File or folder that is read.
        inside: Refuse outputs in a folder that is read, too.

    Raises:
        ConfigError: If it is.
    """
    same = output.exists() and source.exists() and output.samefile(source)
    if source.is_dir() and inside:
        # a link in the folder leads elsewhere, but its name is read from the folder
        places = (output.resolve(), output.parent.resolve() / output.name)
        same |= any(place.is_relative_to(source.resolve()) for place in places)
        same |= any(each.samefile(output) for each in _files_of(source, output))
    if same:
        where = "is in" if inside and source.is_dir() else "is"
        raise ConfigError(
            f"Output must not overwrite its input, got '{output}', which {where} "
            f"'{source}'. Choose another path."
        )


def _files_of(folder: Path, output: Path) -> Iterator[Path]:
    """Yield the files of a folder that can be another name of an existing output."""
    if output.exists() and output.stat().st_nlink > 1:
        yield from (each for each in folder.rglob("*") if each.is_file())
    elif output.exists():
        yield from (each for each in folder.rglob("*") if each.is_symlink())


def _check_writable(folder: Path, output: Path) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        rule = "can be written" if folder.is_dir() else "exists"
        raise ConfigError(
            f"Output must be in a folder that {rule}, got '{output}'. Make "
            f"'{folder}' {'writable' if folder.is_dir() else 'first'}."
        )
