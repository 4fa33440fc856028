"""Base learners as JSON and tensors.

A configuration has what is needed to build a module before its tensors are loaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmgraph.errors import CheckpointError
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.joint import JointForest
from mmgraph.experts.linear import LinearExpert
from mmgraph.experts.links import link_of
from mmgraph.experts.trees import Forest
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.nn.heads import Task


def expert_config(expert: nn.Module) -> dict[str, Any]:
    """Return what is needed to build an expert before its tensors are loaded."""
    if isinstance(expert, TreeExpert):
        return {"kind": "forest", **forest_sizes(expert.forest)}
    assert isinstance(expert, LinearExpert)
    return {"kind": "linear", "num_knots": len(expert.hinges.knot)}


def forest_sizes(forest: Forest) -> dict[str, int]:
    """Return what is needed to build a forest before its tensors are loaded."""
    return {"num_trees": len(forest.root), "num_nodes": len(forest.feature)}


def expert_from_config(item: Mapping[str, Any], width: int, task: Task) -> nn.Module:
    """Build what :func:`expert_config` describes, with empty tensors."""
    sizes = {key: value for key, value in item.items() if key != "kind"}
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)


def experts_config(
    lists: Iterable[Iterable[nn.Module]],
) -> list[list[dict[str, Any]]]:
    """Return what is needed to build the experts of each modality."""
    return [[expert_config(expert) for expert in experts] for experts in lists]


def experts_from_config(
    described: Sequence[Sequence[Mapping[str, Any]]], widths: Sequence[int], task: Task
) -> nn.ModuleList:
    """Build what :func:`experts_config` describes, with empty tensors."""
    return nn.ModuleList(
        nn.ModuleList(expert_from_config(item, width, task) for item in items)
        for items, width in zip(described, widths, strict=True)
    )


def ensemble_config(ensemble: ExpertEnsemble) -> dict[str, Any]:
    """Return what is needed to build a ensemble before its tensors are loaded."""
    joint = [
        {
            "boosted": each.boosted,
            "num_folds": each.num_folds,
            **forest_sizes(each.forest),
        }
        for each in ensemble.forests
    ]
    experts = experts_config(ensemble.expert_lists)
    patterns = len(ensemble.pool.patterns)
    return {"experts": experts, "joint": joint, "num_patterns": patterns}


def ensemble_from_config(
    described: Mapping[str, Any], widths: Sequence[int], task: Task
) -> ExpertEnsemble:
    """Build what :func:`ensemble_config` describes, with empty tensors."""
    experts = experts_from_config(described["experts"], widths, task)
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
    return ExpertEnsemble(experts, joint, pool)


def check_ranges(model: nn.Module) -> None:
    """Refuse tensors that index outside of other tensors.

    Raises:
        CheckpointError: If a tree or a piecewise-linear feature points outside.
    """
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
