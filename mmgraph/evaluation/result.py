"""The result of an evaluation, as rows and as a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mmgraph._frame import to_frame
from mmgraph.evaluation.table import Table, interval, number, to_html, to_plain
from mmgraph.metrics.bootstrap import Interval
from mmgraph.metrics.operating_point import RATES, OperatingPoint
from mmgraph.metrics.scores import HEADINGS, METRIC_TITLES

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    "num_queries": "queries",
    "num_entries": "gallery",
    "num_pairs": "pairs",
    "category_map": "category mAP",
    "expected_calibration_error": "ECE",
}
RATE_TITLES = {"ppv": "PPV", "npv": "NPV", "net_benefit": "net benefit"}
DIGITS = {"num_queries": 0, "num_entries": 0, "num_pairs": 0, "median_rank": 1}


class ScoreRow(NamedTuple):
    """Scores in one scenario.

    Attributes:
        missing: The rate, or the description of the missing pattern.
        variant: Direction of retrieval or kind of negatives; "" for labels.
        scores: Scores by name, means over masks; NaN where a score is undefined.
    """

    missing: str
    variant: str
    scores: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a fitted model by missing-modality scenario.

    Returned by :func:`mmgraph.evaluate`. It prints as a table, also in notebooks, and
    :meth:`to_frame` returns a data frame of it; pandas itself is not required.

    Attributes:
        lines: One :class:`ScoreRow` per scenario, in the given order; for retrievers
            and matchers one per scenario and direction or kind of negatives.
        variant: Heading of the column that distinguishes rows of one scenario:
            "direction" for a retriever, "wrong partners" for a matcher, "" otherwise.
        notes: Remarks below the table, such as the definition of a hit.
        operating_points: Rates of correct decisions by scenario, if a threshold is
            given; of several masks, those of the first.
        intervals: 95% intervals of the scores by name, one mapping per line; empty
            without them.

    Example:
        >>> from mmgraph.evaluation import Evaluation, ScoreRow
        >>> evaluation = Evaluation((ScoreRow("0", "", {"auroc": 0.9}),))
        >>> evaluation.rows
        [{'missing': '0', 'auroc': 0.9}]
        >>> evaluation
        Scores by missing pattern
        missing  AUROC
        0        0.900
    """

    lines: tuple[ScoreRow, ...]
    variant: str = ""
    notes: tuple[str, ...] = ()
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    intervals: tuple[Mapping[str, Interval], ...] = ()

    def __repr__(self) -> str:
        parts = ["\n".join(to_plain(table)).rstrip() for table in self.tables()]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Return the tables as HTML, for notebooks."""
        return "".join(map(to_html, self.tables()))

    def tables(self, title: str = "Scores by missing pattern") -> list[Table]:
        """Return the table of scores and, with a threshold, that of decisions.

        Args:
            title: Line above the first table.
        """
        decisions = [_decisions(self.operating_points)] if self.operating_points else []
        return [self.table(title), *decisions]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per line: scenario, direction or negatives, scores, and bounds."""
        return [
            {"missing": line.missing}
            | ({self.variant: line.variant} if self.variant else {})
            | dict(line.scores)
            | {f"{name}_low": each.low for name, each in intervals.items()}
            | {f"{name}_high": each.high for name, each in intervals.items()}
            for line, intervals in self._pairs()
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return the lines as a data frame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_frame(self.rows)

    def table(self, title: str = "Scores by missing pattern") -> Table:
        """Return the lines as a table of formatted cells.

        Args:
            title: Line above the table.
        """
        titles = METRIC_TITLES | HEADINGS | TITLES
        names = list(self.lines[0].scores)
        keys = ("missing", *([self.variant] if self.variant else []))
        rows = tuple(
            (
                line.missing,
                *([line.variant] if self.variant else []),
                *(cell for name in names for cell in _cells(line, intervals, name)),
            )
            for line, intervals in self._pairs()
        )
        headings = []
        for name in names:
            headings.append(titles.get(name, name.replace("_", " ")))
            headings += ["95% CI"] if self.intervals else []
        columns = (*keys, *headings)
        best = (frozenset[int](),) * len(columns)
        left = frozenset(range(len(keys)))
        return Table(title, columns, rows, best, self.notes, left)

    def _pairs(self) -> Iterator[tuple[ScoreRow, Mapping[str, Interval]]]:
        """Yield the lines with their intervals."""
        intervals = self.intervals or ({},) * len(self.lines)
        return zip(self.lines, intervals, strict=True)


def _cells(line: ScoreRow, intervals: Mapping[str, Interval], name: str) -> list[str]:
    """Return a score, and its interval if it has one, as cells of a table."""
    score = number(line.scores[name], DIGITS.get(name, 3))
    bounds = intervals.get(name)
    return [score] if bounds is None else [score, interval(bounds.low, bounds.high)]


def _decisions(points: Mapping[str, OperatingPoint]) -> Table:
    """Return the rates at a threshold, with their intervals, as a table."""
    first = next(iter(points.values()))
    columns = ["missing", *(RATE_TITLES.get(name, name) for name in RATES)]
    rows = []
    for missing, point in points.items():
        rates = [getattr(point, name) for name in RATES]
        cells = [f"{number(r.mean)} {interval(r.low, r.high)}" for r in rates]
        rows.append((missing, *cells))
    title = (
        f"Decisions at a probability of {first.threshold:g}: {first.num_positive} "
        f"positive, {first.num_negative} negative samples, 95% CI"
    )
    best = (frozenset[int](),) * len(columns)
    return Table(title, tuple(columns), tuple(rows), best, (), frozenset([0]))
