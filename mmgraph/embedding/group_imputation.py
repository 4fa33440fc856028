"""What all samples of a group have in common is known of those that lack it.

Letters: ``N`` samples, ``F`` features.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import IntArray
from mmgraph.data.splits import encode_groups

BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

SAME = 1e-3  # squared distance, of the mean squared size: equal up to rounding
ENOUGH_REPEATS = 10  # that are not the first of their group


def impute_from_group(data: MultimodalData) -> MultimodalData:
    """Give samples that lack a modality the row that all others of their group share.

    Done where groups have one row in common: in every group with two or more, these
    are the same up to rounding, as the caption of drawings that are grouped by it is;
    and there are at least ten such repeats to tell by. Data without groups, or whose
    groups only have something else in common, such as a hospital, is left as it is.

    Args:
        data: N samples; groups may be None.
    """
    if data.groups is None or data.present.all():
        return data
    groups = encode_groups(data.groups, len(data))
    columns = dict(data.columns)
    for name, x in data.features().items():
        present = columns[name].present
        source = _first_of_group(groups, present)
        if not present.all() and _say_the_same(x, source, np.flatnonzero(present)):
            columns[name] = columns[name].take(source)
    return replace(data, columns=columns).with_schema(data.schema)


def _first_of_group(groups: IntArray, present: BoolArray) -> IntArray:
    """Return for each sample the first of its group that is present, or itself."""
    rows = np.flatnonzero(present)
    first = np.full(groups.max(initial=-1) + 1, -1)
    first[groups[rows[::-1]]] = rows[::-1]
    source = first[groups]
    return np.where(source < 0, np.arange(len(groups)), source)


def _say_the_same(x: FloatArray, source: IntArray, rows: IntArray) -> bool:
    """Tell whether what comes again in a group is its first row, of ``x [N, F]``."""
    again = rows[source[rows] != rows]
    if len(again) < ENOUGH_REPEATS:
        return False
    known = ~np.isnan(x)
    total = np.where(known, x, 0)[rows].sum(0)
    x = np.where(known, x - total / np.maximum(known[rows].sum(0), 1), 0)
    apart = np.square(x[again] - x[source[again]]).sum(1)
    return bool(apart.max() <= SAME * np.square(x[rows]).sum(1).mean())
