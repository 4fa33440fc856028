"""Missing-modality patterns (MCAR, MAR, MNAR), mask plans, and modality dropout.

A pattern draws a :class:`mmgraph.MaskPlan`, which can be saved, hashed and applied to
data. ``present`` is True where a modality is observed; a plan never restores a modality
that the data lack. The folder depends on :mod:`mmgraph.data` only.
"""

from mmgraph.missing.base import Pattern
from mmgraph.missing.dependent import mar, mnar
from mmgraph.missing.dropout import modality_dropout
from mmgraph.missing.patterns import (
    block,
    imbalanced,
    leave_out,
    mcar,
    natural,
    only,
)
from mmgraph.missing.plan import MaskPlan

__all__ = [
    "MaskPlan",
    "Pattern",
    "block",
    "imbalanced",
    "leave_out",
    "mar",
    "mcar",
    "mnar",
    "modality_dropout",
    "natural",
    "only",
]
