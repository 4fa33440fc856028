"""What estimators accept, brought into the form that models take."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.errors import DataError, SchemaError
from mmgraph.schema import Modality, Schema

ARRAY_MODALITY = "x"


def embed_text(data: MultimodalData) -> MultimodalData:
    """Replace text by embeddings of hashed word counts, which need no pretrained model.

    Raises:
        SchemaError: The schema names a pretrained encoder for the text.
    """
    text = [name for name, column in data.columns.items() if column.is_text]
    if not text:
        return data
    features = data.select(text).features()
    columns = dict(data.columns)
    for name in text:
        column = columns[name]
        rows = features[name][column.present]
        columns[name] = Column(rows, column.offsets)
    modalities = [_without_text(m, columns) for m in data.schema.modalities]
    schema = _with_modalities(data.schema, modalities)
    return MultimodalData.from_columns(
        columns,
        y=data.y,
        ids=data.ids,
        groups=data.groups,
        split_name=data.split_name,
        schema=schema,
    )


def _without_text(modality: Modality, columns: dict[str, Column]) -> Modality:
    if modality.kind != "text":
        return modality
    if modality.encoder is not None:
        raise SchemaError(
            f"Modality {modality.name!r} must be text without a pretrained encoder, "
            f"got encoder={modality.encoder!r}. Embed it first and give the embeddings "
            "as a modality of kind 'embedding'."
        )
    width = columns[modality.name].channels
    return Modality(modality.name, width, kind="embedding")


def _with_modalities(schema: Schema, modalities: list[Modality]) -> Schema:
    return Schema(modalities, schema.latents, schema.relations, schema.readout)


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


def labels_to_score(X: Any, y: Any) -> npt.NDArray[Any]:  # noqa: ANN401, N803
    """Return the labels that a score needs, given or of the data."""
    if y is None:
        y = X.y if isinstance(X, MultimodalData) else None
    if y is None:
        raise DataError("score needs labels, got none. Pass score(data, y).")
    return np.asarray(y)
