"""Limits on the content of files, which may be of unknown origin.

A file of a few kilobytes can claim gigabytes, or nest so deeply that its parser fails.
Readers compare such claims with these limits before they allocate memory. The limits
are far above usual files; a message that names one also names how to raise it::

    with mmgraph.limits.override(table_bytes=64 << 30):
        data = MultimodalData.from_parquet("large.parquet")

``MMGRAPH_LIMITS="pixels=500000000,csv_expansion=500"`` in the environment changes the
defaults of a process, including the command line.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from mmgraph.errors import ConfigError, MMGraphError

VARIABLE = "MMGRAPH_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Limits of readers of files.

    Attributes:
        document_bytes: Bytes of a JSON or TOML document: manifests, schemas, mask
            plans, descriptions in Parquet and ONNX files.
        run_file_bytes: Bytes of a run file.
        document_items: Lists, objects and their items in a document.
        document_depth: Nested lists and objects in a document.
        node_types: Modalities and latents of a schema.
        relations: Relations of a schema, after wildcards are expanded.
        channels: Channels of a modality.
        nodes: Nodes of one type in a sample.
        model_bytes: Bytes of a file of weights, an index part, or an ONNX file.
        table_bytes: Bytes of a table in memory, or of a decompressed CSV file.
        table_expansion: Bytes of a table in memory per byte of its Parquet file, if
            they exceed ``free_bytes``.
        csv_expansion: Bytes of a CSV file per byte of its compressed form, if they
            exceed ``free_bytes``.
        free_bytes: Bytes that a table of any compression may take.
        pixels: Pixels of an image.
        audio_samples: Samples of a sound, of all its channels together.
        lock_seconds: Seconds to wait for another process that saves into a folder.
    """

    document_bytes: int = 64 << 20
    run_file_bytes: int = 1 << 18
    document_items: int = 1_000_000
    document_depth: int = 100
    node_types: int = 5_000
    relations: int = 40_000
    channels: int = 10_000_000
    nodes: int = 100_000
    model_bytes: int = 16 << 30
    table_bytes: int = 32 << 30
    table_expansion: int = 1000
    csv_expansion: int = 100
    free_bytes: int = 32 << 20
    pixels: int = 100_000_000
    audio_samples: int = 500_000_000
    lock_seconds: int = 60


def parse(text: str) -> dict[str, int]:
    """Return the limits of a text such as ``"table_bytes=1000,csv_expansion=50"``.

    Raises:
        ConfigError: If a limit is unknown or not an integer of at least 1.

    Example:
        >>> from mmgraph.limits import parse
        >>> parse("table_bytes=1000, csv_expansion=50")
        {'table_bytes': 1000, 'csv_expansion': 50}
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return check({name.strip(): value.strip() for name, _, value in pairs})


def check(changes: dict[str, int] | dict[str, str]) -> dict[str, int]:
    """Return limits as integers.

    Raises:
        ConfigError: If a limit is unknown or not an integer of at least 1.
    """
    known, checked = [field.name for field in fields(Limits)], {}
    for name, value in changes.items():
        if name not in known:
            raise ConfigError(f"Limit must be one of {', '.join(known)}, got {name!r}.")
        try:
            checked[name] = int(value)
        except (TypeError, ValueError):
            checked[name] = 0
        if checked[name] < 1:
            raise ConfigError(
                f"Limit {name} must be an integer of at least 1, got {value!r}."
            )
    return checked


_current: Limits | None = None


def current() -> Limits:
    """Return the limits of this process."""
    global _current
    if _current is None:
        _current = Limits(**parse(os.environ.get(VARIABLE, "")))
    return _current


@contextmanager
def override(**changes: int) -> Iterator[Limits]:
    """Change limits of this process, all its threads, inside a ``with`` block.

    Args:
        **changes: New values by name; see :class:`Limits`.

    Raises:
        ConfigError: If a limit is unknown or not an integer of at least 1.

    Example:
        >>> from mmgraph import limits
        >>> with limits.override(table_bytes=1 << 40) as changed:
        ...     changed.table_bytes == limits.current().table_bytes
        True
    """
    global _current
    before = current()
    _current = replace(before, **check(changes))
    try:
        yield _current
    finally:
        _current = before


def check_expansion(
    size: int, packed: int, ratio: str, error: type[MMGraphError]
) -> None:
    """Check the size of a decompressed file against that of the file.

    Args:
        size: Bytes of the decompressed content, as far as it is known.
        packed: Bytes of the file.
        ratio: Name of the limit on ``size / packed``.
        error: Class of the exception.

    Raises:
        MMGraphError: If the content is larger than the limits allow.
    """
    most = current()
    allowed = max(most.free_bytes, getattr(most, ratio) * packed)
    for limit, rule in ((ratio, allowed), ("table_bytes", most.table_bytes)):
        if size > rule:
            raise error(
                f"A file of {packed} bytes must hold at most {rule} bytes when it is "
                f"decompressed, got {size} or more.",
                remedy(limit),
            )


def remedy(name: str) -> str:
    """Return how to raise a limit, for messages of errors."""
    return f"If the file is right, raise the limit: {VARIABLE}={name}=NUMBER."
