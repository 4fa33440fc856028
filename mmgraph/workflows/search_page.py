"""The answer to a query, and a page of it that loads nothing from elsewhere."""

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgraph._html import render
from mmgraph.errors import MMGraphError
from mmgraph.evaluation.table import Table, number

SIDE = 320  # pixels of a picture on the page
MAX_TEXT = 60  # letters of a text in the table


@dataclass(frozen=True)
class Hit:
    """An entry that was found.

    Attributes:
        id: Its id.
        score: Cosine similarity to the query.
        modalities: All modalities of the gallery.
        present: Which of them the entry has.
        text: Its text, "" where it has none.
        picture: File of its picture, "" where it has none.
    """

    id: str
    score: float
    modalities: tuple[str, ...]
    present: tuple[bool, ...]
    text: str
    picture: str

    @property
    def has(self) -> tuple[str, ...]:
        """The modalities that it has."""
        pairs = zip(self.modalities, self.present, strict=True)
        return tuple(name for name, present in pairs if present)


@dataclass(frozen=True)
class SearchResult:
    """What was asked of an index, and what it found, best first.

    Attributes:
        query: Words and files by modality.
        require: Modalities that entries had to have.
        found: Entries.
        num_entries: Entries in the index.
    """

    query: Mapping[str, str]
    require: tuple[str, ...]
    found: tuple[Hit, ...]
    num_entries: int

    @property
    def title(self) -> str:
        """The query in words."""
        words = [self.query["text"]] if "text" in self.query else []
        files = [Path(f).name for name, f in self.query.items() if name != "text"]
        return " + ".join([*words, *files])

    def table(self) -> Table:
        """Return one row per entry that was found."""
        rows = tuple(
            (
                str(place),
                found.id,
                number(found.score),
                ", ".join(found.has),
                _short(found.text),
            )
            for place, found in enumerate(self.found, start=1)
        )
        columns = ("", "id", "score", "has", "text")
        notes = [f"{len(self.found)} of {self.num_entries} entries."]
        if self.require:
            notes += [f"Only those that have {' and '.join(self.require)}."]
        best = (frozenset[int](),) * len(columns)
        left = frozenset({1, 3, 4})
        return Table(self.title, columns, rows, best, tuple(notes), left)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def write_search_page(answer: SearchResult, path: str | os.PathLike[str]) -> None:
    """Write an answer as one HTML file, pictures included.

    A picture that cannot be read any more is told, and the rest is shown.

    Raises:
        ConfigError: If pictures are to be shown and Pillow is not installed.
    """
    asked = [
        {"name": name, "value": value if name == "text" else Path(value).name}
        | _picture(value if name == "image" else "")
        for name, value in answer.query.items()
    ]
    cards = [
        {
            "found": found,
            "score": number(found.score),
            "width": max(0.0, min(found.score, 1.0)),
            "modalities": list(zip(found.modalities, found.present, strict=True)),
        }
        | _picture(found.picture)
        for found in answer.found
    ]
    text = render("search.html", answer=answer, asked=asked, cards=cards)
    Path(path).write_text(text, encoding="utf-8")


def _picture(file: str) -> dict[str, Any]:
    """Return a small picture as a data URI, or why there is none."""
    if not file:
        return {"picture": None, "reason": "no picture"}
    from mmgraph.data.features.image import open_image

    if not Path(file).is_file():
        return {"picture": None, "reason": "the picture is not there any more"}
    try:
        small = open_image(Path(file), SIDE)
    except MMGraphError:
        return {"picture": None, "reason": "the picture cannot be read"}
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return {"picture": f"data:image/png;base64,{content}", "reason": None}
