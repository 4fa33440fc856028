"""Links of pages to files of the repository that are not pages themselves.

In the repository such a link opens the file. In the site, the change log, the guide
for contributors and the result tables are pages; other files are shown by name.
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGES = {
    "README.md": "/index.md",
    "CHANGELOG.md": "/changelog.md",
    "CONTRIBUTING.md": "/contributing.md",
    "benchmarks/results/classification/table.md": "/results/classification.md",
    "benchmarks/results/retrieval/table.md": "/results/retrieval.md",
    "benchmarks/results/unseen/table.md": "/results/unseen.md",
    "benchmarks/results": "/results/index.md",
    "docs/decisions": "/decisions/index.md",
    "docs/experiments": "/experiments/index.md",
}
LINK = re.compile(r"\[([^\]\[]*)\]\(((?:\.\./)+)([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)


def rewrite(text: str, depth: int) -> str:
    """Return MyST text whose links out of the documentation stay within the site.

    Args:
        text: Source of a page.
        depth: Folders between the page and the source directory, 0 for the root.
    """

    def link(match: re.Match[str]) -> str:
        words, up, path, anchor = match.groups()
        if up.count("../") <= depth:
            return match.group()
        page = PAGES.get(path.rstrip("/"))
        if page:
            return f"[{words}]({page}{anchor or ''})"
        if path in words:
            return words
        return f"{words} (`{path}`)"

    return LINK.sub(link, text)


def read(app: "Sphinx", docname: str, source: list[str]) -> None:
    """Rewrite the links of a page."""
    source[0] = rewrite(source[0], docname.count("/"))


def read_included(app: "Sphinx", path: Any, docname: str, source: list[str]) -> None:
    """Rewrite links of an included file from the root to pages of the site."""
    text = source[0]
    for name, page in PAGES.items():
        text = text.replace(f"]({name})", f"]({page})")
    text = text.replace("](docs/", "](/")
    source[0] = re.sub(r"\[([^\]]+)\]\((?!/|#|https?:)([^)]+)\)", r"\1 (`\2`)", text)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Connect the extension."""
    app.connect("source-read", read)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
