"""Relations on a batch: the nodes of every sample, in slots or joined by edges.

Letters: ``B`` samples, ``N`` nodes, ``E`` edges, ``S`` slots a sample. All nodes of a
batch stand in one table: type by type, and by sample within a type.
"""

from mmgraph.graph.graph import Graph, TypedRows
from mmgraph.graph.layout import Layout
from mmgraph.graph.nodes import NodeSet
from mmgraph.graph.slots import Packing
from mmgraph.graph.topologies import ranges

__all__ = ["Graph", "Layout", "NodeSet", "Packing", "TypedRows", "ranges"]
