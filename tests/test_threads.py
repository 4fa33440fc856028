"""The limit of one thread applies to torch and other libraries, and ends."""

import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier  # loads its OpenMP
from threadpoolctl import threadpool_info, threadpool_limits

from mmgraph._threads import one_thread


def threads() -> dict[str, int]:
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.fixture
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("fails", [False, True])
def test_limit_applies_everywhere_and_ends(fails):
    assert HistGradientBoostingClassifier
    before = threads()
    assert torch.get_num_threads() == 2
    assert set(before.values()) == {2}
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert set(threads().values()) == {1}
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.get_num_threads() == 2
    assert threads() == before
