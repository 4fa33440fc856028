"""Forests as one node each of an ONNX graph.

Look-ups by tensor operations would take four nodes for every level of a forest; ONNX
has an operator for it, ``TreeEnsembleRegressor``, which walks down tree by tree.

Letters: ``B`` samples, ``F`` features, ``K`` outputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.experts.trees import Forest

ML_OPSET = 3


@torch.library.custom_op("mmgraph::forest", mutates_args=())
def forest_node(x: Tensor, number: int, out_channels: int) -> Tensor:
    """Stand for a forest in a trace, ``[B, F]`` to ``[B, K]``; it only has a shape."""
    return x.new_zeros(x.shape[0], out_channels)


@forest_node.register_fake
def _shape(x: Tensor, number: int, out_channels: int) -> Tensor:
    return x.new_empty(x.shape[0], out_channels)


class ForestNode(nn.Module):
    """The place of a forest in a graph that is to become ONNX."""

    def __init__(self, number: int, forest: Forest) -> None:
        super().__init__()
        self.number, self.out_channels = number, forest.value.shape[1]

    def forward(self, x: Tensor, root: Tensor | None = None) -> Tensor:
        """Keep the place of the forest, asked of all its trees."""
        assert root is None
        return forest_node(x, self.number, self.out_channels)


def translation(forests: Sequence[Forest]) -> dict[Callable[..., Any], Any]:
    """Return what :func:`torch.onnx.export` writes for each :class:`ForestNode`."""
    from onnxscript.values import Opset

    operators = Opset("ai.onnx.ml", ML_OPSET)
    attributes = [describe(forest) for forest in forests]

    def write(x: Any, number: int, out_channels: int) -> Any:  # noqa: ANN401
        return operators.TreeEnsembleRegressor(x, **attributes[number])

    return {torch.ops.mmgraph.forest.default: write}


def describe(forest: Forest) -> dict[str, Any]:
    """Return the attributes of the ``TreeEnsembleRegressor`` that equals a forest."""
    root, child = forest.root.numpy(), forest.child.numpy()
    num_nodes, num_outputs = forest.value.shape
    sizes = np.diff(np.append(root, num_nodes))
    tree, first = np.repeat(np.arange(len(root)), sizes), np.repeat(root, sizes)
    node = np.arange(num_nodes)
    leaf = child[:, 0] == node
    local = np.where(leaf[:, None], 0, child - first[:, None])
    leaves = np.flatnonzero(leaf)
    return {
        "n_targets": num_outputs,
        "aggregate_function": "AVERAGE",
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": (node - first).tolist(),
        "nodes_featureids": forest.feature.tolist(),
        "nodes_values": forest.threshold.tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_truenodeids": local[:, 0].tolist(),
        "nodes_falsenodeids": local[:, 1].tolist(),
        "target_treeids": np.repeat(tree[leaves], num_outputs).tolist(),
        "target_nodeids": np.repeat((node - first)[leaves], num_outputs).tolist(),
        "target_ids": np.tile(np.arange(num_outputs), len(leaves)).tolist(),
        "target_weights": forest.value.numpy()[leaves].ravel().tolist(),
    }
