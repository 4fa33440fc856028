"""Catalog of the data sets: a table, their cards, and copies as Parquet files."""

import json
from dataclasses import asdict
from pathlib import Path

from mmgraph.datasets.load import (
    DatasetCard,
    dataset_card,
    dataset_folder,
    dataset_names,
    find_mirror,
    load_dataset,
)
from mmgraph.errors import MMGraphError
from mmgraph.evaluation.table import Table
from mmgraph.workflows.outputs import check_file


def dataset_table() -> Table:
    """Return one row per data set: size, availability, modalities and license."""
    rows = tuple(_row(dataset_card(name)) for name in dataset_names())
    columns = ("name", "samples", "here", "modalities, share missing", "license")
    best = (frozenset[int](),) * len(columns)
    return Table("Data sets", columns, rows, best, left=frozenset({0, 2, 3, 4}))


def _row(card: DatasetCard) -> tuple[str, ...]:
    parts = (f"{m.name} {100 * m.missing:.0f}%" for m in card.modalities)
    here = "yes" if is_available(card) else "no"
    return card.name, str(card.num_samples), here, ", ".join(parts), card.license


def is_available(card: DatasetCard) -> bool:
    """Return whether a data set can be loaded on this machine."""
    if card.shipped:
        return True
    try:
        find_mirror(card)
    except MMGraphError:
        return False
    return True


def card_text(name: str) -> str:
    """Return the card of a data set as Markdown; that of a control as JSON.

    Raises:
        DataError: If the name is unknown.
    """
    card = dataset_card(name)
    path = dataset_folder(name) / "card.md"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return json.dumps(asdict(card), indent=2)


def write_dataset(name: str, output: Path) -> int:
    """Write a data set as a Parquet file that the other commands can read.

    The file contains the names and kinds of the modalities, so that no column has to
    be mapped: labels are the column "y", groups "group" and ids "id".

    Args:
        name: Name of the data set.
        output: File to write, ending in .parquet; an existing file is replaced.

    Returns:
        The number of samples.

    Raises:
        ConfigError: If the output cannot be written or has another ending.
        DataError: If the name is unknown or the data set is not on this machine.
    """
    check_file(output, ".parquet")
    data = load_dataset(name)
    data.to_parquet(output)
    return len(data)
