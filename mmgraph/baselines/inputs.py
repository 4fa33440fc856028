"""Inputs of the baselines: standardized, imputed features and missing indicators.

Scikit-learn's StandardScaler and SimpleImputer(add_indicator=True) differ in three
points: values here are clipped at 10 standard deviations, features whose relative
spread is below the resolution of float32 are constant, and there is one indicator per
distinct missingness pattern of the columns instead of one per column.

Letters: `N` samples, `M` modalities, `F` features of one modality, `W` width of a
table of inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.data.encoder import ChannelEncoder, encode_columns, fit_encoders
from mmgraph.data.ranges import ChannelRanges, fit_ranges, replace_values

FloatArray = NDArray[np.float64]
FloatingArray = NDArray[np.floating]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_LIMIT = 10.0  # standard deviations
_RESOLUTION = 1e-7  # of float32; a smaller relative spread is rounding error


@dataclass(frozen=True)
class InputEncoder:
    """Channels and fill values of the training samples.

    Attributes:
        encoders: Encoder of each modality whose channels have names.
        ranges: Fill values of each modality of numbers.
    """

    encoders: Mapping[str, ChannelEncoder]
    ranges: Mapping[str, ChannelRanges]

    @classmethod
    def fit(cls, data: MultimodalData) -> "InputEncoder":
        """Fit on training samples, with a warning about fill values.

        Raises:
            DataError: If a column has more than 64 categories.
        """
        encoders = fit_encoders(data.columns)
        return cls(encoders, fit_ranges(encode_columns(data.columns, encoders)))

    def features(self, data: MultimodalData) -> dict[str, NDArray[np.float32]]:
        """Return the features [N, F] of each modality, NaN in place of fill values."""
        columns = encode_columns(data.columns, self.encoders)
        for name in self.ranges.keys() & columns.keys():
            column, fills = columns[name], self.ranges[name]
            if len(column.values) and column.channels == len(fills.lower):
                values = fills.drop_fill_values(column.values)
                columns[name] = replace_values(column, name, values)
        return replace(data, columns=columns).features()


def observed(x: FloatingArray) -> BoolArray:
    """Return whether the modality is observed, [N]: any of its features is not NaN."""
    return np.asarray(~np.isnan(x).all(axis=1), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class StandardScaler:
    """Standardization, mean imputation and missing indicators of one modality.

    Attributes:
        mean: Mean of each feature, [F]; 0 where it was never observed.
        scale: Standard deviation, [F]; 1 where the feature is constant.
        flags: Features that get a missing indicator, int [G]: one per distinct
            missingness pattern in the training rows.
    """

    mean: FloatArray
    scale: FloatArray
    flags: IntArray

    @classmethod
    def fit(cls, x: FloatingArray) -> "StandardScaler":
        """Fit on [N, F]; rows of NaN are left out."""
        rows = x[observed(x)].astype(np.float64)
        known = ~np.isnan(rows)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, rows, 0).sum(axis=0) / count
        square = np.where(known, (rows - mean) ** 2, 0).sum(axis=0)
        spread = np.sqrt(square / count)
        scale = np.where(spread > _RESOLUTION * np.abs(mean), spread, 1.0)
        return cls(mean, scale, _distinct_columns(~known))

    def scaled(self, x: FloatingArray) -> FloatArray:
        """Return [N, F] in standard deviations, clipped at 10; NaN stays NaN."""
        z: FloatArray = np.clip((x - self.mean) / self.scale, -_LIMIT, _LIMIT)
        return z

    def filled(self, x: FloatingArray) -> FloatArray:
        """Return [N, F + G]: features with NaN imputed by the mean, 0, and indicators.

        A row of NaN is zero, indicators included.
        """
        missing = np.isnan(x)
        flags = missing[:, self.flags] & observed(x)[:, None]
        z = np.where(missing, 0.0, self.scaled(x))
        return np.concatenate([z, flags], axis=1)


def fit_scalers(x: Mapping[str, FloatingArray]) -> dict[str, StandardScaler]:
    """Fit one scaler per modality."""
    return {name: StandardScaler.fit(table) for name, table in x.items()}


def filled_table(
    x: Mapping[str, FloatingArray], scalers: Mapping[str, StandardScaler]
) -> FloatArray:
    """Return inputs and missing indicators of all modalities, [N, W + M]."""
    filled = [scalers[name].filled(table) for name, table in x.items()]
    missing = np.stack([~observed(table) for table in x.values()], axis=1)
    return np.concatenate([*filled, missing], axis=1)


def _distinct_columns(missing: BoolArray) -> IntArray:
    """Return the first column of each distinct pattern that is not constant."""
    if missing.size == 0:
        return np.zeros(0, dtype=np.int64)
    packed = np.packbits(missing, axis=0)
    _, first = np.unique(packed, axis=1, return_index=True)
    share = missing[:, first].mean(axis=0)
    return np.sort(first[(share > 0) & (share < 1)]).astype(np.int64)
