"""Samples as the inputs of an exported model.

Letters: ``N`` samples, ``T`` rows of the longest sequence, ``C`` channels.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.data.convert import build_column
from mmgraph.data.features import NUM_FEATURES, describe_rows
from mmgraph.errors import DataError
from mmgraph.estimators.raw import RawInputs
from mmgraph.schema import Modality, Schema
from mmgraph.serving.program import INPUT, LENGTH, TIME, dtype_of, inputs_of

Samples: TypeAlias = MultimodalData | Mapping[str, npt.ArrayLike]
Feed: TypeAlias = dict[str, npt.NDArray[Any]]


def read_samples(X: Samples, schema: Schema) -> Feed:  # noqa: N803
    """Return every input of a model, see :func:`mmgraph.serving.export`.

    Args:
        X: The data, or numbers by modality.
        schema: What the model has learned from.

    Raises:
        DataError: An unknown modality, another width, infinite cells, no times where
            the training had them, modalities of different numbers of samples.
    """
    given = X.columns if isinstance(X, MultimodalData) else X
    unknown = [name for name in given if name not in schema.modality_names]
    if unknown or not given:
        got = ", ".join(map(repr, unknown)) or "none of them"
        known = ", ".join(schema.modality_names)
        raise DataError(f"Samples must have some of the modalities {known}, got {got}.")
    if isinstance(X, MultimodalData):
        return _read_data(X, schema)
    feeds = [_read_array(schema.modality(name), values) for name, values in X.items()]
    sizes = [len(next(iter(feed.values()))) for feed in feeds]
    if len(set(sizes)) > 1:
        raise DataError(
            "Modalities must have equally many samples, got "
            f"{dict(zip(X, sizes, strict=True))}. Mark missing ones by rows of NaN."
        )
    return nothing(schema, sizes[0]) | {k: v for feed in feeds for k, v in feed.items()}


def nothing(schema: Schema, num_samples: int) -> Feed:
    """Return the inputs of samples of which nothing was observed."""
    feed: Feed = {}
    for key, shape in inputs_of(schema).items():
        sizes = {"B": num_samples, "T": 1}
        each = [sizes[s] if isinstance(s, str) else s for s in shape]
        feed[key] = np.full(each, np.nan if key.startswith(INPUT) else 0, dtype_of(key))
    return feed


def _read_data(data: MultimodalData, schema: Schema) -> Feed:
    for modality in data.schema.modalities:
        _check_raw(modality, schema.modality(modality.name))
    numbers = RawInputs().as_numbers(data).conform(schema)
    feed = nothing(schema, len(data))
    for name, column in numbers.columns.items():
        feed |= _from_column(schema.modality(name), column)
    return feed


def _check_raw(given: Modality, learned: Modality) -> None:
    plain = NUM_FEATURES.get(given.kind)
    if plain is not None and learned.channels != plain:
        raise DataError(
            f"Modality {given.name!r} must be the vectors [N, {learned.channels}] of "
            f"its pretrained encoder, got {given.kind}. Compute them with "
            "PretrainedEncoder.encode."
        )


def _read_array(modality: Modality, values: npt.ArrayLike) -> Feed:
    if modality.time:
        raise DataError(
            f"Modality {modality.name!r} must have times as in the training, got "
            "arrays. Build MultimodalData.from_arrays(..., times=...)."
        )
    if modality.tokens == "ragged":
        column = build_column(modality.name, values, tokens="ragged")
        return _from_column(modality, column)
    with np.errstate(over="ignore"):  # what overflows is refused as infinite
        table = np.asarray(values, dtype=np.float32)
    return _of_table(modality, table)


def _from_column(modality: Modality, column: Column) -> Feed:
    """Return the inputs of one modality that fits the schema."""
    if modality.tokens == "ragged":
        return _pad(modality, column)
    feed = _of_table(modality, describe_rows(column, modality.kind))
    if modality.time:
        seconds = np.zeros(len(column))
        seconds[column.present] = 0 if column.time is None else column.time
        feed[TIME + modality.name] = seconds
    return feed


def _of_table(modality: Modality, table: npt.NDArray[np.float32]) -> Feed:
    """Return the input of single rows ``[N, C]``."""
    name, width = modality.name, modality.channels
    if table.ndim == 2 and np.isnan(table).all():  # nothing observed has no width
        table = np.full((len(table), width or 0), np.nan, dtype=np.float32)
    if table.ndim != 2 or table.shape[1] != width:
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
