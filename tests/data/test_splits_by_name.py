"""Official splits, one group left out, and relations in time between merged rows."""

import numpy as np
import pytest

from mmgraph import (
    DataError,
    DataWarning,
    KNearest,
    Modality,
    MultimodalData,
    Relation,
    Schema,
    TimeWindow,
    load_dataset,
)


def make(**metadata):
    return MultimodalData.from_arrays({"a": np.arange(6.0)[:, None]}, **metadata)


def test_official_split_has_the_parts_of_the_data_set():
    data = load_dataset("basic_motions")
    train, test = data.official_split()
    assert set(train.split_name) == {"train"}
    assert set(test.split_name) == {"test"}
    assert len(train) == len(test) == 40


def test_other_parts_are_in_neither():
    data = make(split_name=["test", "train", "val", "train", "test", "val"])
    train, test = data.official_split()
    assert train.ids.tolist() == [1, 3]
    assert test.ids.tolist() == [0, 4]


def test_lacking_parts_are_errors():
    with pytest.raises(DataError, match="data with a split_name, got none"):
        make().official_split()
    with pytest.raises(DataError, match="the parts train and test, got train, val"):
        make(split_name=["train", "val"] * 3).official_split()


def test_random_splits_warn_about_an_official_one():
    data = make(split_name=["train", "test"] * 3)
    with pytest.warns(DataWarning, match="mixes the parts of the official split"):
        data.split(0.5)
    train, test = data.replace(split_name=None).split(0.5)  # without a warning
    assert len(train) == len(test) == 3
    data.official_split()[0].split(0.5)  # one part alone is split without a warning


def test_every_group_is_left_out_once_in_order():
    data = make(groups=[2, 10, 2, 10, 1, 1])
    splits = list(data.leave_one_group_out())
    assert [group for group, _, _ in splits] == [1, 2, 10]
    for group, train, test in splits:
        assert set(test.groups) == {group}
        assert group not in train.groups
        assert sorted([*train.ids, *test.ids]) == [0, 1, 2, 3, 4, 5]
    for groups in (None, ["a"] * 6):
        with pytest.raises(DataError, match="data of at least 2 groups, got"):
            next(make(groups=groups).leave_one_group_out())


def test_time_windows_between_merged_rows_warn_about_self_loops():
    t = np.arange(500) / 50  # 10 s at 50 Hz
    data = MultimodalData.from_arrays({"acc": [t[:, None]] * 3}, times={"acc": [t] * 3})

    def schema(topology, max_nodes=16, target="acc"):
        acc = Modality("acc", 1, tokens="ragged", time=True, max_nodes=max_nodes)
        other = Modality("hr", 1, tokens="ragged", time=True)
        return Schema([acc, other], relations=[Relation("acc", target, "r", topology)])

    message = (
        r"merged into 16 nodes 0\.62 s apart: nearly all of its edges are self-loop"
    )
    with pytest.warns(DataWarning, match=message) as caught:
        data.with_schema(schema(TimeWindow(0.5)))
    assert "TimeWindow(1.2), or max_nodes=40." in str(caught[0].message)
    for silent in (
        schema(TimeWindow(1.25)),
        schema(TimeWindow(0.5), max_nodes=40),
        schema(TimeWindow(0.01), max_nodes=500),  # rows are not merged
        schema(TimeWindow(0.5), target="hr"),
        schema(KNearest(3)),
    ):
        data.with_schema(silent)
