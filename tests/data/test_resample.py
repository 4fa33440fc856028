"""Resampling of sequences to regular times."""

import numpy as np
import pytest

from mmgraph import DataError, MultimodalData


def sequence(rate, seconds=4, keep=None):
    t = np.arange(seconds * rate) / rate
    t = t if keep is None else t[keep(t)]
    x = np.stack([t, np.sin(t)], axis=1)
    return MultimodalData.from_arrays({"a": [x, None]}, times={"a": [t, None]})


def test_lower_rates_average_without_a_shift():
    column = sequence(100).resample(10).columns["a"]
    assert column.lengths.tolist() == [40, 0]
    np.testing.assert_allclose(np.diff(column.time), 0.1)
    np.testing.assert_allclose(column.values[:, 0], column.time, rtol=1e-5)
    np.testing.assert_allclose(column.values[:, 1], np.sin(column.time), atol=1e-3)
    fast = np.resize([0.0, 1.0], 400)  # beyond the new rate: it must vanish
    data = MultimodalData.from_arrays(
        {"a": [fast]}, times={"a": [np.arange(400) / 100]}
    )
    np.testing.assert_allclose(data.resample(10).columns["a"].values, 0.5)


def test_higher_rates_interpolate():
    column = sequence(10).resample(40).columns["a"]
    np.testing.assert_allclose(column.time, np.arange(157) / 40, atol=1e-9)
    np.testing.assert_allclose(column.values[:, 0], column.time, rtol=1e-5, atol=1e-7)


def test_equal_rates_change_nothing():
    data = sequence(50)
    same = data.resample({"a": 50}).columns["a"]
    np.testing.assert_allclose(same.values, data.columns["a"].values, atol=1e-6)
    np.testing.assert_allclose(same.time, data.columns["a"].time, atol=1e-9)


@pytest.mark.parametrize("rate", [5, 20])
def test_gaps_stay_gaps(rate):
    data = sequence(10, keep=lambda t: (t < 1) | (t >= 3))
    time = data.resample(rate).columns["a"].time
    assert not ((time > 1) & (time < 2.9)).any()
    assert (time < 1).sum() + (time >= 2.9).sum() == len(time) >= 2 * rate - 2


def test_missing_cells_and_other_modalities():
    t = np.arange(40) / 10
    x = np.stack([t, np.where(t < 2, np.nan, t)], axis=1)
    data = MultimodalData.from_arrays(
        {"a": [x], "age": [[3.0]], "note": ["calm"]}, times={"a": [t]}
    ).resample(2)
    assert np.isnan(data.columns["a"].values).sum(axis=0).tolist() == [0, 4]
    assert data.columns["age"].values.tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (0, r"resample\['a'\] must be above 0 Hz, got 0"),
        ({"a": "fast"}, "must be above 0 Hz, got 'fast'"),
        ({"b": 1}, "'b'"),
        ({"note": 1}, "must have times for resample, got none"),
        ({"a": 1e12}, "rows after resample"),
    ],
)
def test_bad_rates_are_errors(rates, message):
    t = np.arange(40) / 10
    data = MultimodalData.from_arrays({"a": [t], "note": ["calm"]}, times={"a": [t]})
    with pytest.raises(DataError, match=message):
        data.resample(rates)
