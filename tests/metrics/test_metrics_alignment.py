"""Metrics of alignment on closed forms."""

import numpy as np
import pytest

from mmgraph import metrics
from mmgraph.errors import ConfigError, DataError


def rows(num=200, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(num, width))


def test_foscttm_of_equal_rows_is_zero_and_of_opposite_rows_one():
    assert metrics.foscttm(rows(), rows()) == 0
    assert metrics.foscttm(np.eye(6), -np.eye(6)) == 1
    assert metrics.foscttm(rows(), rows(seed=1)) == pytest.approx(0.5, abs=0.05)
    assert metrics.foscttm(np.ones((9, 2)), np.ones((9, 2))) == 0.5


def test_foscttm_is_the_mean_over_both_directions():
    a, b = np.array([[0.0], [1.0], [5.0]]), np.array([[1.5], [3.5], [4.0]])
    # to b: 0 others closer for 0, 1 for 1, 0 for 5; to a: 1 for 1.5, 1 for 3.5, 0 for 4
    expected = (1 / 2 / 3 + 2 / 2 / 3) / 2
    assert metrics.foscttm(a, b) == pytest.approx(expected)
    assert metrics.foscttm(b, a) == pytest.approx(expected)


def test_missing_samples_are_not_counted():
    a, b = rows(), rows() + 0.3 * rows(seed=1)
    y = np.arange(200) % 3
    a[:20], b[10:30] = np.nan, np.nan
    kept = slice(30, None)
    for score in (metrics.foscttm, metrics.linear_cka, metrics.uniformity_alignment):
        np.testing.assert_allclose(score(a, b), score(a[kept], b[kept]))
    found = metrics.label_transfer(a, y, b)
    assert 0.3 < found < 1
    nothing = np.full((4, 2), np.nan)
    assert np.isnan(metrics.foscttm(nothing, nothing))
    assert np.isnan(metrics.linear_cka(nothing, nothing))
    assert np.isnan(metrics.label_transfer(nothing, np.zeros(4), nothing))
    assert np.isnan(metrics.uniformity_alignment(nothing, nothing)).all()


def test_cka_does_not_depend_on_rotation_and_scale():
    x, y = rows(), rows(width=3, seed=1)
    rotation = np.linalg.qr(rows(5, 5, seed=2))[0]
    assert metrics.linear_cka(x, 4 * x @ rotation + 1) == pytest.approx(1)
    kernels = [z @ z.T for z in (x - x.mean(0), y - y.mean(0))]
    product, *squares = [
        (kernels[i] * kernels[j]).sum() for i, j in ((0, 1), (0, 0), (1, 1))
    ]
    expected = product / np.sqrt(squares[0] * squares[1])
    assert metrics.linear_cka(x, y) == pytest.approx(expected)
    assert np.isnan(metrics.linear_cka(x, np.ones((200, 2))))


def test_label_transfer_is_a_vote_of_the_nearest():
    a = np.array([[0.0], [0.2], [0.3], [9.0]])
    y = np.array(["x", "z", "z", "x"])
    b = np.array([[0.0], [0.1], [9.0], [9.1]])
    # the nearest one is x for all; of the three nearest, two are z
    assert metrics.label_transfer(a, y, b, k=1) == 0.5
    assert metrics.label_transfer(a, y, b, k=3) == 0.5
    assert metrics.label_transfer(a, y, b[[0, 2, 1, 3]], k=1) == 0.5
    assert metrics.label_transfer(a, y, a, k=2) == 1.0


def test_uniformity_and_alignment_are_those_of_unit_vectors():
    a = np.array([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    uniformity, alignment = metrics.uniformity_alignment(a, 5 * a)
    assert alignment == 0
    expected = np.log((2 * np.exp(-4) + np.exp(-8)) / 3)
    assert uniformity == pytest.approx(expected)
    assert metrics.uniformity_alignment(a, -a)[1] == pytest.approx(4)


def test_warping_error_interpolates_the_path():
    path = np.array([[0, 0], [1, 1], [1, 3], [4, 8]])
    truth = np.array([[1, 2], [2, 4], [4, 7.5]])
    assert metrics.warping_error(path, truth) == pytest.approx(0.5 / 3)
    assert metrics.warping_error(0.1 * path, 0.1 * truth) == pytest.approx(0.05 / 3)
    ahead_and_behind = np.array([[0, 1], [4, 7]])
    assert metrics.warping_error(path, ahead_and_behind) == pytest.approx(1.0)
    assert np.isnan(metrics.warping_error(path, np.zeros((0, 2))))


def test_inputs_are_checked():
    with pytest.raises(DataError, match=r"one row per sample, got \[3, 3\] and \[2, 2"):
        metrics.foscttm(np.eye(3), np.eye(2))
    with pytest.raises(DataError, match=r"same width, got \[2, 2\] and \[2, 3\]"):
        metrics.foscttm(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(DataError, match="only NaN if missing, got some of each"):
        metrics.linear_cka(np.array([[1.0, np.nan]]), np.ones((1, 2)))
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        metrics.label_transfer(np.eye(2), np.zeros(2), np.eye(2), k=0)
    with pytest.raises(DataError, match=r"one class per sample, \[2\], got \[3\]"):
        metrics.label_transfer(np.eye(2), np.zeros(3), np.eye(2))
    with pytest.raises(DataError, match=r"path must have shape \[L, 2\], got \[2, 3\]"):
        metrics.warping_error(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(DataError, match="positions that do not decrease"):
        metrics.warping_error(np.array([[1, 0], [0, 1]]), np.ones((2, 2)))
    with pytest.raises(DataError, match="a must be an array, got list"):
        metrics.foscttm([[1.0]], [[1.0]])
