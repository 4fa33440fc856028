"""Dynamic time warping: a reference loop, missing rows, bands, subsequences."""

import math

import numpy as np
import pytest
import torch

from mmgraph.alignment import dtw, warping
from mmgraph.errors import ConfigError, DataError

NAN = math.nan


def recording(seed, steps, channels=2):
    return np.random.default_rng(seed).standard_normal((steps, channels))


def least_cost(cost):
    """Return the cost of the best path, by the loop over cells."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(*cost.shape):
        before = total[i, j], total[i, j + 1], total[i + 1, j]
        total[i + 1, j + 1] = cost[i, j] + min(before)
    return total[-1, -1]


@pytest.mark.parametrize("steps", [(9, 6), (4, 11), (1, 5), (7, 1), (1, 1)])
def test_the_path_is_continuous_and_has_the_least_cost(steps):
    x, y = recording(1, steps[0]), recording(2, steps[1])
    found = dtw(x, y)
    cost = ((x[:, None] - y) ** 2).sum(axis=2)
    np.testing.assert_allclose(found.cost, cost)
    assert found.distance**2 == pytest.approx(least_cost(cost))
    assert cost[tuple(found.path.T)].sum() == pytest.approx(found.distance**2)
    assert found.path[0].tolist() == [0, 0]
    assert found.path[-1].tolist() == [steps[0] - 1, steps[1] - 1]
    moves = {tuple(move) for move in np.diff(found.path, axis=0)}
    assert moves <= {(0, 1), (1, 0), (1, 1)}


def test_a_stretched_recording_has_distance_zero():
    x = recording(0, 8)
    slow = np.repeat(x, [1, 3, 1, 1, 2, 1, 4, 1], axis=0)
    found = dtw(x, slow)
    assert found.distance == 0
    np.testing.assert_array_equal(x[found.path[:, 0]], slow[found.path[:, 1]])
    swapped = dtw(slow, x)
    np.testing.assert_array_equal(swapped.path[:, ::-1], found.path)


def test_missing_rows_are_omitted_and_rows_keep_their_numbers():
    x, y = recording(1, 9), recording(2, 7)
    gaps = np.insert(x, [0, 4, 9], NAN, axis=0)
    kept = np.flatnonzero(~np.isnan(gaps[:, 0]))
    found, expected = dtw(gaps, y), dtw(x, y)
    assert found.distance == expected.distance
    np.testing.assert_array_equal(found.path[:, 0], kept[expected.path[:, 0]])
    np.testing.assert_array_equal(found.path[:, 1], expected.path[:, 1])
    assert np.isnan(found.cost[[0, 5, 11]]).all()
    np.testing.assert_array_equal(found.cost[kept], expected.cost)


def test_a_part_of_a_recording_is_found():
    y = recording(3, 40)
    x = np.repeat(y[12:20], 2, axis=0)
    found = dtw(x, y, subsequence=True)
    assert found.distance == 0
    assert found.path[:, 1].min() == 12
    assert found.path[:, 1].max() == 19
    assert dtw(x, y).distance > 1
    whole = dtw(x, y[12:20], subsequence=True)
    assert whole.distance == 0


def test_a_band_keeps_the_path_near_the_diagonal():
    x, y = recording(4, 30), recording(5, 20)
    place = dtw(x, y, band=0.1).path / [29, 19]
    assert np.abs(place[:, 0] - place[:, 1]).max() <= 0.1 + 1e-9
    assert dtw(x, y, band=0.1).distance >= dtw(x, y).distance
    with pytest.raises(DataError, match="band must leave a path"):
        dtw(x, y, band=0.0)


def test_tensors_and_single_channels_are_recordings():
    x = torch.arange(4.0, requires_grad=True)
    assert dtw(x, [0, 1, 2, 3]).distance == 0
    with torch.no_grad():
        assert dtw(x, np.arange(4)[:, None]).path.tolist() == [[i, i] for i in range(4)]


def test_faults_are_named(monkeypatch):
    x = recording(0, 4)
    with pytest.raises(DataError, match="the same channels, got 2 and 3"):
        dtw(x, recording(0, 4, 3))
    with pytest.raises(DataError, match="y must have a row with a number, got none of"):
        dtw(x, np.full((3, 2), NAN))
    with pytest.raises(DataError, match="x must be rows of numbers"):
        dtw([], [1.0])
    with pytest.raises(
        DataError, match=r"x must have no NaN in rows .* set their rows"
    ):
        dtw([[0.0, NAN]], x)
    with pytest.raises(DataError, match="x must have shape"):
        dtw(np.zeros((2, 2, 2)), x)
    with pytest.raises(DataError, match="x must be rows of numbers"):
        dtw(["a", "b"], x)
    with pytest.raises(DataError, match="y must be finite or NaN, got infinity in row"):
        dtw(x, [[math.inf, 0.0]])
    with pytest.raises(ConfigError, match="band must be None for a subsequence"):
        dtw(x, x, band=0.5, subsequence=True)
    with pytest.raises(ConfigError, match="band must be a number from 0 to 1"):
        dtw(x, x, band=2)
    monkeypatch.setattr(warping, "MOST_CELLS", 15)
    with pytest.raises(DataError, match=r"at most 15 pairs of rows, got 4 x 4\. Av"):
        dtw(x, x)
