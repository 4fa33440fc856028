"""Data frames of results; pandas is optional."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmgraph.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def to_frame(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return rows as a data frame.

    Args:
        rows: One mapping from columns to cells per row.

    Raises:
        ConfigError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ConfigError(
            "to_frame requires pandas, which is not installed. Install mmgraph[pandas]."
        ) from None
    return pd.DataFrame(list(rows))
