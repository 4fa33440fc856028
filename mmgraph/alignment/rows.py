"""Rows of numbers of each modality, with NaN where a modality is missing.

Letters: `N` samples, `F` features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import as_entries
from mmgraph.data.encoder import ChannelEncoder, encode_columns, fit_encoders
from mmgraph.data.validation import check_mapping, count_samples
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike, ModalityArrays

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = dict[str, FloatArray]


@dataclass(frozen=True)
class RowReader:
    """Reader of the rows of samples, with the channels of the training data.

    Attributes:
        encoders: Encoder of each modality whose channels have names.
    """

    encoders: Mapping[str, ChannelEncoder] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: MultimodalData | ModalityArrays) -> "RowReader":
        """Learn the channels of training data; arrays need nothing learned."""
        if isinstance(data, MultimodalData):
            return cls(fit_encoders(data.columns))
        return cls()

    def read(self, data: MultimodalData | ModalityArrays) -> Rows:
        """Return the rows of each modality, ``[N, F]``, all NaN where it is missing.

        Args:
            data: Samples, or arrays ``[N, F]`` by modality, with NaN rows or None for
                missing ones.

        Raises:
            DataError: If the content is not numeric, infinite or of a wrong shape, or
                lengths differ.
        """
        if isinstance(data, MultimodalData):
            columns = encode_columns(data.columns, self.encoders)
            features = replace(data, columns=columns).features()
            return {name: x.astype(np.float64) for name, x in features.items()}
        check_mapping("data", data)
        count_samples(data)
        return {name: as_rows(f"Modality {name!r}", x) for name, x in data.items()}


def as_rows(subject: str, values: ArrayLike) -> FloatArray:
    """Return numbers as rows ``[N, F]``; entries of None become rows of NaN.

    Args:
        subject: What the values are, for messages.
        values: Array or tensor ``[N, F]``, or a list of N rows.

    Raises:
        DataError: If the values are not rows of finite numbers or NaN.
    """
    entries = as_entries(values)
    try:
        if entries.dtype == object:
            entries = _stack(entries)
        rows: FloatArray = np.asarray(entries, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"{subject} must be rows of numbers of one length, got others. Give an "
            "array of shape [N, F]."
        ) from None
    if rows.ndim != 2 or not rows.shape[1]:
        raise DataError(
            f"{subject} must have shape [N, F], got {list(rows.shape)}. Give one row "
            "of features per sample."
        )
    if np.isinf(rows).any():
        raise DataError(
            f"{subject} must be finite or NaN, got infinity in row "
            f"{int(np.isinf(rows).any(axis=1).argmax())}. Replace it by NaN."
        )
    return rows


def observed(rows: FloatArray) -> BoolArray:
    """Return whether a row has any number, ``[N]``."""
    return np.asarray(~np.isnan(rows).all(axis=1))


def spread(values: FloatArray, present: BoolArray) -> FloatArray:
    """Return values ``[n, F]`` at the N rows that are present, NaN elsewhere."""
    rows = np.full((len(present), values.shape[1]), np.nan)
    rows[present] = values
    return rows


def _stack(entries: npt.NDArray[np.object_]) -> FloatArray:
    rows = [None if e is None else np.asarray(as_entries(e), float) for e in entries]
    width = next((len(row) for row in rows if row is not None), 1)
    missing = np.full(width, np.nan)
    return np.stack([missing if row is None else row for row in rows])
