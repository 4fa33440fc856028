"""Fixtures shared by tests and doctests."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mmgraph

torch.set_num_threads(2)
sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))  # its parts are tested


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Start every test from the same random state and leave none behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _names(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, object]
) -> None:
    """Give doctests torch and the public names.

    A name that cannot be imported is left out, so that only the doctests that use it
    fail; tests/test_hygiene.py says which one and why.
    """
    if not isinstance(request.node, pytest.DoctestItem):
        return
    doctest_namespace["torch"] = torch
    doctest_namespace["mmgraph"] = mmgraph
    for name in mmgraph.__all__:
        with contextlib.suppress(ImportError, AttributeError):
            doctest_namespace[name] = getattr(mmgraph, name)


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Grow a tenth of the trees, for tests to which their number does not matter."""
    from mmgraph.estimators import boosting, evidence, joint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "NUM_TREES", 20)
        patch.setattr(joint, "NUM_TREES", 20)
        patch.setattr(boosting, "ITERATIONS", 15)
        yield
