"""Offsets of clocks: sign, shifts, intervals, gaps, rates, errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from mmgraph import MultimodalData
from mmgraph.alignment import estimate_offset
from mmgraph.alignment.clocks import _calibrate
from mmgraph.alignment.lags import TemperedIntervals, correlate, peak_score
from mmgraph.alignment.signals import add_lags, resample
from mmgraph.alignment.synchrony import Lags
from mmgraph.errors import ConfigError, DataError

SECONDS, FINE = 8.0, 400.0


def recordings(seed=0, count=12, noise=0.3, related=True):
    """Return recordings of one motion by two sensors of 20 and 25 Hz.

    The second sensor measures the motion 0.06 s later, in another direction.
    """
    rng = np.random.default_rng(seed)
    arrays, times = {"watch": [], "camera": []}, {"watch": [], "camera": []}
    for _ in range(count):
        motion = rng.standard_normal((int((SECONDS + 1) * FINE), 2))
        motion = gaussian_filter1d(motion, 0.1 * FINE, axis=0) * 8
        other = motion if related else motion[rng.permutation(len(motion))]
        for name, hertz, late, x in (
            ("watch", 20, 0.0, motion),
            ("camera", 25, 0.06, gaussian_filter1d(other, 5, axis=0)),
        ):
            time = np.arange(0, SECONDS, 1 / hertz)
            rows = x[np.round((time + 0.5 - late) * FINE).astype(int)]
            mix = rows @ [[1.0, 0.5], [-0.5, 1.0]] if name == "camera" else rows
            arrays[name].append(mix + noise * rng.standard_normal(rows.shape))
            times[name].append(time)
    return MultimodalData.from_arrays(arrays, times=times)


DATA, REFERENCE = recordings(0), recordings(1)


def test_a_shifted_copy_of_the_reference_has_exactly_its_shift():
    ahead = REFERENCE.shift_times({"watch": 0.3})
    found = estimate_offset(ahead, "watch", "camera", reference=REFERENCE)
    assert found.seconds == pytest.approx(0.3, abs=1e-3)
    assert found.low < 0.3 < found.high
    right = ahead.shift_times({"watch": -found.seconds})
    again = estimate_offset(right, "watch", "camera", reference=REFERENCE)
    assert again.seconds == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "per"),
    [
        (None, "all"),
        (REFERENCE, "all"),
        (REFERENCE, "sample"),
        pytest.param(None, "sample", marks=pytest.mark.slow),
    ],
)
def test_a_shift_is_added_to_the_offset(reference, per):
    options = {"reference": reference, "per": per, "max_seconds": 1.5}
    before = estimate_offset(DATA, "watch", "camera", **options)
    moved = DATA.shift_times({"watch": 0.2345})
    after = estimate_offset(moved, "watch", "camera", **options)
    np.testing.assert_allclose(after.seconds, before.seconds + 0.2345, atol=1e-6)
    np.testing.assert_allclose(after.low, before.low + 0.2345, atol=1e-6)
    other = DATA.shift_times({"camera": 0.2345})
    back = estimate_offset(other, "watch", "camera", **options)
    np.testing.assert_allclose(back.seconds, before.seconds - 0.2345, atol=1e-6)


def test_without_reference_the_offset_is_the_lag_of_dependence():
    found = estimate_offset(DATA, "watch", "camera")
    assert found.seconds == pytest.approx(-0.06, abs=0.02)
    assert found.low <= found.seconds <= found.high
    assert found.high - found.low < 0.1
    assert found.score > 3


def test_exchanged_modalities_have_the_negative_offset():
    for reference in (None, REFERENCE):
        moved = DATA.shift_times({"watch": 0.2})
        one = estimate_offset(moved, "watch", "camera", reference=reference)
        two = estimate_offset(moved, "camera", "watch", reference=reference)
        assert one.seconds == pytest.approx(-two.seconds, abs=2e-3)


def test_unrelated_signals_have_a_wide_interval_and_a_low_score():
    noise = recordings(2, count=10, related=False)
    for reference in (None, recordings(3, count=10, related=False)):
        found = estimate_offset(noise, "watch", "camera", reference=reference)
        assert found.low < 0 < found.high
        assert found.high - found.low > 1.5
        assert found.score < 1.5


@pytest.mark.slow
def test_intervals_of_samples_contain_the_truth():
    data, reference = recordings(4, 40, noise=1.5), recordings(5, 40, noise=1.5)
    truth = np.random.default_rng(0).uniform(-0.5, 0.5, 40)
    moved = data.shift_times({"watch": truth})
    found = estimate_offset(moved, "watch", "camera", reference=reference, per="sample")
    inside = (found.low <= truth) & (truth <= found.high)
    assert 0.8 <= inside.mean() <= 1
    assert np.median(np.abs(found.seconds - truth)) < 0.05
    assert np.median(found.high - found.low) < 0.5


def test_a_sample_with_another_offset_is_found_without_reference():
    shift = np.zeros(12)
    shift[7] = 0.7
    moved = DATA.shift_times({"watch": shift})
    found = estimate_offset(moved, "watch", "camera", per="sample")
    middle = np.median(found.seconds)
    assert found.seconds[7] - middle == pytest.approx(0.7, abs=0.03)
    assert np.abs(np.delete(found.seconds, 7) - middle).max() < 0.1


def test_samples_without_both_modalities_have_no_offset():
    present = np.ones((12, 2), dtype=bool)
    present[3, 0] = present[5, 1] = False
    partly = DATA.mask(present)
    found = estimate_offset(
        partly, "watch", "camera", reference=REFERENCE, per="sample"
    )
    np.testing.assert_array_equal(np.isnan(found.seconds), ~present.all(axis=1))
    kept = DATA[np.flatnonzero(present.all(axis=1))]
    alone = estimate_offset(kept, "watch", "camera", reference=REFERENCE, per="sample")
    np.testing.assert_array_equal(found.seconds[present.all(axis=1)], alone.seconds)
    partly.shift_times({"watch": -found.seconds})


def test_samples_whose_recordings_are_far_apart_have_no_offset():
    shift = np.zeros(12)
    shift[4] = 1e6
    moved = DATA.shift_times({"watch": shift})
    found = estimate_offset(moved, "watch", "camera", reference=REFERENCE, per="sample")
    assert np.flatnonzero(np.isnan(found.seconds)).tolist() == [4]
    pooled = estimate_offset(moved, "watch", "camera", reference=REFERENCE)
    assert abs(pooled.seconds) < 0.01


@pytest.mark.parametrize("reference", [None, REFERENCE])
def test_one_recording_has_an_offset_and_an_interval(reference):
    found = estimate_offset(DATA[[0]], "watch", "camera", reference=reference)
    assert found.low <= found.seconds <= found.high
    assert abs(found.seconds + (0.06 if reference is None else 0)) < 0.05
    assert found.high > found.low


@pytest.mark.slow
def test_the_ratio_of_clocks_is_found():
    slow = DATA.stretch_times({"watch": 1 / 1.25})
    found = estimate_offset(slow, "watch", "camera", rate=True)
    assert found.rate == pytest.approx(1.25, abs=0.01)
    right = slow.stretch_times({"watch": found.rate})
    right = right.shift_times({"watch": -found.seconds})
    again = estimate_offset(right, "watch", "camera")
    assert abs(again.seconds) < 0.01
    assert estimate_offset(DATA, "watch", "camera").rate == 1


def test_the_seed_determines_the_interval():
    first, second, other = (
        estimate_offset(DATA, "watch", "camera", seed=seed) for seed in (0, 0, 1)
    )
    assert (first.low, first.high) == (second.low, second.high)
    assert first.seconds == other.seconds


def test_long_gaps_are_not_interpolated():
    time = np.delete(np.arange(20) * 0.1, [4, 10, 11, 12])
    values = np.sin(time)[:, None]
    data = MultimodalData.from_arrays({"a": [values]}, times={"a": [time]})
    found = resample(data.columns["a"], 0, 0.05, 0.1)
    seconds = 0.05 * np.arange(len(found.values))
    inner = (seconds > 0.9 + 1e-6) & (seconds < 1.3 - 1e-6)
    np.testing.assert_array_equal(np.isnan(found.values[:, 0]), inner)
    np.testing.assert_allclose(
        found.values[~inner, 0], np.sin(seconds[~inner]), atol=0.01
    )


def test_rows_with_missing_cells_are_gaps():
    values = np.arange(8.0)[:, None] + [0, 10]
    values[3:6, 1] = np.nan
    time = np.arange(8.0)
    data = MultimodalData.from_arrays({"a": [values]}, times={"a": [time]})
    found = resample(data.columns["a"], 0, 1.0, 1.0).values
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), (time > 2) & (time < 6))
    shifted = resample(data.columns["a"], 0, 1.0, 1.0, phase=0.25)
    assert shifted.start == 0.25
    np.testing.assert_allclose(shifted.values[:2, 0], [0.25, 1.25])


def test_lags_of_features_are_those_of_other_cells():
    x = np.arange(6.0)[:, None]
    found = add_lags(x, 2)
    np.testing.assert_array_equal(found[2], [2, 4, 0, np.nan, np.nan])
    np.testing.assert_array_equal(found[1], [1, 3, np.nan, 5, np.nan])


def test_products_at_lags_equal_a_loop():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 2)), rng.standard_normal((6, 2))
    found = correlate(x, y, 12, 1.0)
    for place, lag in enumerate(range(-11, 14)):
        cells = [q for q in range(6) if 0 <= q + lag < 9]
        total = sum((x[q + lag] * y[q]).sum() for q in cells)
        assert found[place] == pytest.approx(total, abs=1e-12)


def test_the_temperature_is_the_least_that_contains_the_truth():
    lags = Lags(0.1, 20, 1)
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 0.3, 50)
    curves = -0.5 * ((lags.seconds - centers[:, None]) / 0.03) ** 2
    temperature = _calibrate(curves, np.zeros(50), lags)
    low, high = TemperedIntervals(curves, lags.seconds).at(temperature)
    assert ((low <= 0) & (high >= 0)).sum() >= 46
    assert 60 < temperature < 200  # (0.3 / 0.03) ** 2
    assert peak_score(np.zeros((1, 41))).tolist() == [0]


def test_faults_are_named():
    def estimate(data=DATA, a="watch", b="camera", **options):
        return estimate_offset(data, a, b, **options)

    with pytest.raises(ConfigError, match="a and b must be two modalities, got"):
        estimate(b="watch")
    with pytest.raises(ConfigError, match="max_seconds must be a number above 0"):
        estimate(max_seconds=0)
    with pytest.raises(ConfigError, match="per must be 'all' or 'sample', got 'group'"):
        estimate(per="group")
    with pytest.raises(DataError, match=r"less than the 7\.95 s of the longest"):
        estimate(max_seconds=10)
    with pytest.raises(DataError, match=r"max_seconds must be at least the 0\.05 s"):
        estimate(max_seconds=0.01)
    with pytest.raises(DataError, match=r"estimate_offset.*'radar'"):
        estimate(b="radar")
    with pytest.raises(DataError, match="must get MultimodalData, got dict"):
        estimate({"watch": [[1.0]]})
    untimed = MultimodalData.from_arrays({"watch": [[1.0]], "camera": [[1.0]]})
    with pytest.raises(DataError, match="'watch' must have numbers with times, got no"):
        estimate(untimed)
    present = {"watch": [True, False] * 6, "camera": [False, True] * 6}
    with pytest.raises(DataError, match="needs samples with 'watch' and 'camera', got"):
        estimate(DATA.mask(present))
    column = DATA.columns["watch"]
    narrow = replace(column, values=column.values[:, :1])
    other = replace(DATA, columns={**DATA.columns, "watch": narrow})
    with pytest.raises(DataError, match="must have the channels of the reference"):
        estimate(other, reference=REFERENCE)
    with pytest.raises(DataError, match="a reference or at least two samples"):
        estimate(DATA[[0]], per="sample")
    late = REFERENCE.shift_times({"camera": 1e3})
    with pytest.raises(DataError, match="must overlap after a shift"):
        estimate(reference=late)
    with pytest.raises(DataError, match=r"must overlap after a shift .*=2, got none"):
        estimate(late)
    single = MultimodalData.from_arrays(
        {"watch": [np.ones((1, 1))] * 2, "camera": [np.ones((3, 1))] * 2},
        times={"watch": [[0.0]] * 2, "camera": [[0.0, 1.0, 2.0]] * 2},
    )
    with pytest.raises(DataError, match="'watch' must have samples with rows at sever"):
        estimate(single)
