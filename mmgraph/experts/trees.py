"""Regression trees as tensors.

Letters: ``N`` rows, ``F`` features, ``K`` outputs, ``T`` trees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Forest", "PlainTree"]


@dataclass(frozen=True)
class PlainTree:
    """One regression tree, with the names of scikit-learn's ``tree_``.

    Attributes:
        children_left: ``[n]`` node of values up to the threshold; -1 for a leaf.
        children_right: ``[n]`` node of larger values.
        feature: ``[n]`` index of the feature of a split.
        threshold: ``[n]`` largest value that goes to the left.
        value: ``[n, K, 1]`` prediction of a leaf.
        n_features: ``F``.
        max_depth: Number of splits above the deepest leaf.
    """

    children_left: npt.NDArray[np.integer[Any]]
    children_right: npt.NDArray[np.integer[Any]]
    feature: npt.NDArray[np.integer[Any]]
    threshold: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    n_features: int
    max_depth: int

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.feature)


class Forest(nn.Module):
    """Mean of regression trees, evaluated by look-ups in tensors.

    Args:
        in_features: ``F``.
        out_channels: ``K``.
        num_nodes: Number of nodes of all trees.
        num_trees: ``T``.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    root: Tensor
    depth: Tensor

    def __init__(
        self,
        in_features: int,
        out_channels: int,
        *,
        num_nodes: int = 1,
        num_trees: int = 1,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.register_buffer("feature", torch.zeros(num_nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(num_nodes))
        self.register_buffer("child", torch.zeros(num_nodes, 2, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(num_nodes, out_channels))
        self.register_buffer("root", torch.zeros(num_trees, dtype=torch.int64))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

    @classmethod
    def from_trees(cls, trees: Sequence[Any]) -> "Forest":
        """Copy trees: :class:`PlainTree`, or ``tree_`` of scikit-learn."""
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.cumsum(sizes) - sizes
        forest = cls(
            trees[0].n_features,
            trees[0].value.shape[1],
            num_nodes=int(sizes.sum()),
            num_trees=len(trees),
        )
        left = np.concatenate([tree.children_left for tree in trees])
        right = np.concatenate([tree.children_right for tree in trees])
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        shift, itself = np.repeat(roots, sizes), np.arange(sizes.sum())
        leaf = left < 0
        child = np.stack([left + shift, right + shift], axis=1)
        child[leaf] = itself[leaf, None]
        forest.child.copy_(torch.from_numpy(child))
        forest.feature.copy_(torch.from_numpy(np.where(leaf, 0, feature)))
        forest.threshold.copy_(torch.from_numpy(_round_down(threshold)))
        value = np.concatenate([tree.value[..., 0] for tree in trees])
        forest.value.copy_(torch.from_numpy(value))
        forest.root.copy_(torch.from_numpy(roots))
        forest.depth.fill_(max(tree.max_depth for tree in trees))
        return forest

    def forward(self, x: Tensor, root: Tensor | None = None) -> Tensor:
        """Map finite features ``[N, F]`` to the mean of the trees, ``[N, K]``.

        Args:
            x: Features.
            root: ``[N, t]`` roots of the trees that are evaluated for each row;
                default: all trees.
        """
        roots = self.root.expand(x.shape[0], -1) if root is None else root
        # flat tables: selecting along one axis is three times as fast as along two
        node, cells, child = roots.reshape(-1), x.reshape(-1), self.child.view(-1)
        row = torch.arange(x.shape[0], device=x.device)[:, None]
        first = (row * x.shape[1]).expand_as(roots).reshape(-1)
        for _ in range(int(self.depth)):  # the child of a leaf is the leaf itself
            cell = cells.index_select(0, first + self.feature.index_select(0, node))
            right = cell > self.threshold.index_select(0, node)
            node = child.index_select(0, torch.add(right, node, alpha=2))
        return F.embedding_bag(node.view_as(roots), self.value, mode="mean")


def _round_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 not above each threshold, so that splits are equal."""
    rounded = threshold.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, lower, rounded)
