"""Imputation of modalities that all samples of a group share.

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

SAME = 1e-3  # squared distance relative to the mean squared norm: equal up to rounding
ENOUGH_REPEATS = 10  # rows that repeat the first row of their group


def impute_from_group(data: MultimodalData) -> MultimodalData:
    """Impute a missing modality with the row that all other samples of the group share.

    A modality is imputed if it is constant within groups: in every group, all rows are
    equal up to rounding, with at least ten repeated rows in total. An example are
    drawings that are grouped by their caption. Data without groups, or whose groups
    share something else, such as a hospital, are returned unchanged.

    Args:
        data: ``N`` samples.

    Returns:
        The samples, with imputed rows.
    """
    if data.groups is None or data.present.all():
        return data
    groups = encode_groups(data.groups, len(data))
    columns = dict(data.columns)
    for name, x in data.features().items():
        present = columns[name].present
        source = _first_of_group(groups, present)
        if not present.all() and _is_constant(x, source, np.flatnonzero(present)):
            columns[name] = columns[name].take(source)
    return replace(data, columns=columns).with_schema(data.schema)


def _first_of_group(groups: IntArray, present: BoolArray) -> IntArray:
    """Return the first sample of each sample's group that is present, or itself."""
    rows = np.flatnonzero(present)
    first = np.full(groups.max(initial=-1) + 1, -1)
    first[groups[rows[::-1]]] = rows[::-1]
    source = first[groups]
    return np.where(source < 0, np.arange(len(groups)), source)


def _is_constant(x: FloatArray, source: IntArray, rows: IntArray) -> bool:
    """Return True if all rows of ``x [N, F]`` equal the first of their group."""
    repeated = rows[source[rows] != rows]
    if len(repeated) < ENOUGH_REPEATS:
        return False
    known = ~np.isnan(x)
    total = np.where(known, x, 0)[rows].sum(0)
    x = np.where(known, x - total / np.maximum(known[rows].sum(0), 1), 0)
    distance = np.square(x[repeated] - x[source[repeated]]).sum(1)
    return bool(distance.max() <= SAME * np.square(x[rows]).sum(1).mean())
