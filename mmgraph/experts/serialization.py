"""Configurations of base learners as JSON.

A configuration holds the sizes with which a module is built before its tensors are
loaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgraph.checkpoint import check_finite
from mmgraph.errors import CheckpointError
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.joint import JointForest
from mmgraph.experts.linear import LinearExpert
from mmgraph.experts.links import link_of
from mmgraph.experts.product_view import ProductView
from mmgraph.experts.relations import MAX_OBJECTS, ObjectView, RelationExpert
from mmgraph.experts.submodels import ConvolutionExpert, PriorExpert, Submodels
from mmgraph.experts.text_pairs import MAX_SAMPLES, PairKernelExpert
from mmgraph.experts.trees import Forest
from mmgraph.experts.views import SequenceView, VectorView, View
from mmgraph.files import shorten
from mmgraph.nn.evidence_pool import EvidencePool, SubmodelPool
from mmgraph.nn.heads import Task
from mmgraph.schema import MAX_PLACES


def expert_config(expert: nn.Module) -> dict[str, Any]:
    """Return the configuration of a base learner of one modality."""
    if isinstance(expert, TreeExpert):
        return {"kind": "forest", **forest_sizes(expert.forest)}
    if isinstance(expert, ConvolutionExpert):
        return {"kind": "convolution", "view": expert.view}
    if isinstance(expert, PriorExpert):
        return {"kind": "prior"}
    assert isinstance(expert, LinearExpert)
    return {"kind": "linear", "num_knots": len(expert.hinges.knot)}


def forest_sizes(forest: Forest) -> dict[str, int]:
    """Return the number of trees and nodes of a forest."""
    return {"num_trees": len(forest.root), "num_nodes": len(forest.feature)}


def expert_from_config(
    item: Mapping[str, Any],
    width: int,
    task: Task,
    views: Sequence[View | ObjectView] = (),
) -> nn.Module:
    """Build a base learner from its configuration, with empty tensors."""
    sizes = {key: value for key, value in item.items() if key != "kind"}
    _check_counts(sizes)
    if item["kind"] == "prior":
        return PriorExpert(torch.zeros(task.out_channels))
    if item["kind"] == "convolution":
        view = views[_index(item["view"], len(views))]
        if isinstance(view, ObjectView):
            raise CheckpointError("A convolution must read a view of a sequence.")
        width = view.out_features
        return ConvolutionExpert(width, task.out_channels, link_of(task), **sizes)
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)


def _check_counts(sizes: Mapping[str, Any]) -> None:
    """Check numbers of parts, which some versions of PyTorch also read from lists."""
    for name, value in sizes.items():
        if name.startswith("num_") and type(value) is not int:
            raise CheckpointError(
                f"{name} must be a whole number, got {shorten(value)}."
            )


def experts_config(
    lists: Iterable[Iterable[nn.Module]],
) -> list[list[dict[str, Any]]]:
    """Return the configurations of the base learners of each modality."""
    return [[expert_config(expert) for expert in experts] for experts in lists]


def experts_from_config(
    config: Sequence[Sequence[Mapping[str, Any]]],
    widths: Sequence[int],
    task: Task,
    views: Sequence[View | ObjectView] = (),
) -> nn.ModuleList:
    """Build the base learners of each modality, with empty tensors."""
    return nn.ModuleList(
        nn.ModuleList(expert_from_config(item, width, task, views) for item in items)
        for items, width in zip(config, widths, strict=True)
    )


def ensemble_config(ensemble: ExpertEnsemble) -> dict[str, Any]:
    """Return the configuration of an ensemble of base learners."""
    config: dict[str, Any] = {
        "experts": experts_config(ensemble.expert_lists),
        "joint": [_joint_config(each) for each in ensemble.joint],
        "num_patterns": len(ensemble.pool.patterns),
    }
    views = [_view_config(each) for each in ensemble.views]
    return config | ({"views": views} if views else {})


def _joint_config(expert: nn.Module) -> dict[str, Any]:
    if isinstance(expert, Submodels):
        return {"needs": expert.needs, "subsets": expert.subsets}
    if isinstance(expert, RelationExpert):
        names = "channels", "places", "text", "objects", "table"
        counts = "num_heads", "num_folds", "has_edges"
        return {name: getattr(expert, name) for name in names + counts}
    if isinstance(expert, PairKernelExpert):
        names = "sizes", "left", "right", "num_folds", "has_products"
        values = {name: getattr(expert, name) for name in names}
        return values | {"num_samples": len(expert.coefficient)}
    assert isinstance(expert, JointForest)
    sizes = forest_sizes(expert.forest)
    return {"boosted": expert.boosted, "num_folds": expert.num_folds, **sizes}


def _joint_from_config(
    item: Mapping[str, Any],
    widths: Sequence[int],
    task: Task,
    views: Sequence[View | ObjectView],
) -> nn.Module:
    channels, link = task.out_channels, link_of(task)
    _check_counts(item)
    if "places" in item:
        return _relations_from_config(item, widths, task, views)
    if "has_products" in item:
        return _text_pair_from_config(item, widths, task)
    if "subsets" not in item:
        if item["num_trees"] % item["num_folds"] or item["num_folds"] < 1:
            raise CheckpointError(
                "A joint forest must have the same number of trees for each fold, got "
                f"{item['num_trees']} trees and {item['num_folds']} folds."
            )
        return JointForest(widths, channels, link, **item)
    views = [view for view in views if not isinstance(view, ObjectView)]
    needs, subsets = item["needs"], item["subsets"]
    if len(needs) != len(views):
        raise CheckpointError(
            f"Submodels must read every view, got {len(needs)} of {len(views)}."
        )
    for each in (*needs, *subsets):
        for modality in each:
            _index(modality, len(widths))
    features = [view.out_features for view in views if not isinstance(view, ObjectView)]
    return Submodels(len(widths), needs, subsets, features, channels, link)


def _relations_from_config(
    item: Mapping[str, Any],
    widths: Sequence[int],
    task: Task,
    views: Sequence[View | ObjectView],
) -> nn.Module:
    """Build a base learner of relations, whose objects must be in its table."""
    sizes = dict(item)
    channels, places, table = (sizes.pop(k) for k in ("channels", "places", "table"))
    for modality in (item["text"], item["objects"]):
        _index(modality, len(widths))
    view = views[len(views) + table] if -len(views) <= table < 0 else None
    if not isinstance(view, ObjectView) or view.channels != channels:
        raise CheckpointError(
            f"Relations must read a table of objects, got the index {table!r}."
        )
    if places not in range(1, MAX_PLACES + 1) or places >= channels:
        raise CheckpointError(
            f"Relations must have 1 to {MAX_PLACES} places, fewer than channels, got "
            f"{places!r}."
        )
    counts = item["num_heads"], item["num_folds"]
    if min(counts) < 1 or type(item["has_edges"]) is not bool:
        raise CheckpointError(
            f"Relations must have heads and folds, got {counts} of them."
        )
    return RelationExpert(
        widths[item["text"]],
        channels,
        places,
        task.out_channels,
        link_of(task),
        table=table,
        **sizes,
    )


def _text_pair_from_config(
    item: Mapping[str, Any], widths: Sequence[int], task: Task
) -> nn.Module:
    """Build a base learner of two texts, which must be two modalities."""
    ends = [_index(item[side], len(widths)) for side in ("left", "right")]
    count, sizes = item["num_samples"], item["sizes"]
    is_valid = (
        count in range(1, MAX_SAMPLES + 1)
        and len(sizes) == 2
        and all(size in range(1, count + 1) for size in sizes)
        and item["num_folds"] > 0
        and type(item["has_products"]) is bool
    )
    if not is_valid:
        raise CheckpointError(
            f"Pairs of texts must have 1 to {MAX_SAMPLES} samples, at most as many "
            f"distinct texts, and folds, got {count!r} samples, {shorten(sizes)} texts "
            f"and {item['num_folds']!r} folds."
        )
    own = [widths[end] for end in ends]
    return PairKernelExpert(
        own, out_channels=task.out_channels, link=link_of(task), **item
    )


def _view_config(view: nn.Module) -> dict[str, Any]:
    if isinstance(view, VectorView):
        sizes = {"in_features": view.in_features, "table": view.table}
        return {"names": list(view.names), **sizes}
    if isinstance(view, ObjectView):
        counts = {"channels": view.channels, "num_objects": view.num_objects}
        return {"name": view.name, **counts}
    if isinstance(view, ProductView):
        factors = {"vector": view.vector, "sequences": view.sequences}
        return {"names": list(view.names), **factors}
    assert isinstance(view, SequenceView)
    sizes = {"num_thresholds": view.num_thresholds}
    return {"names": list(view.names), "channels": list(view.channels), **sizes}


def _views_from_config(
    items: Sequence[Mapping[str, Any]], num_modalities: int
) -> list[View | ObjectView]:
    views: list[View | ObjectView] = []
    for item in items:
        views.append(_view_from_config(item, num_modalities, views))
    return views


def _view_from_config(
    item: Mapping[str, Any], num_modalities: int, earlier: Sequence[View | ObjectView]
) -> View | ObjectView:
    if "num_objects" in item:
        if item["num_objects"] not in range(1, MAX_OBJECTS + 1):
            raise CheckpointError(
                f"num_objects must be from 1 to {MAX_OBJECTS}, got "
                f"{shorten(item['num_objects'])}."
            )
        return ObjectView(**item)
    if "vector" in item:
        indices = item["vector"], item["sequences"]
        places = [_index(i, num_modalities + len(earlier)) for i in indices]
        factors = [earlier[_index(i - num_modalities, len(earlier))] for i in places]
        widths = [x.out_features for x in factors if not isinstance(x, ObjectView)]
        if len(widths) != len(factors):
            raise CheckpointError("A product must not read a table of objects.")
        return ProductView(item["names"], *places, *widths)
    if "table" not in item:
        return SequenceView(**item)
    _index(item["table"], num_modalities)
    return VectorView(**item)


def _index(value: int, limit: int) -> int:
    """Return an index of a list of known length."""
    if value not in range(limit):
        raise CheckpointError(
            f"Indices of modalities and views must be from 0 to {limit - 1}, got "
            f"{value!r}."
        )
    return value


def ensemble_from_config(
    config: Mapping[str, Any], widths: Sequence[int], task: Task
) -> ExpertEnsemble:
    """Build an ensemble from its configuration, with empty tensors.

    Raises:
        CheckpointError: If the number of trees is not a multiple of the folds, or an
            index is out of range.
    """
    views = _views_from_config(config.get("views", ()), len(widths))
    experts = experts_from_config(config["experts"], widths, task, views)
    joint = nn.ModuleList(
        _joint_from_config(item, widths, task, views) for item in config["joint"]
    )
    has_submodels = any(isinstance(each, Submodels) for each in joint)
    pool = (SubmodelPool if has_submodels else EvidencePool)(
        len(widths),
        len(config["experts"][0]),
        task.out_channels,
        num_joint=len(joint),
        num_patterns=config["num_patterns"],
    )
    return ExpertEnsemble(experts, joint, pool, views)


def count_objects(content: object) -> int:
    """Return the number of JSON objects in a configuration: each describes a module.

    It is compared with the number of tensors before modules are built.
    """
    if isinstance(content, Mapping):
        return 1 + sum(map(count_objects, content.values()))
    return sum(map(count_objects, content)) if isinstance(content, list) else 0


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a model on the meta device.

    Raises:
        CheckpointError: If a tensor has another type, is NaN or infinite, indices of
            trees are out of range, or a divisor is not positive.
        RuntimeError: If names or shapes differ.
    """
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise CheckpointError(
                f"Tensor {name!r} must be {expected.dtype}, got {tensors[name].dtype}."
            )
    check_finite(tensors)
    model.load_state_dict(dict(tensors), assign=True)
    _check_ranges(model)


def _check_ranges(model: nn.Module) -> None:
    """Check indices against the sizes of other tensors, and divisors against zero.

    A module names the tensors that it divides by in ``DIVISORS``.

    Raises:
        CheckpointError: If an index of a tree or of a piecewise-linear feature is
            out of range, or a divisor is not positive.
    """
    for name, module in model.named_modules():
        for divisor in getattr(module, "DIVISORS", ()):
            if not bool((getattr(module, divisor) > 0).all()):
                raise CheckpointError(
                    f"Tensor {f'{name}.{divisor}'!r} must hold positive numbers, got "
                    "others."
                )
        if isinstance(module, Forest):
            _check_trees(name, module)
        elif isinstance(module, LinearExpert):
            width = module.scaler.channels - len(module.hinges.knot)
            _check_range(f"{name}.hinges.channel", module.hinges.channel, width)
        elif isinstance(module, PairKernelExpert):
            for side, size in zip(("left", "right"), module.sizes, strict=True):
                _check_range(
                    f"{name}.{side}_index", module.get_buffer(f"{side}_index"), size
                )


def _check_trees(name: str, forest: Forest) -> None:
    nodes = len(forest.feature)
    _check_range(f"{name}.child", forest.child, nodes)
    _check_range(f"{name}.root", forest.root, nodes)
    _check_range(f"{name}.depth", forest.depth, nodes)
    _check_range(f"{name}.feature", forest.feature, forest.in_features)
    own = torch.arange(nodes, device=forest.child.device)[:, None]
    leaf = (forest.child == own).all(1, keepdim=True)
    if not bool((leaf | (forest.child > own)).all()):
        raise CheckpointError(
            f"Tensor '{name}.child' must hold nodes after their parent, got others."
        )


def _check_range(name: str, values: Tensor, limit: int) -> None:
    if bool(((values < 0) | (values >= limit)).any()):
        raise CheckpointError(
            f"Tensor {name!r} must hold indices from 0 to {limit - 1}, got others."
        )
