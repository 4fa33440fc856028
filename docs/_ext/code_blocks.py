"""Code blocks without the empty line that ends a doctest in Markdown."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def trim(app: Sphinx, doctree: nodes.document) -> None:
    """Remove blank lines at the end of every code block."""
    for block in doctree.findall(nodes.literal_block):
        text = block.astext()
        if len(block) == 1 and text != text.rstrip():
            block[0] = nodes.Text(text.rstrip())
            block.rawsource = text.rstrip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    app.connect("doctree-read", trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
