"""Data sets by name: shipped with the package, local files, or synthetic controls.

The folder depends on :mod:`mmgraph.data`; the benchmark and the command line import it.
"""

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
