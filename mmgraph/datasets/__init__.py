"""Data sets by name: shipped, mirrored, or made up as controls."""

from mmgraph.datasets.cards import DatasetCard
from mmgraph.datasets.controls import synthetic
from mmgraph.datasets.load import dataset_card, dataset_names, load_dataset

__all__ = [
    "DatasetCard",
    "dataset_card",
    "dataset_names",
    "load_dataset",
    "synthetic",
]
