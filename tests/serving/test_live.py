"""Prediction on running recordings: chunks in, one prediction per window out."""

from itertools import pairwise

import numpy as np
import pytest

from mmgraph import DataError, FusionClassifier, MultimodalData
from mmgraph.serving import WindowPredictor

SECONDS = 120


def recording(seed=0, seconds=SECONDS, gap=(50, 71)):
    """Return rows and times of two sensors; both are silent in the gap."""
    rng = np.random.default_rng(seed)
    rows, times = {}, {}
    for name, rate, channels in (("acc", 10, 2), ("hr", 1, 1)):
        t = 7.3 + np.arange(seconds * rate) / rate
        t = t[(t < gap[0]) | (t >= gap[1])]
        level = (t // 20 % 2)[:, None] * 3
        rows[name], times[name] = level + rng.normal(size=(len(t), channels)), t
    return rows, times


def as_data(rows, times, age=40.0):
    return MultimodalData.from_arrays(
        {name: [each] for name, each in rows.items()} | {"age": [[age]]},
        times={name: [each] for name, each in times.items()},
    )


@pytest.fixture(scope="module")
def model():
    windows = as_data(*recording(1)).windows(10, step=5)
    y = [int(float(each.partition("@")[2]) // 20 % 2) for each in windows.ids]
    windows = windows.replace(y=y, groups=None)
    return FusionClassifier(level="model", experts=("linear",), seed=0).fit(windows)


def chunks(rows, times, seconds):
    """Yield the rows and times of chunks of equal duration."""
    edges = [*np.arange(7.0, SECONDS + 8, seconds), np.inf]
    for start, stop in pairwise(edges):
        part = {n: (t >= start) & (t < stop) for n, t in times.items()}
        yield (
            {name: rows[name][keep] for name, keep in part.items()},
            {name: times[name][keep] for name, keep in part.items()},
        )


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.7, 3, 33, 1000])
def test_predictions_are_those_of_the_whole_recording(model, seconds):
    rows, times = recording()
    windows = as_data(rows, times).windows(10, step=5, coverage=0.5)
    live = WindowPredictor(
        model, seconds=10, step=5, coverage=0.5, constant={"age": [40.0]}
    )
    found, most = [], 0
    for part in chunks(rows, times, seconds):
        found += live.push(*part)
        most = max(most, live.num_rows)
    found += live.finish()
    starts = [float(each.partition("@")[2]) + 7.3 for each in windows.ids]
    np.testing.assert_allclose([each.start for each in found], starts, atol=1e-6)
    np.testing.assert_allclose(
        [each.probabilities for each in found], model.predict_proba(windows), rtol=1e-6
    )
    assert [each.value for each in found] == model.predict(windows).tolist()
    assert all(each.stop == each.start + 10 for each in found)
    assert most <= 11 * 15  # rows of one window and a step, at 11 rows per second
    assert live.finish() == []


class Counter:
    """Counts the rows of each window in place of a model."""

    def predict(self, data):
        return data.columns["hr"].lengths


def test_late_rows_are_waited_for():
    live = WindowPredictor(Counter(), seconds=4, delay=2, origin=0)
    assert live.push({"hr": [1.0, 1.0]}, {"hr": [0.0, 5.0]}) == []
    assert live.push({"hr": [1.0, 1.0]}, {"hr": [1.0, 3.0]}) == []
    (first,) = live.push({"hr": [1.0]}, {"hr": [6.0]})
    assert (first.start, first.stop, first.value) == (0, 4, 3)
    assert first.probabilities is None
    assert live.push({"hr": [1.0]}, {"hr": [2.0]}) == []  # too late: it is left out
    (second,) = live.push({"hr": [1.0]}, {"hr": [10.0]})
    assert second.value == 2


def test_a_jump_of_the_clock_is_no_loop_over_windows():
    live = WindowPredictor(Counter(), seconds=2, step=1)
    live.push({"hr": [1.0]}, {"hr": [0.0]})
    found = live.push({"hr": [1.0, 1.0]}, {"hr": [1e9, 1e9 + 5]})
    assert [each.start for each in found] == [0, 1e9 - 1, 1e9]
    assert [each.start for each in live.finish()] == []
    assert live.num_rows == 1


def test_bad_chunks_are_errors():
    live = WindowPredictor(Counter(), seconds=2)
    assert live.push({}, {}) == live.finish() == []
    with pytest.raises(DataError, match="times of all sensors, got none of 'hr'"):
        live.push({"hr": [1.0]}, {})
    with pytest.raises(DataError, match="'hr' must have one entry per row"):
        live.push({"hr": [1.0, 2.0]}, {"hr": [1.0]})
    live.push({"hr": [1.0]}, {"hr": [1.0]})
    with pytest.raises(DataError, match="1 channels as in earlier chunks, got 2"):
        live.push({"hr": [[1.0, 2.0]]}, {"hr": [2.0]})
    for arguments in ({"seconds": 0}, {"seconds": 1, "step": -1}):
        with pytest.raises(DataError, match="must be above 0, got"):
            WindowPredictor(Counter(), **arguments)
    for arguments in ({"delay": -1}, {"coverage": 2}):
        with pytest.raises(DataError, match="delay must be at least 0 and coverage"):
            WindowPredictor(Counter(), seconds=1, **arguments)
