"""What estimators accept, brought into the form that models take."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import empty_column
from mmgraph.data.labels import as_plain, missing_labels
from mmgraph.data.words import align_channels
from mmgraph.errors import DataError
from mmgraph.schema import Schema

ARRAY_MODALITY = "x"


def features_of(
    data: MultimodalData, schema: Schema, widths: list[int]
) -> list[Tensor]:
    """Return ``[N, F_m]`` by modality of the schema; all NaN where data has none.

    Raises:
        DataError: Features of another width than those that were learned from.
    """
    features = data.features()
    result = []
    for name, width in zip(schema.modality_names, widths, strict=True):
        x = features.get(name)
        if x is None or not data.columns[name].present.any():
            x = np.full((len(data), width), np.nan, dtype=np.float32)
        if x.shape[1] != width:
            raise DataError(
                f"Modality {name!r} must have {width} features, got {x.shape[1]}."
            )
        result.append(torch.from_numpy(x))
    return result


def with_all(data: MultimodalData, schema: Schema) -> MultimodalData:
    """Return the data with every modality of a schema, in its order."""
    columns = {
        name: data.columns.get(name) or empty_column(len(data))
        for name in schema.modality_names
    }
    return replace(data, columns=columns)


def channel_names(data: MultimodalData) -> dict[str, tuple[str, ...]]:
    """Return the names of the channels of the modalities that have them."""
    return {name: c.names for name, c in data.columns.items() if c.names}


def in_order(
    data: MultimodalData, names: Mapping[str, tuple[str, ...]]
) -> MultimodalData:
    """Return the data with the channels of each modality in the order of the training.

    Channels without names are taken as they come; words as :func:`align_channels` does.

    Args:
        data: The samples.
        names: Channels by modality, as :func:`channel_names` returned them.

    Raises:
        DataError: Other channels than those of the training.
    """
    columns = dict(data.columns)
    for name in names.keys() & columns.keys():
        column, wanted = columns[name], names[name]
        if not len(column.values) or column.names in ((), wanted):
            continue
        columns[name] = align_channels(name, column, wanted)
    return replace(data, columns=columns)


def labelled(data: MultimodalData, y: Any) -> MultimodalData:  # noqa: ANN401
    """Return the data with these labels, or its own where ``y`` is None.

    Raises:
        DataError: No labels, or as many as there are not samples.
    """
    if y is not None:
        return data.replace(y=y)
    if data.y is None:
        raise DataError(
            "fit needs labels, got data without y. Pass fit(data, y) or build the data "
            "with y=labels."
        )
    return data


def refuse_mapping(X: Any) -> None:  # noqa: ANN401, N803
    """Refuse arrays by modality that are not data yet.

    Raises:
        DataError: Saying how to build them.
    """
    if isinstance(X, Mapping):
        raise DataError(
            "X must be MultimodalData, a stream or an array [N, C], got a dict of "
            f"{', '.join(map(str, X)) or 'nothing'}. Build it with "
            "MultimodalData.from_arrays(X)."
        )


@contextmanager
def naming_frames(X: Any) -> Iterator[None]:  # noqa: ANN401, N803
    """Tell how to build data where a table is no array of numbers.

    Raises:
        DataError: Saying how to build them.
    """
    try:
        yield
    except ValueError as error:
        columns = getattr(X, "columns", None)
        if columns is None:
            raise
        raise DataError(
            "X must be MultimodalData, a stream or numbers [N, C], got a table of "
            f"{', '.join(map(str, columns[:5]))}: {error}.",
            "Build it with MultimodalData.from_pandas(X, modalities={name: columns}).",
        ) from None


def labels_to_score(
    X: Any,  # noqa: ANN401, N803
    y: Any,  # noqa: ANN401
    shape: tuple[int, ...],
) -> npt.NDArray[Any]:
    """Return the labels that a score needs, given or of the data, of this shape.

    Raises:
        DataError: No labels, none that is known, or of another shape.
    """
    if y is None:
        y = X.y if isinstance(X, MultimodalData) else None
        y = X.labels() if isinstance(X, MultimodalStream) else y
    if y is None:
        raise DataError("score needs labels, got none. Pass score(data, y).")
    truth = as_plain("y", y, shape[0])
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.size == shape[0] and len(shape) == 2 and shape[1] == 1:
        truth = truth[:, None]
    if truth.shape != shape:
        raise DataError(
            f"y must have the shape of predictions, {list(shape)}, got "
            f"{list(truth.shape)}."
        )
    if missing_labels(truth).all():
        raise DataError("score needs at least one known label, got none.")
    return truth


def check_modalities(data: MultimodalData, schema: Schema) -> None:
    """Refuse training data that lack a modality of the schema.

    Raises:
        DataError: Naming the first one.
    """
    absent = [name for name in schema.modality_names if name not in data.columns]
    if absent:
        raise DataError(
            f"Training data must have the modality {absent[0]!r} of the schema, got "
            f"{', '.join(data.modalities)}."
        )
