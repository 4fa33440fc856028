"""Experts as JSON, and tensors of unknown origin brought into a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from mmgraph.errors import CheckpointError
from mmgraph.estimators.evidence import link_of
from mmgraph.nn.experts import LinearExpert, TreeExpert
from mmgraph.nn.heads import Task

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


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return named arguments as JSON holds them."""
    return {name: plain_value(value) for name, value in values.items()}


def describe_expert(expert: nn.Module) -> dict[str, Any]:
    """Return what is needed to build an expert before its tensors are loaded."""
    if isinstance(expert, TreeExpert):
        trees, nodes = len(expert.root), len(expert.feature)
        return {"kind": "forest", "num_trees": trees, "num_nodes": nodes}
    assert isinstance(expert, LinearExpert)
    return {"kind": "linear", "num_knots": len(expert.hinges.knot)}


def build_expert(item: Mapping[str, Any], width: int, task: Task) -> nn.Module:
    """Build what :func:`describe_expert` describes, with empty tensors."""
    sizes = {key: value for key, value in item.items() if key != "kind"}
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)


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
        if isinstance(module, TreeExpert):
            _check_tree(name, module)
        elif isinstance(module, LinearExpert):
            width = module.scaler.channels - len(module.hinges.knot)
            _check_range(f"{name}.hinges.channel", module.hinges.channel, width)


def _check_tree(name: str, tree: TreeExpert) -> None:
    nodes = len(tree.feature)
    _check_range(f"{name}.child", tree.child, nodes)
    _check_range(f"{name}.root", tree.root, nodes)
    _check_range(f"{name}.depth", tree.depth, nodes)
    _check_range(f"{name}.feature", tree.feature, tree.scaler.out_channels)


def _check_range(name: str, values: Tensor, limit: int) -> None:
    if bool(((values < 0) | (values >= limit)).any()):
        raise CheckpointError(
            f"Tensor {name!r} must hold numbers from 0 to {limit - 1}, got others."
        )
