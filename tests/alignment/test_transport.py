"""Optimal transport: marginals, permuted copies, missing rows, known pairs."""

import sys

import numpy as np
import pytest

from mmgraph import MultimodalData
from mmgraph.alignment import CCA, transport
from mmgraph.alignment.transport import graph_distances
from mmgraph.errors import ConfigError, DataError

pytest.importorskip("ot")


def make_copies(num=40, seed=0):
    """Return rows, a permuted and rotated copy of other width, and the permutation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 6))
    order = rng.permutation(num)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    return x, x[order], order, rotation


@pytest.mark.parametrize("kind", ["linear", "gromov"])
@pytest.mark.parametrize("epsilon", [None, 0.05])
def test_sums_of_a_plan_are_the_masses(kind, epsilon):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(31, 3))
    x[[2, 7]], y[5] = np.nan, np.nan
    found = transport(x, y, kind=kind, epsilon=epsilon)
    present = ~np.isnan(x[:, 0]), ~np.isnan(y[:, 0])
    np.testing.assert_allclose(found.plan.sum(axis=1), present[0] / 18, atol=1e-8)
    np.testing.assert_allclose(found.plan.sum(axis=0), present[1] / 30, atol=1e-8)
    assert found.plan.min() >= 0
    assert np.array_equal(np.isnan(found.mapped[:, 0]), ~present[0])
    expected = (found.plan @ np.where(np.isnan(y), 0, y))[0] * 18
    np.testing.assert_allclose(found.mapped[0], expected)


def test_a_permuted_copy_is_found():
    x, y, order, _ = make_copies()
    linear = transport(x, y)
    assert np.array_equal(order[linear.plan.argmax(axis=1)], np.arange(len(x)))
    assert linear.cost == 0
    found = transport(x, y, kind="gromov")
    match = found.plan.argmax(axis=1)
    assert found.cost == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.plan[np.arange(len(x)), match], 1 / len(x))
    distances, others = graph_distances(x), graph_distances(y)
    assert np.array_equal(distances, others[np.ix_(match, match)])
    # samples with the same distances to all others cannot be distinguished
    _, kinds = np.unique(np.sort(distances, axis=1), axis=0, return_inverse=True)
    distinct = np.bincount(kinds)[kinds] == 1
    assert distinct.sum() > 20
    assert np.array_equal(order[match][distinct], np.flatnonzero(distinct))


def test_distances_are_steps_between_neighbors():
    x = np.array([[0.0], [1.0], [2.1], [3.3], [4.6], [6.0], [7.5], [9.1]])
    found = graph_distances(x)
    assert found.max() == 1
    assert np.array_equal(found, found.T)
    far = np.vstack([x, x + 1e3])
    assert graph_distances(far)[0, 12] == 1  # no path
    assert not graph_distances(x[:1]).any()


def test_known_pairs_guide_fused_transport():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, size=60)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    y = x[:, ::-1]  # a circle has no orientation: pairs are needed
    arrays = {  # six samples have both modalities, the others one of them
        "x": np.vstack([x, np.full((54, 2), np.nan)]),
        "y": np.vstack([y[:6], np.full((54, 2), np.nan), y[6:]]),
    }
    data = MultimodalData.from_arrays(arrays)
    found = transport(data, "x", "y", kind="fused").plan[:60].argmax(axis=1)
    assert np.array_equal(found[:6], np.arange(6))
    partner = np.where(found < 6, found, found - 54)
    turned = np.abs(np.angle(np.exp(1j * (angle[partner] - angle))))
    assert np.median(turned) < 0.3
    cost = 1 - np.eye(60)  # all pairs are known
    own = transport(x, y, kind="fused", cost=cost).plan.argmax(axis=1)
    assert np.array_equal(own, np.arange(60))


def test_samples_without_a_counterpart_are_left_out():
    rng = np.random.default_rng(0)
    x = np.vstack([rng.normal(size=(20, 2)), [[30.0, 30.0]]])
    found = transport(x, x[:20], unbalanced=0.05)
    assert found.plan[20].sum() < 1e-3
    assert found.plan[:20].sum(axis=1).min() > 0.03
    smooth = transport(x, x[:20], unbalanced=0.05, epsilon=0.01)
    assert smooth.plan[20].sum() < smooth.plan[:20].sum(axis=1).min() / 10


def test_variates_of_a_small_set_of_pairs_are_transported():
    rng = np.random.default_rng(0)
    cause = rng.normal(size=(200, 3))
    arrays = {n: cause @ rng.normal(size=(3, 5)) for n in ("a", "b")}
    z = CCA(3, ridge=0.01).fit({n: x[:50] for n, x in arrays.items()}).transform(arrays)
    order = rng.permutation(150)
    found = transport(z["a"][50:], z["b"][50:][order])
    assert (order[found.plan.argmax(axis=1)] == np.arange(150)).mean() > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "sliced"},
            "kind must be 'linear', 'gromov' or 'fused', got 'sliced'",
        ),
        ({"kind": "gromov", "cost": np.eye(3)}, "cost must be None for kind 'gromov'"),
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0.0"),
        ({"unbalanced": -1.0}, "unbalanced must be above 0, got -1.0"),
        ({"kind": "gromov", "unbalanced": 1.0}, "None for kind 'gromov', got 1.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        transport(np.eye(3), np.eye(3), **options)


def test_sides_are_checked():
    nothing = np.full((3, 3), np.nan)
    with pytest.raises(DataError, match="got none on the second one"):
        transport(np.eye(3), nothing)
    with pytest.raises(DataError, match="one space, got widths 3 and 2"):
        transport(np.eye(3), np.ones((3, 2)))
    with pytest.raises(DataError, match="some of each in row 1"):
        transport(np.array([[0.0, 1.0], [np.nan, 1.0]]), np.eye(2))
    with pytest.raises(DataError, match=r"at least 0 of shape \[3, 3\], got shape \[2"):
        transport(np.eye(3), np.eye(3), cost=np.eye(2))
    with pytest.raises(DataError, match="needs known pairs, got no sample with both"):
        transport(np.eye(3), np.eye(3), kind="fused")
    with pytest.raises(ConfigError, match="names of two modalities of the data"):
        transport({"a": np.eye(3), "b": np.eye(3)}, "a")
    with pytest.raises(ConfigError, match="two arrays, or data and two names"):
        transport(np.eye(3), "a", "b")
    with pytest.raises(DataError, match="'c'"):
        transport({"a": np.eye(3), "b": np.eye(3)}, "a", "c")


def test_a_plan_that_exceeds_the_memory_is_an_error():
    many = np.zeros((20_001, 1))
    with pytest.raises(DataError, match="400000000 cells, got 20001 x 20001"):
        transport(many, many)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ConfigError, match=r"not installed\. Install mmgraph\[align\]"):
        transport(np.eye(3), np.eye(3))
