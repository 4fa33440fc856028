"""Export of forests as single nodes of an ONNX graph.

The operator ``TreeEnsembleRegressor`` of ONNX evaluates a forest; tensor operations
would take four nodes for each level of its trees.

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
    """Represent a forest in a trace: ``[B, F]`` to zeros of shape ``[B, K]``."""
    return x.new_zeros(x.shape[0], out_channels)


@forest_node.register_fake
def _shape(x: Tensor, number: int, out_channels: int) -> Tensor:
    return x.new_empty(x.shape[0], out_channels)


class ForestNode(nn.Module):
    """Placeholder of a forest in a model to be traced.

    Args:
        number: Index of the forest.
        forest: Forest with ``K`` outputs.
    """

    def __init__(self, number: int, forest: Forest) -> None:
        super().__init__()
        self.number, self.out_channels = number, forest.value.shape[1]

    def forward(self, x: Tensor, root: Tensor | None = None) -> Tensor:
        """Return ``[B, K]`` zeros; supports the evaluation of all trees only."""
        assert root is None
        return forest_node(x, self.number, self.out_channels)


def translation_table(forests: Sequence[Forest]) -> dict[Callable[..., Any], Any]:
    """Return the custom translation table for :func:`torch.onnx.export`."""
    from onnxscript.values import Opset

    operators = Opset("ai.onnx.ml", ML_OPSET)
    attributes = [forest_attributes(forest) for forest in forests]

    def write(x: Any, number: int, out_channels: int) -> Any:  # noqa: ANN401
        return operators.TreeEnsembleRegressor(x, **attributes[number])

    return {torch.ops.mmgraph.forest.default: write}


def forest_attributes(forest: Forest) -> dict[str, Any]:
    """Return the attributes of the ``TreeEnsembleRegressor`` equal to a forest."""
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
