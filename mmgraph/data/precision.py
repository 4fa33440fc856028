"""Digits that are lost where numbers are stored as float32.

Shapes: N rows, C channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmgraph.data.column import AnyArray
from mmgraph.data.notices import MAX_LISTED, warn

_MAX_EXACT = 2.0**24  # whole numbers up to it are exact in float32
_MAX_WHOLE = 2.0**53
_COARSE = 1e-3  # steps of a channel, as a share of its range, that are reported


def as_float32(name: str, values: AnyArray, fields: Sequence[str] = ()) -> AnyArray:
    """Return numbers as float32, with a warning where that loses digits.

    Args:
        name: Name of the modality, for the warning.
        values: ``[N]`` or ``[..., C]`` numbers.
        fields: Names of the C channels, or empty.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = values.astype(np.float32, copy=False)
    warn_lost_digits(name, values, rows, fields)
    return rows


def warn_lost_digits(
    name: str, values: AnyArray, rows: AnyArray, fields: Sequence[str] = ()
) -> None:
    """Warn about channels whose values differ more finely than float32 resolves.

    These are whole numbers above 2**24 that change, and channels whose steps in float32
    exceed a thousandth of their range, such as seconds since 1970 within an hour.

    Args:
        name: Name of the modality.
        values: ``[N]`` or ``[..., C]`` numbers.
        rows: The same numbers as float32.
        fields: Names of the C channels, or empty.
    """
    if values.dtype.itemsize <= 2 or values.dtype == np.float32 or not values.size:
        return
    table = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values[:, None]
    stored = rows.reshape(table.shape)
    lost = [
        c
        for c, coarse in _suspects(stored).items()
        if _loses_digits(table[:, c], stored[:, c], coarse=coarse)
    ]
    if lost:
        listed = [
            _describe(
                fields[c] if len(fields) else str(c), table[~np.isnan(stored[:, c]), c]
            )
            for c in lost[:MAX_LISTED]
        ]
        warn(
            f"Modality {name!r} is stored as float32, which loses digits of "
            f"{'; '.join(listed)}{'; ...' if len(lost) > MAX_LISTED else ''}. Subtract "
            "an origin (such as the first value) or use a larger unit, so that the "
            "differences stay; read codes as categories, and convert dates such as "
            "20240131 to a type of dates."
        )


def warn_lost_digits_of_list(
    name: str, items: Sequence[Any], arrays: Sequence[AnyArray]
) -> None:
    """Warn about lost digits of sequences; see :func:`warn_lost_digits`.

    Args:
        name: Name of the modality.
        items: Values of each sample.
        arrays: ``[T, C]`` the same values as float32.
    """
    rows = np.concatenate(arrays)
    if rows.size and _suspects(rows):
        pairs = zip(items, arrays, strict=True)
        exact = [
            np.asarray(item, dtype=np.float64).reshape(a.shape) for item, a in pairs
        ]
        warn_lost_digits(name, np.concatenate(exact), rows)


def _suspects(rows: AnyArray) -> dict[int, bool]:
    """Return the channels of ``[L, C]`` that may have lost digits.

    The value is True where the steps of a channel are coarse for its range.
    """
    low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    largest = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = high.astype(np.float64) - low
        coarse = largest * 2.0**-23 > _COARSE * spread
    suspect = np.isfinite(largest) & (coarse | (largest > _MAX_EXACT))
    return {int(c): bool(coarse[c]) for c in np.flatnonzero(suspect)}


def _loses_digits(values: AnyArray, stored: AnyArray, *, coarse: bool) -> bool:
    """Return True if whole numbers change, or others by a share of their range."""
    known = ~np.isnan(stored)
    exact = values[known].astype(np.float64)
    error = np.abs(stored[known].astype(np.float64) - exact)
    if (np.mod(exact, 1) == 0).all():
        return bool(error[np.abs(exact) < _MAX_WHOLE].any())
    return coarse and bool(error.max() > _COARSE * np.ptp(exact) > 0)


def _describe(field: str, values: AnyArray) -> str:
    low, high = values.min(), values.max()
    step = np.spacing(np.float32(max(abs(low), abs(high))))
    return f"channel {field} ({low:.12g} to {high:.12g} in steps of {step:.2g})"
