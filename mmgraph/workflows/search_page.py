"""The result of a query, and a self-contained HTML page of it."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgraph._html import render
from mmgraph.errors import MMGraphError
from mmgraph.evaluation.table import Table, number
from mmgraph.files import write_text
from mmgraph.typing import PathLike

SIDE = 320  # pixels of an image on the page
MAX_TEXT = 60  # letters of a text in the table


@dataclass(frozen=True)
class Hit:
    """A retrieved entry.

    Attributes:
        id: Id of the entry.
        score: Cosine similarity to the query.
        modalities: All modalities of the gallery.
        present: Availability of each modality in the entry.
        text: Text of the entry, "" without one.
        picture: Image file of the entry, "" without one.
    """

    id: str
    score: float
    modalities: tuple[str, ...]
    present: tuple[bool, ...]
    text: str
    picture: str

    @property
    def has(self) -> tuple[str, ...]:
        """The modalities of the entry."""
        pairs = zip(self.modalities, self.present, strict=True)
        return tuple(name for name, present in pairs if present)


@dataclass(frozen=True)
class SearchResult:
    """A query and the retrieved entries, best first.

    Attributes:
        query: Text and files by modality.
        require: Modalities that an entry must have.
        hits: Retrieved entries.
        num_entries: Number of entries in the index.
    """

    query: Mapping[str, str]
    require: tuple[str, ...]
    hits: tuple[Hit, ...]
    num_entries: int

    @property
    def title(self) -> str:
        """The query as text: its words and the names of its files."""
        words = [self.query["text"]] if "text" in self.query else []
        files = [Path(f).name for name, f in self.query.items() if name != "text"]
        return " + ".join([*words, *files])

    def table(self) -> Table:
        """Return one row per retrieved entry."""
        rows = tuple(
            (
                str(place),
                hit.id,
                number(hit.score),
                ", ".join(hit.has),
                _short(hit.text),
            )
            for place, hit in enumerate(self.hits, start=1)
        )
        columns = ("", "id", "score", "has", "text")
        notes = [f"{len(self.hits)} of {self.num_entries} entries."]
        if self.require:
            notes += [f"Only entries with {' and '.join(self.require)}."]
        best = (frozenset[int](),) * len(columns)
        left = frozenset({1, 3, 4})
        return Table(self.title, columns, rows, best, tuple(notes), left)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def write_search_page(result: SearchResult, path: PathLike) -> None:
    """Write a result as one HTML file with embedded images.

    An image that cannot be read is replaced by a note.

    Raises:
        ConfigError: If there are images and Pillow is not installed.
    """
    query = [
        {"name": name, "value": value if name == "text" else Path(value).name}
        | _picture(value if name == "image" else "")
        for name, value in result.query.items()
    ]
    cards = [
        {
            "hit": hit,
            "score": number(hit.score),
            "width": max(0.0, min(hit.score, 1.0)),
            "modalities": list(zip(hit.modalities, hit.present, strict=True)),
        }
        | _picture(hit.picture)
        for hit in result.hits
    ]
    text = render("search.html", result=result, query=query, cards=cards)
    write_text(Path(path), text)


def _picture(file: str) -> dict[str, Any]:
    """Return a small image as a data URI, or the reason why there is none."""
    if not file:
        return {"picture": None, "reason": "no image"}
    from mmgraph.data.features.image import open_image

    if not Path(file).is_file():
        return {"picture": None, "reason": "image file not found"}
    try:
        small = open_image(Path(file), SIDE)
    except MMGraphError:
        return {"picture": None, "reason": "image cannot be read"}
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return {"picture": f"data:image/png;base64,{content}", "reason": None}
