"""Displays of results, in the style of scikit-learn, and drawings of schemas.

A constructor ``from_...`` draws a display, and ``plot(ax)`` draws it again. ``ax_`` and
``figure_`` are the axes and the figure of the last drawing. matplotlib is imported when
something is drawn.
"""

from mmgraph.plotting.contributions import ContributionsDisplay
from mmgraph.plotting.decision_curve import DecisionCurveDisplay
from mmgraph.plotting.missingness import MissingnessDisplay
from mmgraph.plotting.robustness import RobustnessDisplay

__all__ = [
    "ContributionsDisplay",
    "DecisionCurveDisplay",
    "MissingnessDisplay",
    "RobustnessDisplay",
]
