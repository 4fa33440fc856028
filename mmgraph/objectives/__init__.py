"""Objectives of representations without labels.

An objective is a frozen dataclass of options. ``build`` returns a module that holds
what the objective has to learn, and maps the output of a model for a batch to its
losses as sums over rows, which add up over parts of a batch. Imported by user code; it
may import ``model`` and below.
"""

from mmgraph.objectives.correlation import Correlation

__all__ = ["Correlation"]
