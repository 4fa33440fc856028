"""Tables of formatted cells: numbers as text, Markdown, plain lines and HTML."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """A table of formatted cells.

    Attributes:
        title: One line above the table.
        columns: Headings; the first column holds names.
        rows: Cells, one per column.
        best: Row numbers of the best mean in each column.
        notes: Lines below the table.
        left: Numbers of the left-aligned columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: tuple[frozenset[int], ...]
    notes: tuple[str, ...] = ()
    left: frozenset[int] = frozenset({0})


def number(value: float, digits: int = 3) -> str:
    """Format a number with a fixed number of digits; NaN becomes a dash.

    Example:
        >>> from mmgraph.evaluation.table import number
        >>> number(0.9021), number(12.5, 1)
        ('0.902', '12.5')
    """
    if math.isnan(value):
        return DASH
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def amount(value: float, digits: int) -> str:
    """Format a quantity of at least 0, "<0.1" where it is below the precision.

    Example:
        >>> from mmgraph.evaluation.table import amount
        >>> amount(12.34, 1), amount(0.002, 1), amount(0.0, 1)
        ('12.3', '<0.1', '0.0')
    """
    step = 10.0**-digits
    return f"<{step:.{digits}f}" if 0 < value < step / 2 else number(value, digits)


def signed(value: float) -> str:
    """Format a number with its sign; NaN becomes a dash."""
    return number(value) if math.isnan(value) or value < 0 else f"+{number(value)}"


def interval(low: float, high: float) -> str:
    """Format an interval; NaN becomes a dash.

    Example:
        >>> from mmgraph.evaluation.table import interval
        >>> interval(0.01, 0.02)
        '[0.010, 0.020]'
    """
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"[{number(low)}, {number(high)}]"


def to_markdown(table: Table) -> str:
    """Return a table as Markdown, the best cells of each column in bold."""
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


def to_html(table: Table) -> str:
    """Return a table as an HTML fragment for notebooks; all text is escaped."""

    def row(cells: Iterable[str], tag: str, number: int = -1) -> str:
        parts = []
        for i, text in enumerate(cells):
            side = "left" if i in table.left else "right"
            shown = escape(text)
            if number in table.best[i]:
                shown = f"<b>{shown}</b>"
            parts.append(f'<{tag} style="text-align: {side}">{shown}</{tag}>')
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td", i) for i, cells in enumerate(table.rows))
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in table.notes)
    return (
        f"<table><caption>{escape(table.title)}</caption>"
        f"<thead>{row(table.columns, 'th')}</thead><tbody>{body}</tbody></table>{notes}"
    )
