"""Experts as JSON, and tensors of unknown origin brought into a model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from mmgraph.errors import CheckpointError
from mmgraph.estimators.panel import ExpertPanel
from mmgraph.estimators.targets import link_of
from mmgraph.nn.experts import JointForest, LinearExpert, TreeExpert
from mmgraph.nn.heads import Task
from mmgraph.nn.pool import EvidencePool
from mmgraph.nn.trees import Forest

# arguments that are no part of a model, or saved apart
OF_THE_MACHINE = ("device", "verbose", "checkpoint_dir", "encoders")
# what JSON of another origin can lead to
WRONG_CONTENT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def plain_value(value: Any) -> Any:  # noqa: ANN401
    """Return an argument as JSON holds it: NumPy scalars become Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    return value


def plain_params(estimator: BaseEstimator) -> dict[str, Any]:
    """Return the arguments of an estimator that are part of its model."""
    params = estimator.get_params(deep=False)
    return plain_values({k: v for k, v in params.items() if k not in OF_THE_MACHINE})


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return named arguments as JSON holds them."""
    return {name: plain_value(value) for name, value in values.items()}


def describe_expert(expert: nn.Module) -> dict[str, Any]:
    """Return what is needed to build an expert before its tensors are loaded."""
    if isinstance(expert, TreeExpert):
        return {"kind": "forest", **forest_sizes(expert.forest)}
    assert isinstance(expert, LinearExpert)
    return {"kind": "linear", "num_knots": len(expert.hinges.knot)}


def forest_sizes(forest: Forest) -> dict[str, int]:
    """Return what is needed to build a forest before its tensors are loaded."""
    return {"num_trees": len(forest.root), "num_nodes": len(forest.feature)}


def build_expert(item: Mapping[str, Any], width: int, task: Task) -> nn.Module:
    """Build what :func:`describe_expert` describes, with empty tensors."""
    sizes = {key: value for key, value in item.items() if key != "kind"}
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)


def describe_experts(
    lists: Iterable[Iterable[nn.Module]],
) -> list[list[dict[str, Any]]]:
    """Return what is needed to build the experts of each modality."""
    return [[describe_expert(expert) for expert in experts] for experts in lists]


def build_experts(
    described: Sequence[Sequence[Mapping[str, Any]]], widths: Sequence[int], task: Task
) -> nn.ModuleList:
    """Build what :func:`describe_experts` describes, with empty tensors."""
    return nn.ModuleList(
        nn.ModuleList(build_expert(item, width, task) for item in items)
        for items, width in zip(described, widths, strict=True)
    )


def describe_panel(panel: ExpertPanel) -> dict[str, Any]:
    """Return what is needed to build a panel before its tensors are loaded."""
    joint = [
        {
            "boosted": each.boosted,
            "num_folds": each.num_folds,
            **forest_sizes(each.forest),
        }
        for each in panel.forests
    ]
    experts = describe_experts(panel.expert_lists)
    patterns = len(panel.pool.patterns)
    return {"experts": experts, "joint": joint, "num_patterns": patterns}


def build_panel(
    described: Mapping[str, Any], widths: Sequence[int], task: Task
) -> ExpertPanel:
    """Build what :func:`describe_panel` describes, with empty tensors."""
    experts = build_experts(described["experts"], widths, task)
    channels, link = task.out_channels, link_of(task)
    for sizes in described["joint"]:
        if sizes["num_trees"] % sizes["num_folds"] or sizes["num_folds"] < 1:
            raise CheckpointError(
                "A joint forest must have as many trees for each fold, got "
                f"{sizes['num_trees']} for {sizes['num_folds']}."
            )
    joint = nn.ModuleList(
        JointForest(widths, channels, link, **sizes) for sizes in described["joint"]
    )
    pool = EvidencePool(
        len(widths),
        len(described["experts"][0]),
        channels,
        num_joint=len(joint),
        num_patterns=described["num_patterns"],
    )
    return ExpertPanel(experts, joint, pool)


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model that was built on the meta device its tensors.

    Raises:
        CheckpointError: Tensors of another type, or trees that point outside.
        RuntimeError: Other names or shapes.
    """
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise CheckpointError(
                f"Tensor {name!r} must be {expected.dtype}, got {tensors[name].dtype}."
            )
    model.load_state_dict(dict(tensors), assign=True)
    for name, module in model.named_modules():
        if isinstance(module, Forest):
            _check_trees(name, module)
        elif isinstance(module, LinearExpert):
            width = module.scaler.channels - len(module.hinges.knot)
            _check_range(f"{name}.hinges.channel", module.hinges.channel, width)


def _check_trees(name: str, forest: Forest) -> None:
    nodes = len(forest.feature)
    _check_range(f"{name}.child", forest.child, nodes)
    _check_range(f"{name}.root", forest.root, nodes)
    _check_range(f"{name}.depth", forest.depth, nodes)
    _check_range(f"{name}.feature", forest.feature, forest.in_features)


def _check_range(name: str, values: Tensor, limit: int) -> None:
    if bool(((values < 0) | (values >= limit)).any()):
        raise CheckpointError(
            f"Tensor {name!r} must hold numbers from 0 to {limit - 1}, got others."
        )
