"""Fitted estimators as functions of plain tensors, and their traces.

Letters: ``B`` samples, ``M`` modalities, ``T`` rows of the longest sequence, ``C``
channels, ``K`` outputs.
"""

from copy import deepcopy
from typing import TypeAlias

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmgraph.data.batch import Batch
from mmgraph.data.features.describe import describe_sequences
from mmgraph.errors import SchemaError
from mmgraph.estimators import FusionEstimator, FusionRegressor
from mmgraph.estimators.check import UNRELIABLE
from mmgraph.experts.trees import Forest
from mmgraph.ops import present_rows
from mmgraph.schema import Full, Modality, Schema

# the dot keeps names of inputs apart from names of operations
INPUT, LENGTH, TIME = "input.", "length.", "time."
DTYPES = {INPUT: "float32", LENGTH: "int64", TIME: "float64"}
TRACED = {"B": 3, "T": 5}  # example sizes; torch.export specializes 0 and 1
Shape: TypeAlias = tuple[str | int, ...]


def inputs_of(schema: Schema) -> dict[str, Shape]:
    """Return the shapes of the inputs of an exported model by name, in order.

    ``input.NAME`` has shape ``[B, C]``, or ``[B, T, C]`` for a sequence, which also has
    ``length.NAME [B]``. A modality with time has ``time.NAME``, ``[B]`` or ``[B, T]``.

    Args:
        schema: Schema of the estimator.

    Returns:
        Shapes with the letters "B" and "T" for variable sizes.

    Example:
        >>> from mmgraph import serving
        >>> serving.inputs_of(Schema.star([Modality("labs", 3)]))
        {'input.labs': ('B', 3)}
    """
    return {
        prefix + m.name: shape
        for m in schema.modalities
        for prefix, shape in _shapes(m).items()
    }


def dtype_of(key: str) -> str:
    """Return the dtype of an input by its name."""
    return DTYPES[key[: key.index(".") + 1]]


def _shapes(modality: Modality) -> dict[str, Shape]:
    assert modality.channels is not None
    ragged = modality.tokens == "ragged"
    steps: Shape = ("B", "T") if ragged else ("B",)
    shapes: dict[str, Shape] = {INPUT: (*steps, modality.channels)}
    if ragged:
        shapes[LENGTH] = ("B",)
    if modality.time:
        shapes[TIME] = steps
    return shapes


class ServedModel(nn.Module):
    """Prediction function of an estimator, without data-dependent shapes.

    The output ``[B, K]`` are probabilities, or predicted values in the units of the
    targets. Values are float64, because float32 has too few digits for large ones.

    Args:
        estimator: Fitted estimator; it is copied.

    Raises:
        SchemaError: If a relation has a topology other than ``Full``, whose edges
            depend on the data.
    """

    scale: Tensor
    mean: Tensor

    def __init__(self, estimator: FusionEstimator) -> None:
        super().__init__()
        check_is_fitted(estimator, "model_")
        check_servable(estimator.schema_)
        self.modalities = estimator.schema_.modalities
        self.inputs = inputs_of(estimator.schema_)
        self.unseen = frozenset(estimator.unseen_)
        self.model = deepcopy(estimator.model_).cpu().eval()
        _fix_constants(self.model)
        scaled = isinstance(estimator, FusionRegressor)
        scale, mean = (estimator.scale_, estimator.mean_) if scaled else ([1], [0])
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.scaled = scaled

    def forward(self, *tensors: Tensor) -> Tensor:
        """Predict from the inputs of :func:`inputs_of`, in that order.

        A row that is all NaN is a missing modality, as is a sequence of length 0 or of
        such rows; any other NaN is a missing cell. Values beyond the length of a
        sequence are not read.

        Returns:
            ``[B, K]``.
        """
        inputs = dict(zip(self.inputs, tensors, strict=True))
        x, lengths, features = {}, {}, []
        for m, modality in enumerate(self.modalities):
            name = modality.name
            rows = inputs[INPUT + name]
            if name in self.unseen:
                rows = torch.full_like(rows, torch.nan)
            if modality.tokens == "ragged":
                lengths[name] = inputs[LENGTH + name]
                features.append(_describe(rows, lengths[name]))
            else:
                features.append(rows)
            if self.model.typicality is not None:
                reliable = self.model.typicality[m](features[m]) >= UNRELIABLE
                features[m] = features[m].masked_fill(~reliable[:, None], torch.nan)
                steps = (1,) * (rows.ndim - 1)
                rows = rows.masked_fill(~reliable.view(-1, *steps), torch.nan)
            x[name] = rows
        present = present_rows(features)
        time = self._since_start(inputs, present)
        batch = Batch.regular(x, present, lengths=lengths, time=time)
        outputs: Tensor = self.model(batch, features)
        return outputs.double() * self.scale + self.mean if self.scaled else outputs

    def _since_start(
        self, inputs: dict[str, Tensor], present: Tensor
    ) -> dict[str, Tensor]:
        """Return seconds since the first observation of each sample, by modality."""
        timed = [(i, m) for i, m in enumerate(self.modalities) if m.time]
        if not timed:
            return {}
        seconds = {m.name: inputs[TIME + m.name] for _, m in timed}
        first = [
            seconds[m.name]
            .view(present.shape[0], -1)[:, 0]
            .where(present[:, i], torch.inf)
            for i, m in timed
        ]
        start = torch.stack(first, 1).amin(1)
        return {
            name: t - (start if t.ndim == 1 else start[:, None])
            for name, t in seconds.items()
        }


def _describe(rows: Tensor, length: Tensor) -> Tensor:
    """Return the features ``[B, 25 C]`` of padded sequences ``[B, T, C]``."""
    index = torch.arange(rows.shape[1], device=rows.device)
    each = torch.arange(rows.shape[0], device=rows.device)
    x = rows.masked_fill((index >= length[:, None])[..., None], torch.nan)
    length = length.clamp(min=1)
    position = torch.minimum(index, length[:, None] - 1)
    sample = each[:, None].expand(-1, rows.shape[1])
    return describe_sequences(
        x.flatten(0, 1), sample.flatten(), position.flatten(), length
    )


def check_servable(schema: Schema) -> None:
    """Check that the shapes of all operations are independent of the data.

    Raises:
        SchemaError: If a relation has a topology other than ``Full``.
    """
    for relation in schema.relations:
        if not isinstance(relation.topology, Full):
            raise SchemaError(
                f"Relation {relation.edge_type} must have the topology Full to be "
                f"exported, got {type(relation.topology).__name__}. Load the "
                "estimator by from_pretrained instead."
            )


def trace(served: ServedModel) -> ExportedProgram:
    """Return the traced program, for variable numbers of samples and lengths."""
    dims = {"B": Dim("samples", min=1)}
    steps = {m.name: Dim(f"steps{i}", min=1) for i, m in enumerate(served.modalities)}
    examples, shapes = [], []
    for key, shape in served.inputs.items():
        dtype, name = getattr(torch, dtype_of(key)), key.split(".", 1)[1]
        sizes = [TRACED[s] if isinstance(s, str) else s for s in shape]
        examples.append(torch.zeros(sizes, dtype=dtype))
        free = dims | {"T": steps[name]}
        shapes.append({i: free[s] for i, s in enumerate(shape) if isinstance(s, str)})
    with torch.no_grad():
        return torch.export.export(
            served, tuple(examples), dynamic_shapes=(tuple(shapes),), strict=False
        )


def _fix_constants(model: nn.Module) -> None:
    """Replace buffers that control the computation by Python numbers.

    A trace follows a single path, so that the depth of trees and the weight of the
    graph network must be constants.
    """
    for module in model.modules():
        for name in ("depth", "beta"):
            value = dict(module.named_buffers(recurse=False)).get(name)
            if value is not None:
                delattr(module, name)
                setattr(module, name, value.item())


def replace_forests(model: nn.Module, build: type[nn.Module]) -> list[Forest]:
    """Replace each forest by ``build(number, forest)``; return the forests in order."""
    forests: list[Forest] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Forest):
                setattr(parent, name, build(len(forests), child))
                forests.append(child)
    return forests
