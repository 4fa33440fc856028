"""One row of the reliability table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One check: what is measured, what must be reached, and the measured figure.

    Attributes:
        number: Number of the row.
        name: What is checked.
        reach: What must be reached.
        figure: What was measured.
        reached: Whether the figure is within reach.
    """

    number: int
    name: str
    reach: str
    figure: str
    reached: bool
