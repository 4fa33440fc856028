"""Windows of recordings: cuts by time, labels, gaps, groups."""

import numpy as np
import pytest

from mmgraph import DataError, Modality, MultimodalData, Schema
from mmgraph.data.windows import label_column


def record(seconds=10, origin=0.0, labels=None):
    """Return two recordings at 10 Hz and 1 Hz; the second is half as long."""
    parts = {"acc": [], "hr": []}
    times = {"acc": [], "hr": []}
    for length in (seconds, seconds / 2):
        for name, rate in (("acc", 10), ("hr", 1)):
            t = np.arange(length * rate) / rate
            parts[name].append(np.stack([t, -t], axis=1))
            times[name].append(origin + t)
    data = MultimodalData.from_arrays(
        parts | {"age": [[30.0], [40.0]]}, times=times, ids=["a", "b"], y=[0, 1]
    )
    if labels is None:
        return data
    clocks = [origin + np.asarray(t, dtype=float) for t, _ in labels]
    track = label_column(
        "state", clocks, [np.array(y, dtype=object) for _, y in labels]
    )
    return MultimodalData.from_columns(data.columns | {"state": track}, ids=data.ids)


@pytest.mark.parametrize("origin", [0.0, 1.7e9 + 0.1])
def test_every_sensor_is_cut_at_the_same_times(origin):
    data = record(origin=origin).windows(4, step=2)
    assert data.ids.tolist() == ["a@0", "a@2", "a@4", "a@6", "b@0"]
    assert data.y.tolist() == [0, 0, 0, 0, 1]
    assert data.groups.tolist() == ["a"] * 4 + ["b"]
    acc, hr, age = data.columns.values()
    assert acc.lengths.tolist() == [40] * 5
    assert hr.lengths.tolist() == [4] * 5
    assert age.values[:, 0].tolist() == [30] * 4 + [40]
    np.testing.assert_allclose(acc.values[40:80, 0], 2 + np.arange(40) / 10, rtol=1e-6)
    np.testing.assert_allclose(acc.time[40:80], np.arange(40) / 10, atol=1e-6)


def test_windows_without_overlap_hold_every_row_once():
    whole, cut = record(), record().windows(2.5)
    np.testing.assert_array_equal(
        cut.columns["acc"].values, whole.columns["acc"].values
    )
    assert cut.ids.tolist() == ["a@0", "a@2.5", "a@5", "a@7.5", "b@0", "b@2.5"]


def test_gaps_make_sensors_missing_and_empty_windows_disappear():
    t = np.arange(100) / 10
    keep = (t < 3.5) | (t >= 8)
    data = MultimodalData.from_arrays(
        {"acc": [t[keep, None]]}, times={"acc": [t[keep]]}
    )
    assert data.windows(2).ids.tolist() == ["0@0", "0@2", "0@8"]
    assert data.windows(2).columns["acc"].lengths.tolist() == [20, 15, 20]
    assert data.windows(2, coverage=0.8).ids.tolist() == ["0@0", "0@8"]
    both = MultimodalData.from_arrays(
        {"acc": [t[keep, None]], "hr": [t[::10, None]]},
        times={"acc": [t[keep]], "hr": [t[::10]]},
    )
    present = both.windows(2, coverage=0.8).present
    assert present.tolist() == [[1, 1], [0, 1], [0, 1], [0, 1], [1, 1]]


LABELS = [([0, 3, 7], ["sit", "run", "sit"]), ([0, 2], [None, "run"])]


@pytest.mark.parametrize(
    ("rule", "share", "ids", "labels"),
    [
        # of a window of 4 s: sit for 3 s, run for 1 s; and so on
        ("majority", 0, "a@0 a@2 a@4 a@6 b@0", ["sit", "run", "run", "sit", "run"]),
        ("majority", 0.6, "a@0 a@2 a@4 a@6", ["sit", "run", "run", "sit"]),
        ("last", 0, "a@0 a@2 a@4 a@6 b@0", ["run", "run", "sit", "sit", "run"]),
        ("last", 0.6, "a@2 a@6", ["run", "sit"]),
        ("center", 0, "a@0 a@2 a@4 a@6 b@0", ["sit", "run", "run", "sit", "run"]),
    ],
)
def test_labels_follow_the_rule(rule, share, ids, labels):
    data = record(labels=LABELS).windows(
        4, step=2, label="state", rule=rule, share=share
    )
    assert data.ids.tolist() == ids.split()
    assert data.y.tolist() == labels
    assert "state" not in data.modalities


def test_the_mean_of_numbers_is_weighted_by_time():
    labels = [([0, 3, 7], [0.5, 2, 1]), ([0, 2], [np.nan, 4])]
    data = record(labels=labels)
    means = data.windows(4, step=4, label="state", rule="mean")
    np.testing.assert_allclose(means.y, [(3 * 0.5 + 2) / 4, (3 * 2 + 1) / 4, 4])
    some = data.windows(4, step=4, label="state", rule="mean", share=0.6)
    assert some.ids.tolist() == ["a@0", "a@4"]
    with pytest.raises(DataError, match="labels that are numbers, got 'run'"):
        record(labels=LABELS).windows(4, label="state", rule="mean")


def test_whole_numbers_stay_classes():
    labels = [([0, 5], [3, 0]), ([0], [3])]
    data = record(labels=labels).windows(2.5, label="state")
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [3, 3, 0, 0, 3, 3]
    means = record(labels=labels).windows(5, label="state", rule="mean")
    assert means.y.tolist() == [3, 0, 3]


def test_schema_and_split_are_kept():
    sensor = {"tokens": "ragged", "time": True}
    schema = Schema.star([Modality("acc", 2, **sensor), Modality("hr", 2, **sensor)])
    data = record().select(["acc", "hr"]).with_schema(schema)
    cut = data.replace(split_name=["train", "test"]).windows(5)
    assert cut.schema == schema
    assert cut.split_name.tolist() == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "seconds must be above 0, got 0"),
        ({"seconds": 2, "step": -1}, "step must be above 0, got -1"),
        (
            {"seconds": 20, "label": "state"},
            "must last at least 20 s, the longest lasts 10 s",
        ),
        ({"seconds": 2, "coverage": 2}, "coverage must be from 0 to 1, got 2"),
        ({"seconds": 2, "label": "mood"}, "mood"),
        ({"seconds": 2, "label": "acc"}, "one channel, got 2 channels"),
        ({"seconds": 2, "label": "age"}, "1 channels without times"),
        ({"seconds": 2, "label": "state", "rule": "first"}, "rule must be one of"),
        ({"seconds": 2, "label": "state", "share": 2}, "share must be from 0 to 1"),
    ],
)
def test_bad_arguments_are_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        record(labels=LABELS).windows(**arguments)


def test_recordings_without_times_or_labels_are_errors():
    data = MultimodalData.from_arrays({"acc": [np.ones((4, 2)), np.ones((3, 2))]})
    with pytest.raises(DataError, match="'acc' must have times for windows, got none"):
        data.windows(2)
    unlabeled = record(labels=[([0], [None]), ([0], [None])])
    with pytest.raises(DataError, match="must have a labeled window with rows"):
        unlabeled.windows(2, label="state")
