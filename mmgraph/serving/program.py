"""A fitted estimator as a function of plain tensors.

Letters: ``B`` samples, ``M`` modalities, ``C`` channels, ``K`` outputs.
"""

from copy import deepcopy

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmgraph.batch import Batch
from mmgraph.errors import SchemaError
from mmgraph.estimators import FusionEstimator, FusionRegressor
from mmgraph.nn.trees import Forest
from mmgraph.ops import present_rows
from mmgraph.schema import Full, Schema

TRACED_SAMPLES = 3  # any number but 0 and 1, which torch.export takes for constants


class ServedModel(nn.Module):
    """``[B, C_m]`` by modality to ``[B, K]``, without shapes that depend on data.

    Says what the estimator says: probabilities, or values in the units of training,
    which are float64 because float32 cannot tell large ones apart.

    Args:
        estimator: Fitted; it is copied and stays as it is.

    Raises:
        SchemaError: What needs shapes that depend on the data: ragged modalities, time,
            topologies other than ``Full``.
    """

    scale: Tensor
    mean: Tensor

    def __init__(self, estimator: FusionEstimator) -> None:
        super().__init__()
        check_is_fitted(estimator, "model_")
        check_servable(estimator.schema_)
        self.names = estimator.schema_.modality_names
        self.unseen = frozenset(estimator.unseen_)
        self.model = deepcopy(estimator.model_).cpu().eval()
        _fix_constants(self.model)
        scaled = isinstance(estimator, FusionRegressor)
        scale, mean = (estimator.scale_, estimator.mean_) if scaled else ([1], [0])
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.scaled = scaled

    def forward(self, *rows: Tensor) -> Tensor:
        """Predict from ``[B, C_m]`` in the order of the schema.

        An all-NaN row is a missing modality, a NaN in another row a missing cell.
        """
        x = [
            torch.full_like(each, torch.nan) if name in self.unseen else each
            for name, each in zip(self.names, rows, strict=True)
        ]
        present = present_rows(x)
        batch = Batch.regular(dict(zip(self.names, x, strict=True)), present)
        said: Tensor = self.model(batch, x)
        return said.double() * self.scale + self.mean if self.scaled else said


def check_servable(schema: Schema) -> None:
    """Refuse what cannot be a graph of fixed shapes.

    Raises:
        SchemaError: See :class:`ServedModel`.
    """
    for modality in schema.modalities:
        if modality.tokens != "single" or modality.time:
            got = "time stamps" if modality.tokens == "single" else "ragged rows"
            raise SchemaError(
                f"Modality {modality.name!r} must have one row a sample, without time, "
                f"to be exported, got {got}. Describe each sequence by one vector or "
                "embedding and train on those, or serve with from_pretrained."
            )
    for relation in schema.relations:
        if not isinstance(relation.topology, Full):
            raise SchemaError(
                f"Relation {relation.edge_type} must have the topology Full to be "
                f"exported, got {type(relation.topology).__name__}."
            )


def trace(served: ServedModel, widths: list[int]) -> ExportedProgram:
    """Return the graph of operations, for any number of samples from 1 on.

    Args:
        served: What to trace.
        widths: ``C_m`` of each modality.
    """
    rows = tuple(torch.zeros(TRACED_SAMPLES, width) for width in widths)
    samples = Dim("samples", min=1)
    shapes = (tuple({0: samples} for _ in rows),)
    with torch.no_grad():
        return torch.export.export(served, rows, dynamic_shapes=shapes, strict=False)


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
