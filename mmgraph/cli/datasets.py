"""The data sets that mmgraph knows, as a table and card by card."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mmgraph.datasets.load import (
    DatasetCard,
    dataset_card,
    dataset_folder,
    dataset_names,
    find_mirror,
)
from mmgraph.errors import MMGraphError
from mmgraph.evaluation.table import Table

if TYPE_CHECKING:
    from mmgraph.evaluation.table import Table
from mmgraph.cli.app import app, show


def dataset_table() -> Table:
    """Return one row per data set: size, whether it is here, modalities, licence."""
    rows = tuple(_row(dataset_card(name)) for name in dataset_names())
    columns = ("name", "samples", "here", "modalities, share missing", "licence")
    best = (frozenset[int](),) * len(columns)
    return Table("Data sets", columns, rows, best, left=frozenset({0, 2, 3, 4}))


def _row(card: DatasetCard) -> tuple[str, ...]:
    parts = (f"{m.name} {100 * m.missing:.0f}%" for m in card.modalities)
    here = "yes" if is_here(card) else "no"
    return card.name, str(card.num_samples), here, ", ".join(parts), card.license


def is_here(card: DatasetCard) -> bool:
    """Warn whether the data set can be loaded on this machine."""
    if card.shipped:
        return True
    try:
        find_mirror(card)
    except MMGraphError:
        return False
    return True


def card_text(name: str) -> str:
    """Return the card of a data set as Markdown; of a control its facts as JSON.

    Raises:
        DataError: If the name is unknown.
    """
    card = dataset_card(name)
    path = dataset_folder(name) / "card.md"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return json.dumps(asdict(card), indent=2)


@app.command(epilog="Example: mmgraph datasets heart")
def datasets(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of this one.")
    ] = None,
) -> None:
    """List the data sets, or show the card of one."""

    if name is None:
        show(dataset_table())
    else:
        typer.echo(card_text(name))
