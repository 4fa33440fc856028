"""What an evaluation found, as rows and as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmgraph.evaluation.table import Table, number, to_plain
from mmgraph.metrics.scores import HEADINGS, METRIC_TITLES

TITLES = {
    "num_queries": "queries",
    "num_entries": "gallery",
    "num_pairs": "pairs",
    "category_map": "category mAP",
    "expected_calibration_error": "ECE",
}
DIGITS = {"num_queries": 0, "num_entries": 0, "num_pairs": 0, "median_rank": 1}


class ScoreRow(NamedTuple):
    """Scores of one question under one missing pattern.

    Attributes:
        missing: The rate, or the pattern in words.
        asked: What was asked; "" where there is one thing to ask.
        scores: By name, means over masks; nan where there is nothing to score.
    """

    missing: str
    asked: str
    scores: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a model by missing pattern; printed, a table.

    Attributes:
        lines: In the order of the patterns.
        asked: What `ScoreRow.asked` is, such as "direction"; "" where it is nothing.
        notes: What a reader has to know.
    """

    lines: tuple[ScoreRow, ...]
    asked: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join(to_plain(self.table())).rstrip()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a line: pattern, what was asked, scores; for `pandas.DataFrame`."""
        return [
            {"missing": line.missing}
            | ({self.asked: line.asked} if self.asked else {})
            | dict(line.scores)
            for line in self.lines
        ]

    def table(self, title: str = "Scores by missing pattern") -> Table:
        """Return the lines as a table.

        Args:
            title: The line above it.
        """
        known = METRIC_TITLES | HEADINGS | TITLES
        names = list(self.lines[0].scores)
        words = ("missing", *([self.asked] if self.asked else []))
        rows = tuple(
            (
                line.missing,
                *([line.asked] if self.asked else []),
                *(number(line.scores[name], DIGITS.get(name, 3)) for name in names),
            )
            for line in self.lines
        )
        titles = [known.get(name, name.replace("_", " ")) for name in names]
        columns = (*words, *titles)
        best = (frozenset[int](),) * len(columns)
        left = frozenset(range(len(words)))
        return Table(title, columns, rows, best, self.notes, left)
