"""Explicit alignment of modalities: warping of sequences, offsets of clocks.

The folder imports data and losses; estimators and the command line import it.
"""

from mmgraph.alignment.warping import Warping, dtw

__all__ = ["Warping", "dtw"]
