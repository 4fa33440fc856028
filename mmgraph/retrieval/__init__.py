"""Nearest-neighbor search in a gallery of embeddings, exact or approximate.

The folder stores vectors and ids; it does not depend on models. Estimators and the
command line use it.
"""

from mmgraph.retrieval.index import Hits, Index

__all__ = ["Hits", "Index"]
