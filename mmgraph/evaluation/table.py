"""Tables of finished cells: numbers as text, as Markdown and as plain lines."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """A table of finished cells.

    Attributes:
        title: One line above it.
        columns: Headings; the first column holds names.
        rows: Cells, one per column.
        best: Row numbers of the best mean in each column.
        notes: Lines below it.
        left: Columns of words, which begin at the left.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: tuple[frozenset[int], ...]
    notes: tuple[str, ...] = ()
    left: frozenset[int] = frozenset({0})


def number(value: float, digits: int = 3) -> str:
    """Return a number without a leading zero; a dash where there is none.

    Example:
        >>> from mmgraph.evaluation.table import number
        >>> number(0.9021), number(12.5, 1)
        ('.902', '12.5')
    """
    if math.isnan(value):
        return DASH
    text = f"{value:.{digits}f}".replace("-", MINUS)
    short = abs(value) < 1 and digits > 0
    return text.replace("0.", ".", 1) if short else text


def signed(value: float) -> str:
    """Return a number with its sign; a dash where there is none."""
    return number(value) if math.isnan(value) or value < 0 else f"+{number(value)}"


def to_markdown(table: Table) -> str:
    """Return a table as Markdown, the best of each column in bold."""
    lines = [
        f"**{table.title}**",
        "",
        _line(table.columns),
        _line("---" if i in table.left else "---:" for i in range(len(table.columns))),
    ]
    for i, row in enumerate(table.rows):
        lines.append(
            _line(
                f"**{text}**" if i in best else text
                for text, best in zip(row, table.best, strict=True)
            )
        )
    return "\n".join([*lines, "", *(f"{note}\n" for note in table.notes)])


def _line(cells: Iterable[str]) -> str:
    texts = (text.replace("|", "\\|") for text in cells)
    return f"| {' | '.join(texts)} |"


def to_plain(table: Table) -> Iterator[str]:
    """Yield the lines of a table in columns of equal width, for a pipe."""
    grid = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.columns))]
    yield table.title
    for row in grid:
        cells = [
            text.ljust(width) if i in table.left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    yield from table.notes
    yield ""
