"""Missing patterns as saved, hashed mask plans; modality dropout for training.

`present` is True where a modality is observed. What the data lack stays missing in
every plan.
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
