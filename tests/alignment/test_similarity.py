"""Tables of similarity, with missing rows."""

import numpy as np
import pytest
import torch

from mmgraph.alignment import similarity
from mmgraph.errors import DataError


def test_cosines_are_nan_where_a_row_is_missing():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    a[1], b[2] = np.nan, np.nan
    a[3] = 0
    table = similarity(torch.from_numpy(a), 1e200 * b)
    assert table.shape == (4, 5)
    expected = a[0] @ b[0] / np.linalg.norm(a[0]) / np.linalg.norm(b[0])
    assert table[0, 0] == pytest.approx(expected)
    missing = np.isnan(table)
    assert missing[1].all()
    assert missing[:, 2].all()
    assert missing.sum() == 8
    assert not table[3, [0, 1, 3, 4]].any()


def test_inputs_are_checked():
    with pytest.raises(DataError, match="same width, got 2 and 3"):
        similarity(np.eye(2), np.eye(3))
    with pytest.raises(DataError, match="all NaN if missing, got NaN in row 0"):
        similarity(np.array([[1.0, np.nan]]), np.eye(2))
    with pytest.raises(DataError, match=r"a must have shape \[N, F\], got \[2\]"):
        similarity(np.ones(2), np.eye(2))
    with pytest.raises(DataError, match="b must be rows of numbers of one length"):
        similarity(np.eye(2), [[1.0, 2.0], [3.0]])
