"""Warnings about data."""

import warnings

from mmgraph.errors import DataWarning

MAX_LISTED = 5  # cells, columns or files that a warning lists


def warn(message: str) -> None:
    """Emit a `DataWarning`."""
    warnings.warn(message, DataWarning, stacklevel=2)
