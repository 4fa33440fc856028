"""Index a gallery of embeddings and search it by similarity."""

from mmgraph.retrieval.index import Hits, Index

__all__ = ["Hits", "Index"]
