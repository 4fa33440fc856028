"""Checks that inputs exist, made before any library is loaded."""

from pathlib import Path

from mmgraph.errors import CheckpointError, DataError


def check_model(folder: Path) -> None:
    """Check that a model folder exists.

    Raises:
        CheckpointError: If it does not exist.
    """
    if not folder.is_dir():
        raise CheckpointError(f"Model folder must exist, got '{folder}'.")


def check_samples(file: Path) -> None:
    """Check that a file or folder of samples exists.

    Raises:
        DataError: If it does not exist.
    """
    if not file.exists():
        raise DataError(f"Parquet or CSV file must exist, got '{file}'.")
