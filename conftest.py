"""Fixtures shared by tests and doctests."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

import mmgraph

torch.set_num_threads(1)  # module-scoped fixtures run before the per-test fixture
sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))  # tests import from it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, in the order of names otherwise."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Run every test from the same random state on one thread; restore the state."""
    torch.set_num_threads(1)  # the tensors are too small for two threads to help
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also store a stack trace for each kind of device
        torch.default_generator.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _names(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, object]
) -> None:
    """Provide torch and the public names to doctests.

    A name that cannot be imported is skipped, so that only the doctests that use it
    fail; tests/test_hygiene.py reports the name and the reason.
    """
    if not isinstance(request.node, pytest.DoctestItem):
        return
    doctest_namespace["torch"] = torch
    doctest_namespace["mmgraph"] = mmgraph
    for name in mmgraph.__all__:
        with contextlib.suppress(ImportError, AttributeError):
            doctest_namespace[name] = getattr(mmgraph, name)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Disable the run-time type checks of jaxtyping, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def _fewer_trees() -> Iterator[None]:
    from mmgraph.baselines import classifiers
    from mmgraph.experts import boosting, forest, joint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "NUM_TREES", 30)
        patch.setattr(classifiers, "NUM_ROUNDS", 15)
        patch.setattr(forest, "NUM_TREES", 20)
        patch.setattr(joint, "NUM_TREES", 20)
        patch.setattr(boosting, "ITERATIONS", 15)
        yield


@pytest.fixture(autouse=True)
def _few_trees(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reduce the number of trees, except in slow tests, examples, and where marked."""
    node = request.node
    full = any(map(node.get_closest_marker, ("slow", "long", "full_trees")))
    full |= isinstance(node, pytest.DoctestItem)
    with contextlib.nullcontext() if full else _fewer_trees():
        yield


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Reduce the number of trees in the fixtures of a module."""
    with _fewer_trees():
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return folders of tiny pretrained encoders: one per kind, one of two kinds."""
    pytest.importorskip("transformers")
    from tiny_models import MAKERS

    root = tmp_path_factory.mktemp("models")
    return {name: make(root / name) for name, make in MAKERS.items()}


@pytest.fixture
def forget_encoders() -> None:
    """Clear the shared encoder cache, so that tests do not depend on each other."""
    from mmgraph.pretrained import encoder

    encoder._SHARED.clear()
