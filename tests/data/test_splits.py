"""Folds and bags: balanced over labels, whole in groups, the same for a seed."""

import numpy as np
import pytest

from mmgraph import FusionClassifier, MultimodalData
from mmgraph.data.splits import assign_folds, member_weights, num_feasible_folds


def test_every_fold_has_its_share_of_every_class():
    y = np.repeat([0, 1, 2], [50, 25, 10])
    folds = assign_folds(y, None, 5, seed=0)
    table = np.array([np.bincount(folds[y == k], minlength=5) for k in range(3)])
    assert table.tolist() == [[10] * 5, [5] * 5, [2] * 5]


def test_every_fold_has_its_share_of_every_range():
    y = np.random.default_rng(0).normal(size=100)
    folds = assign_folds(y, None, 4, seed=0)
    quarter = np.argsort(np.argsort(y)) // 25
    table = np.array([np.bincount(folds[quarter == q], minlength=4) for q in range(4)])
    assert table.min() >= 6
    assert table.sum(0).tolist() == [25] * 4


def test_tables_of_labels_are_dealt_out_by_their_rows():
    y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 6)
    folds = assign_folds(y, None, 3, seed=0)
    kinds = y @ [2, 1]
    table = np.array([np.bincount(folds[kinds == k], minlength=3) for k in range(4)])
    assert (table == 2).all()


def test_groups_share_a_fold_and_fill_folds_evenly():
    groups = np.repeat(np.array(list("abcdefg")), [30, 11, 10, 9, 5, 4, 1])
    folds = assign_folds(np.zeros(70), groups, 3, seed=0)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    assert sorted(np.bincount(folds)) == [20, 20, 30]


def test_fewer_groups_than_folds_leave_folds_empty():
    folds = assign_folds(np.zeros(6), np.array([1, 1, 2, 2, 2, 1]), 5, seed=0)
    assert len(set(folds)) == 2
    assert assign_folds(np.zeros(1), None, 1, seed=0).tolist() == [0]


@pytest.mark.parametrize("groups", [None, np.arange(40) // 2])
def test_seed_decides(groups):
    y = np.arange(40) % 2
    first = assign_folds(y, groups, 5, seed=1)
    assert np.array_equal(first, assign_folds(y, groups, 5, seed=1))
    assert not np.array_equal(first, assign_folds(y, groups, 5, seed=2))


@pytest.mark.parametrize("groups", [None, np.arange(40) // 4])
def test_members_hold_out_every_sample_in_turn(groups):
    bags = member_weights(np.arange(40) % 2, groups, 7, 5, seed=0)
    assert bags.shape == (7, 40)
    assert bags.dtype == np.float32
    assert set(np.unique(bags)) == {0, 1}
    assert ((bags[:5] == 0).sum(0) == 1).all()  # one partition
    assert ((bags[5:] == 0).sum(0) <= 1).all()  # the next one, begun
    if groups is not None:
        by_group = bags.reshape(7, 10, 4)
        assert (by_group == by_group[..., :1]).all()


def test_single_fold_holds_everything_out():
    assert member_weights(np.zeros(1), None, 2, 1, seed=0).tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("groups", "samples", "expected"),
    [
        (None, 3, 3),
        (None, 40, 5),
        (np.array(["a", "b", "c"] * 4), 12, 3),
        (np.zeros(12), 12, 1),
        (np.arange(12) // 2, 12, 5),
    ],
)
def test_there_are_as_many_folds_as_can_have_samples(groups, samples, expected):
    assert num_feasible_folds(groups, samples) == expected
    folds = assign_folds(np.zeros(samples), groups, expected, seed=0)
    assert set(folds) == set(range(expected))


@pytest.mark.parametrize("num_groups", [1, 2, 3, 7])
def test_every_member_is_judged_on_samples_that_it_has_not_seen(num_groups):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    groups = np.arange(60) % num_groups
    data = MultimodalData.from_arrays(
        {"a": x, "b": z}, y=x[:, 0] * z[:, 0] > 0, groups=groups
    )
    model = FusionClassifier(members=5, experts=["linear"], epochs=2).fit(data)
    for losses in model.history_.held_out_loss:
        assert min(losses) > 0.1  # a member that holds nothing out has none
