"""Dead links of a built site: pages, files and anchors that links of the site name.

Usage: python docs/check_links.py docs/_build/html
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}


class _Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")
            if LINKS.get(tag) == name and value:
                self.links.add(value)


def find_dead_links(site: Path) -> list[str]:
    """Return one line per dead link, ``page: link``, in order.

    Args:
        site: Folder of HTML files.
    """
    pages = {}
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.relative_to(site).parts:
            continue  # templates of the theme
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    dead = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target = target / "index.html"
            known = pages.get(target)
            anchor = unquote(parts.fragment)
            if not target.exists() or (
                anchor and known is not None and anchor not in known.anchors
            ):
                dead.append(f"{path.relative_to(site.resolve())}: {link}")
    return dead


def main() -> int:
    """Check the site that the command names; exit with 1 where a link is dead."""
    site = Path(sys.argv[1])
    if not any(site.rglob("*.html")):
        sys.exit(f"{site} has no HTML files. Build the site with make docs.")
    dead = find_dead_links(site)
    sys.stdout.write("".join(f"{line}\n" for line in dead))
    sys.stdout.write(f"{len(dead)} dead links\n")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
