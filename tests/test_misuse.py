"""Calls with things of another type get a named error, as users without types do."""

import jaxtyping
import numpy as np
import pytest

from mmgraph import metrics
from mmgraph.errors import DataError


@pytest.fixture(autouse=True)
def _unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_what_is_scored_must_be_arrays():
    with pytest.raises(DataError, match=r"y must be an array, got list\. Pass"):
        metrics.accuracy([1, 0], [1, 1])
    with pytest.raises(DataError, match="predictions must be an array, got list"):
        metrics.rmse(np.zeros(2), [1, 1])
    with pytest.raises(DataError, match="proba must be an array, got list"):
        metrics.auroc(np.array([0, 1]), [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("score", ["accuracy", "balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("dtype", [str, object])
def test_strings_are_not_scored_against_numbers(score, dtype):
    strings, numbers = np.array(["1", "0"], dtype=dtype), np.array([1, 0])
    measure = getattr(metrics, score)
    with pytest.raises(DataError, match="type of y, got numbers for strings"):
        measure(strings, numbers)
    with pytest.raises(DataError, match="type of y, got strings for numbers"):
        measure(numbers, strings)
    assert measure(strings, np.array(["1", "0"])) == 1.0
