"""Targets of the alignment benchmark."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mmgraph.datasets.load import dataset_card
from mmgraph.datasets.mirrors import mirror_root

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "alignment.py"
    spec = importlib.util.spec_from_file_location("alignment_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recall_is_the_mean_of_both_directions(benchmark):
    a = np.eye(3)
    b = np.array([[1.0, 0, 0], [0, 1, 0.5], [0, 1, 0.2]])
    # to b, one of three is first; to a, two of three
    assert benchmark.recall(a, b, k=1) == pytest.approx(0.5)
    b[1] = np.nan
    assert benchmark.recall(a, b, k=1) == 1


@pytest.mark.slow
def test_modalities_that_no_sample_has_together_are_retrieved(benchmark):
    assert benchmark.bridge(0, benchmark.unlinked)[0] >= 0.99


@pytest.mark.long
def test_cells_are_aligned_without_pairs(benchmark):
    root = mirror_root()
    file = None if root is None else root / str(dataset_card("snare_seq").mirror)
    if file is None or not file.is_file():
        pytest.skip("the mirror is not part of the project")
    error, labels = benchmark.align_cells(0)
    assert error <= 0.16
    assert labels >= 0.9
