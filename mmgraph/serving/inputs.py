"""Conversion of samples to the inputs of an exported model.

Letters: ``N`` samples, ``T`` rows of the longest sequence, ``C`` channels.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.data.features.describe import describe_rows
from mmgraph.data.validation import count_samples
from mmgraph.errors import DataError
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.schema import Modality, Schema
from mmgraph.serving.program import INPUT, LENGTH, TIME, dtype_of, inputs_of

ModelInput: TypeAlias = MultimodalData | Mapping[str, Any]
Feed: TypeAlias = dict[str, npt.NDArray[Any]]


def read_samples(X: ModelInput, inputs: InputSpec) -> Feed:  # noqa: N803
    """Return all inputs of a model by name; see :func:`mmgraph.serving.export`.

    Args:
        X: Samples, or values by modality as in ``MultimodalData.from_arrays``.
        inputs: Input specification of the model.

    Raises:
        DataError: If a modality is unknown, has another width, kind or number of
            samples, has infinite cells, or lacks times that the training had.
    """
    names = inputs.schema.modality_names
    given = X.columns if isinstance(X, MultimodalData) else X
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        got = ", ".join(map(repr, unknown)) or "none"
        raise DataError(
            f"X must have at least one of the modalities {', '.join(names)}, and no "
            f"others, got {got}."
        )
    if isinstance(X, MultimodalData):
        return empty_inputs(inputs.schema, len(X)) | _read_data(X, inputs)
    num_samples = count_samples(X)
    feed = empty_inputs(inputs.schema, num_samples)
    for name, values in X.items():
        modality = inputs.schema.modality(name)
        if _is_table(values) and modality.tokens == "single" and not modality.time:
            feed |= _of_table(modality, inputs.read_table(name, values))
        else:
            feed |= _read_data(MultimodalData.from_arrays({name: values}), inputs)
    return feed


def empty_inputs(schema: Schema, num_samples: int) -> Feed:
    """Return the inputs of samples without any observed modality."""
    feed: Feed = {}
    for key, shape in inputs_of(schema).items():
        sizes = {"B": num_samples, "T": 1}
        each = [sizes[s] if isinstance(s, str) else s for s in shape]
        feed[key] = np.full(each, np.nan if key.startswith(INPUT) else 0, dtype_of(key))
    return feed


def _read_data(data: MultimodalData, inputs: InputSpec) -> Feed:
    """Return the inputs of the modalities of the data."""
    names = [name for name in data.modalities if name not in inputs.unseen]
    feed: Feed = {}
    if not names:
        return feed
    data = inputs.read(data.select(names))
    for name, column in data.columns.items():
        feed |= _from_column(inputs.schema.modality(name), column)
    return feed


def _is_table(values: npt.ArrayLike) -> bool:
    """Return True for an array ``[N, C]`` of numbers, which needs no conversion."""
    return (
        type(values) is np.ndarray and values.ndim == 2 and values.dtype.kind in "fiub"
    )


def _from_column(modality: Modality, column: Column) -> Feed:
    """Return the inputs of one modality."""
    if modality.tokens == "ragged":
        return _pad(modality, column)
    feed = _of_table(modality, describe_rows(column, modality.kind))
    if modality.time:
        seconds = np.zeros(len(column))
        seconds[column.present] = 0 if column.time is None else column.time
        feed[TIME + modality.name] = seconds
    return feed


def _of_table(modality: Modality, values: npt.ArrayLike) -> Feed:
    """Return the input of single rows ``[N, C]``."""
    name, width = modality.name, modality.channels
    with np.errstate(over="ignore"):  # overflow becomes an error below
        table = np.asarray(values, dtype=np.float32)
    if np.isnan(table).all():  # unobserved modalities may have any width
        table = np.full((len(table), width or 0), np.nan, dtype=np.float32)
    if table.shape[1] != width:
        raise DataError(
            f"Modality {name!r} must have shape [N, {width}], got {list(table.shape)}."
        )
    if np.isinf(table).any():
        raise DataError(
            f"Modality {name!r} must be finite or NaN in float32, got an infinite "
            "value. Mark missing cells by NaN."
        )
    return {INPUT + name: table}


def _pad(modality: Modality, column: Column) -> Feed:
    """Return the inputs of sequences: rows ``[N, T, C]``, lengths, seconds."""
    name, width = modality.name, modality.channels
    if len(column.values) and column.channels != width:
        raise DataError(
            f"Modality {name!r} must have shape [N, T, {width}], got sequences of "
            f"{column.channels} channels."
        )
    sample = column.sample
    cell = sample, np.arange(len(sample)) - column.offsets[sample]
    shape = (len(column), max(int(column.lengths.max(initial=0)), 1))
    rows = np.full((*shape, width or 0), np.nan, dtype=np.float32)
    feed: Feed = {INPUT + name: rows, LENGTH + name: column.lengths}
    if len(sample):
        rows[cell] = column.values
    if modality.time:
        feed[TIME + name] = np.zeros(shape)
        if column.time is not None:
            feed[TIME + name][cell] = column.time
    return feed
