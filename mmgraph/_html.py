"""HTML pages from templates; inserted values are escaped.

The templates extend ``base.html``, which has the head, colors and fonts of all pages.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:  # noqa: ANN401
    """Render a template.

    Args:
        name: File name of the template.
        values: Values of its variables; a variable without a value is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def table_html(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> str:
    """Return an HTML table with escaped content, for ``_repr_html_`` in notebooks.

    Args:
        caption: Line above the table.
        header: Names of the columns.
        rows: Cells of each row; None is an empty cell.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    cells = [
        "".join(f"<td>{escape('' if c is None else str(c))}</td>" for c in row)
        for row in rows
    ]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
