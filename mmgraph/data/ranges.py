"""Values of channels in training data: fill values and the usual range.

Shapes: L rows, C channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import AnyArray, BoolArray, Column
from mmgraph.data.io.arrays import with_times
from mmgraph.data.notices import MAX_LISTED, warn

# values that programs and data sets write for missing cells: runs of nines, limits of
# integers and of float32, and the defaults of netCDF, GRIB, LAS and Ferret
_NINES = (99, 999, 9999, 99999, 999999, 9999999, 99.9, 999.9, 9999.9, 999.25, 999.99)
_LIMITS = (32767, 32768, 65535, 2147483647, 2147483648, 4294967295, 2.0**63)
_DEFAULTS = (9.99e8, 9.999e20, 1e20, 1e30, 1e34, 9.96921e36, 3.4028235e38)
FILL_VALUES = np.array(
    [s * v for v in (*_NINES, *_LIMITS, *_DEFAULTS) for s in (1, -1)], dtype=np.float32
)
HUGE = 1e15  # repeated values of this size are fill values, whether listed or not
FAR, BEYOND = 5, 3  # in units of the 1-99 % range, and of the farthest other value
NEAR = 2  # as BEYOND, for values that are reported only
MIN_OTHERS = 10  # other cells without which nothing is concluded
MARGIN = 10  # ranges of the training data beyond which a value is reported


@dataclass(frozen=True)
class ChannelRanges:
    """Fill values and limits of the channels of a modality.

    Attributes:
        fill_values: Values that mark missing cells, by number of the channel.
        lower: ``C`` limits below which values are far outside the training data.
        upper: ``C`` limits above which they are. Limits are rounded, so that they
            contain no value of the training data.
        mean: ``C`` means of the training data; empty for models of earlier versions.
        sd: ``C`` standard deviations, 0 for a constant channel; empty as ``mean``.
    """

    fill_values: Mapping[int, tuple[float, ...]]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, name: str, values: AnyArray, fields: Sequence[str], *, named: bool = True
    ) -> "ChannelRanges":
        """Return the ranges of training data, with warnings about fill values.

        Args:
            name: Name of the modality, for warnings.
            values: ``[L, C]``, NaN where missing.
            fields: Names of the channels.
            named: False if the channels are numbered, as those of a vector, so that
                their ranges are compared with each other.
        """
        fill_values, suspects = find_fill_values(values)
        _warn_fill_values(name, values, fields, fill_values, suspects)
        cells = _without(values, fill_values)
        low, high = np.fmin.reduce(cells, axis=0), np.fmax.reduce(cells, axis=0)
        low, high = low.astype(np.float64), high.astype(np.float64)
        size = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
        size = np.where(high > low, size, np.maximum(size, 1))
        if not named and not np.isnan(size).all():  # channels of one kind
            size = np.maximum(size, np.nanmedian(size))
        lower, upper = low - MARGIN * size, high + MARGIN * size
        limits = _rounded(lower, -1), _rounded(upper, 1)
        return cls(fill_values, *limits, *moments(cells))

    def read(self, name: str, values: AnyArray, fields: Sequence[str]) -> AnyArray:
        """Return new values ``[L, C]``, NaN where they mark missing cells.

        Values far outside the training data are reported in one warning.

        Args:
            name: Name of the modality, for the warning.
            values: ``[L, C]``, NaN where missing.
            fields: Names of the channels.
        """
        cells = _without(values, self.fill_values)
        outside = (cells < np.array(self.lower)) | (cells > np.array(self.upper))
        channels = np.flatnonzero(outside.any(axis=0))
        if len(channels):
            listed = [
                f"channel {fields[c]} ({_extreme(cells[outside[:, c], c]):g})"
                for c in channels[:MAX_LISTED]
            ]
            more = "; ..." if len(channels) > MAX_LISTED else ""
            warn(
                f"Modality {name!r} has values more than {MARGIN} times the range of "
                f"the training data away from it: {'; '.join(listed)}{more}. "
                "Predictions there are extrapolated. Check units and fill values."
            )
        return cells

    def drop_fill_values(self, values: AnyArray) -> AnyArray:
        """Return values ``[L, C]``, NaN where they mark missing cells; no warning."""
        return _without(values, self.fill_values)

    def to_json(self) -> dict[str, Any]:
        """Return the ranges as JSON."""
        return {
            "fill_values": {str(c): list(v) for c, v in self.fill_values.items()},
            "lower": [limit if np.isfinite(limit) else None for limit in self.lower],
            "upper": [limit if np.isfinite(limit) else None for limit in self.upper],
            "mean": list(self.mean),
            "sd": list(self.sd),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], width: int) -> "ChannelRanges":
        """Read the content of :meth:`to_json`.

        Args:
            content: JSON content.
            width: Number of channels ``C``.

        Raises:
            LookupError, TypeError, ValueError: If the content is damaged.
        """
        fills = content["fill_values"]
        if not isinstance(fills, dict):
            raise TypeError(f"fill_values {fills!r:.40}")
        fill_values = {int(c): tuple(map(_number, v)) for c, v in fills.items()}
        lower = [-np.inf if v is None else _number(v) for v in content["lower"]]
        upper = [np.inf if v is None else _number(v) for v in content["upper"]]
        if {len(lower), len(upper)} != {width} or not fill_values.keys() <= {
            *range(width)
        }:
            raise ValueError(f"ranges of {len(lower)} channels for {width}")
        mean, sd = (tuple(map(_number, content.get(k, ()))) for k in ("mean", "sd"))
        if not {len(mean), len(sd)} <= {0, width} or len(mean) != len(sd):
            raise ValueError(f"means of {len(mean)} channels for {width}")
        return cls(fill_values, tuple(lower), tuple(upper), mean, sd)


def fit_ranges(columns: Mapping[str, Column]) -> dict[str, ChannelRanges]:
    """Return the ranges of modalities of numbers, with warnings about fill values.

    Args:
        columns: Columns by modality; those of text and without rows are left out.
    """
    return {
        name: ChannelRanges.fit(
            name, column.values, column.fields, named=bool(column.names)
        )
        for name, column in columns.items()
        if not column.is_text and len(column.values)
    }


def replace_values(column: Column, name: str, values: AnyArray) -> Column:
    """Return a column with other values, without rows that are all NaN."""
    if values is column.values:
        return column
    bare = replace(column, values=values, time=None)
    return with_times(name, bare, column.time)


def _number(value: object) -> float:
    """Return a number of a JSON document, which strings and booleans are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"range {value!r:.40}")
    return float(value)


def _without(values: AnyArray, fill_values: Mapping[int, Sequence[float]]) -> AnyArray:
    """Return a copy of values with NaN in the place of fill values."""
    if not fill_values:
        return values
    cells = values.copy()
    for c, fills in fill_values.items():
        column = cells[:, c].astype(np.float32, copy=False)
        cells[np.isin(column, np.asarray(fills, dtype=np.float32)), c] = np.nan
    return cells


def find_fill_values(
    values: AnyArray,
) -> tuple[dict[int, tuple[float, ...]], dict[int, tuple[float, ...]]]:
    """Return fill values, and values that may be some, by channel.

    A value counts as a fill value if it is listed in `FILL_VALUES` or huge, occurs
    repeatedly, and is far from all other values of its channel.
    """
    candidates = np.isin(values, FILL_VALUES) | (np.abs(values) >= HUGE)
    certain: dict[int, tuple[float, ...]] = {}
    possible: dict[int, tuple[float, ...]] = {}
    for c in np.flatnonzero(candidates.any(axis=0)).tolist():
        column, listed = values[:, c], candidates[:, c]
        others = column[~listed & ~np.isnan(column)].astype(np.float64)
        each, counts = np.unique(column[listed], return_counts=True)
        far, apart = _distances(each.astype(np.float64), others)
        is_fill = far & (counts > np.where(np.abs(each) < 1000, 2, 1))
        may_be = apart & ~is_fill & (counts >= max(5, len(column) // 100))
        if is_fill.any():
            certain[c] = tuple(each[is_fill].tolist())
        if may_be.any():
            possible[c] = tuple(each[may_be].tolist())
    return certain, possible


def _distances(
    each: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> tuple[BoolArray, BoolArray]:
    """Return which values are far from all others, and which are apart from them."""
    huge = np.abs(each) >= HUGE
    if len(others) < MIN_OTHERS:
        return huge, np.zeros_like(huge)
    low, first, middle, last, high = np.quantile(others, [0, 0.01, 0.5, 0.99, 1])
    distance = np.abs(each - middle)
    farthest = np.where(each > middle, high - middle, middle - low)
    far = (distance > FAR * (last - first)) & (distance > BEYOND * farthest)
    varies = high > low
    return far & (huge | varies), (distance > NEAR * farthest) & varies


def _warn_fill_values(
    name: str,
    values: AnyArray,
    fields: Sequence[str],
    certain: Mapping[int, Sequence[float]],
    possible: Mapping[int, Sequence[float]],
) -> None:
    def listing(found: Mapping[int, Sequence[float]]) -> str:
        parts = []
        for c, each in found.items():
            counts = [(values[:, c] == np.float32(v)).sum() for v in each]
            parts += [
                f"{v:g} in {count} cells of channel {fields[c]}"
                for v, count in zip(each, counts, strict=True)
            ]
        return "; ".join(parts[:MAX_LISTED]) + ("; ..." if parts[MAX_LISTED:] else "")

    if certain:
        warn(
            f"Modality {name!r} has fill values, which are treated as missing: "
            f"{listing(certain)}. Replace them by NaN."
        )
    if possible:
        warn(
            f"Modality {name!r} has values that may mark missing cells: "
            f"{listing(possible)}. Replace them by NaN if they do."
        )


def moments(cells: AnyArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and standard deviations of channels; 0 where nothing is observed."""
    known = ~np.isnan(cells)
    count = np.maximum(known.sum(axis=0), 1)
    clean = np.where(known, cells, 0).astype(np.float64)
    mean = clean.sum(axis=0) / count
    square = (np.where(known, clean - mean, 0) ** 2).sum(axis=0) / count
    return tuple(mean.tolist()), tuple(np.sqrt(square).tolist())


def _extreme(values: AnyArray) -> float:
    return float(values[np.abs(values).argmax()])


def _rounded(limits: npt.NDArray[np.float64], direction: int) -> tuple[float, ...]:
    """Return limits rounded away from the data to two digits; infinite if unknown."""
    known = np.where(np.isnan(limits), direction * np.inf, limits)
    size = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(known), 1e-300))) - 1)
    finite = np.isfinite(known)
    scaled = known[finite] / size[finite]
    known[finite] = (np.ceil(scaled) if direction > 0 else np.floor(scaled)) * size[
        finite
    ]
    return tuple(known.tolist())
