"""A fitted estimator as a function of plain tensors.

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
from mmgraph.experts.trees import Forest
from mmgraph.ops import present_rows
from mmgraph.schema import Full, Modality, Schema

# dots keep names of modalities from those of operations
INPUT, LENGTH, TIME = "input.", "length.", "time."
DTYPES = {INPUT: "float32", LENGTH: "int64", TIME: "float64"}
TRACED = {"B": 3, "T": 5}  # any numbers but 0 and 1, which are taken for constants
Shape: TypeAlias = tuple[str | int, ...]


def inputs_of(schema: Schema) -> dict[str, Shape]:
    """Return the shape of every input by its name, in order; letters are free.

    ``input.NAME`` is ``[B, C]``, of a sequence ``[B, T, C]`` with ``length.NAME [B]``;
    a modality with time has ``time.NAME``, ``[B]`` or ``[B, T]``.
    """
    return {
        prefix + m.name: shape
        for m in schema.modalities
        for prefix, shape in _shapes(m).items()
    }


def dtype_of(key: str) -> str:
    """Return the type of an input by its name."""
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
    """Inputs by modality to ``[B, K]``, without shapes that depend on data.

    Says what the estimator says: probabilities, or values in the units of training,
    which are float64 because float32 cannot tell large ones apart.

    Args:
        estimator: Fitted; it is copied and stays as it is.

    Raises:
        SchemaError: Topologies other than ``Full``, whose edges depend on the data.
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

    def forward(self, *given: Tensor) -> Tensor:
        """Predict from what :func:`inputs_of` names, in its order.

        An all-NaN row is a missing modality, and so is a sequence of length 0 or of
        such rows; a NaN elsewhere is a missing cell. What stands behind the end of a
        sequence is not read.
        """
        inputs = dict(zip(self.inputs, given, strict=True))
        x, lengths, features = {}, {}, []
        for modality in self.modalities:
            name = modality.name
            rows = inputs[INPUT + name]
            if name in self.unseen:
                rows = torch.full_like(rows, torch.nan)
            if modality.tokens == "ragged":
                lengths[name] = inputs[LENGTH + name]
                features.append(_describe(rows, lengths[name]))
            else:
                features.append(rows)
            x[name] = rows
        present = present_rows(features)
        time = self._since_start(inputs, present)
        batch = Batch.regular(x, present, lengths=lengths, time=time)
        said: Tensor = self.model(batch, features)
        return said.double() * self.scale + self.mean if self.scaled else said

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
    """Return what experts read of padded sequences ``[B, T, C]``: ``[B, 25 C]``."""
    place = torch.arange(rows.shape[1], device=rows.device)
    each = torch.arange(rows.shape[0], device=rows.device)
    x = rows.masked_fill((place >= length[:, None])[..., None], torch.nan)
    length = length.clamp(min=1)
    position = torch.minimum(place, length[:, None] - 1)
    sample = each[:, None].expand(-1, rows.shape[1])
    return describe_sequences(
        x.flatten(0, 1), sample.flatten(), position.flatten(), length
    )


def check_servable(schema: Schema) -> None:
    """Refuse what cannot be a graph of fixed shapes.

    Raises:
        SchemaError: See :class:`ServedModel`.
    """
    for relation in schema.relations:
        if not isinstance(relation.topology, Full):
            raise SchemaError(
                f"Relation {relation.edge_type} must have the topology Full to be "
                f"exported, got {type(relation.topology).__name__}. Serve it with "
                "from_pretrained."
            )


def trace(served: ServedModel) -> ExportedProgram:
    """Return the graph of operations, for any samples and lengths from 1 on."""
    dims = {"B": Dim("samples", min=1)}
    steps = {m.name: Dim(f"steps{i}", min=1) for i, m in enumerate(served.modalities)}
    given, shapes = [], []
    for key, shape in served.inputs.items():
        dtype, name = getattr(torch, dtype_of(key)), key.split(".", 1)[1]
        sizes = [TRACED[s] if isinstance(s, str) else s for s in shape]
        given.append(torch.zeros(sizes, dtype=dtype))
        free = dims | {"T": steps[name]}
        shapes.append({i: free[s] for i, s in enumerate(shape) if isinstance(s, str)})
    with torch.no_grad():
        return torch.export.export(
            served, tuple(given), dynamic_shapes=(tuple(shapes),), strict=False
        )


def _fix_constants(model: nn.Module) -> None:
    """Turn buffers that steer the computation into plain numbers.

    A trace has one course: it must know the depth of trees, and whether the graph
    speaks at all.
    """
    for module in model.modules():
        for name in ("depth", "beta"):
            value = dict(module.named_buffers(recurse=False)).get(name)
            if value is not None:
                delattr(module, name)
                setattr(module, name, value.item())


def replace_forests(model: nn.Module, build: type[nn.Module]) -> list[Forest]:
    """Put ``build(number, forest)`` in the place of each forest; return the forests."""
    forests: list[Forest] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Forest):
                setattr(parent, name, build(len(forests), child))
                forests.append(child)
    return forests
