"""From columns to the packed tensors of a batch, by vectorised gathers.

Shapes: B samples, C channels, L rows.
"""

from collections.abc import Mapping

import numpy as np
import torch

from mmgraph.batch import Batch
from mmgraph.data.column import AnyArray, Column, IntArray
from mmgraph.errors import DataError


def collate(
    columns: Mapping[str, Column], y: AnyArray | None, indices: IntArray
) -> Batch:
    """Pack some samples; what is missing has no rows.

    Args:
        columns: the modalities of all samples.
        y: labels of all samples. Floats become float32, integers and booleans int64;
            strings are left out, as they have to become codes first.
        indices: ``[B]`` samples.

    Returns:
        The batch. Times count from the sample's first time over all its timed
        modalities, in float64: the differences of late ones need its digits.

    Raises:
        DataError: when a modality is text, which has no numbers yet.
    """
    x, sample, time, most = {}, {}, {}, {}
    start, each = _first_times(columns, indices), np.arange(len(indices))
    for name, column in columns.items():
        if column.is_text:
            raise DataError(
                f"Modality {name!r} must be numbers in a batch, got text. Encode it "
                "as an embedding first, leave it out with select, or let a model with "
                "an encoder for it make the batch: FusionModel.batch."
            )
        rows, lengths = column.rows_of(indices)
        owner = np.repeat(each, lengths)
        x[name] = torch.from_numpy(column.values.take(rows, axis=0))
        sample[name] = torch.from_numpy(owner)
        most[name] = int(lengths.max(initial=0))
        if column.time is not None:
            time[name] = torch.from_numpy(column.time[rows] - start[owner])
    labels = None if y is None else _as_target(y[indices])
    return Batch(
        num_samples=len(indices), x=x, sample=sample, time=time, y=labels, most=most
    )


def _first_times(columns: Mapping[str, Column], indices: IntArray) -> AnyArray:
    """Return ``[B]`` the first time of each sample, infinite where it has none."""
    start = np.full(len(indices), np.inf)
    for column in columns.values():
        if column.time is not None:
            has = column.present[indices]
            first = column.time[column.offsets[indices[has]]]
            start[has] = np.minimum(start[has], first)
    return start


def _as_target(y: AnyArray) -> torch.Tensor | None:
    if y.dtype.kind == "f":
        return torch.from_numpy(y.astype(np.float32))
    if y.dtype.kind in "iub":
        return torch.from_numpy(y.astype(np.int64))
    return None
