"""Heterogeneous graphs of a batch: typed nodes, typed relations and dense layouts.

A batch has one graph per sample. The nodes of all samples form one table, ordered by
type and by sample within a type. The folder depends on ``schema``, ``ops`` and
``native``; ``nn`` and ``model`` use it.

Letters: ``B`` samples, ``N`` nodes, ``E`` edges, ``S`` slots per sample.
"""

from mmgraph.graph.graph import Graph, TypedRows
from mmgraph.graph.layout import Layout
from mmgraph.graph.nodes import NodeSet
from mmgraph.graph.slots import Packing
from mmgraph.graph.topologies import ranges

__all__ = ["Graph", "Layout", "NodeSet", "Packing", "TypedRows", "ranges"]
