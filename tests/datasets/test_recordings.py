"""Converters of recordings, on small files of the same form."""

from pathlib import Path

import numpy as np
import pytest

from mmgraph.datasets.mirrors import from_mirror
from mmgraph.datasets.recordings import smooth_with_errors


def test_equal_errors_give_a_gaussian_mean() -> None:
    times, values = np.array([0.0, 1.0, 4.0]), np.array([2.0, 6.0, -1.0])
    weight = np.exp(-0.5 * (times - 1.0) ** 2)
    mean, precision = smooth_with_errors(
        times, values, np.full(3, 0.5), np.array([1.0]), width=1.0
    )
    assert mean == pytest.approx([weight @ values / weight.sum()])
    assert precision == pytest.approx([4 * weight.sum()])


def test_a_precise_measurement_dominates() -> None:
    mean, _ = smooth_with_errors(
        np.zeros(2), np.array([1.0, 9.0]), np.array([1e-3, 1.0]), np.zeros(1), width=1.0
    )
    assert mean == pytest.approx([1.0], abs=1e-4)


def test_a_point_far_from_all_measurements_gets_the_nearest_value() -> None:
    mean, precision = smooth_with_errors(
        np.array([0.0, 10.0]), np.array([3.0, 5.0]), np.ones(2), np.array([1e3]), 1.0
    )
    assert mean == pytest.approx([5.0])
    assert precision == pytest.approx([0.0])


def light_curves(folder: Path) -> Path:
    """Write three objects; the second one has no measurement in the band z."""
    arrays = {
        "host": np.ones((3, 3), np.float32),
        "y": np.array([0, 1, 2]),
        "snid": np.array([7, 8, 9]),
        "part": np.array([1, 2, 0]),
    }
    for band in "griz":
        rows = [[0.0, 16.0, 2.0], [7.0, 16.0, 2.0], [1.0, 5.0, 1.0], [0.0, 1.0, 1.0]]
        if band == "z":
            rows[2] = [1.0, -9.0, -9.0]
        arrays[band] = np.array(rows, np.float32)
        arrays[f"{band}_offsets"] = np.array([0, 2, 3, 4])
    np.savez(folder / "snpcc.npz", **arrays)
    return folder / "snpcc.npz"


def test_light_curves_have_flux_and_signal_on_a_grid_of_days(tmp_path: Path) -> None:
    data = from_mirror("snpcc", light_curves(tmp_path))
    assert data.split_name.tolist() == ["train", "test"]
    assert data.present.tolist() == [[True] * 5, [True, True, True, False, True]]
    column = data.columns["g"]
    assert column.lengths.tolist() == [4, 2]  # days 0 to 9, and 0 to 3
    assert column.time[:4].tolist() == [0, 3 * 86400, 6 * 86400, 9 * 86400]
    assert np.sinh(column.values[:4, 0]) == pytest.approx(2.0)  # 16 in units of 8
    assert np.sinh(column.values[0, 1]) == pytest.approx(
        16 * np.sqrt((1 + np.exp(-0.5 * (7 / 6) ** 2)) / 4), rel=1e-4
    )


def test_windows_keep_the_times_of_their_sensor(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    sensors = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
    arrays = dict.fromkeys(sensors, rows)
    arrays |= {f"{name}_offsets": np.array([0, 2, 5]) for name in sensors}
    labels = {"y": np.array([1, 0]), "classes": np.array(["seated", "walking"])}
    np.savez(tmp_path / "x.npz", **arrays, **labels, subject=np.array([3, 4]))
    data = from_mirror("phone_watch_har", tmp_path / "x.npz")
    assert data.y.tolist() == ["walking", "seated"]
    assert data.columns["watch_gyro"].time.tolist() == [0, 4, 8, 12, 16]
    assert data.columns["watch_gyro"].values[4].tolist() == [17, 18, 19]


def clips(folder: Path) -> Path:
    """Write two clips, whose letter is from frame 30 to 36."""
    lips = np.full((2, 75, 16, 24), 255, np.uint8)
    arrays = {
        "lips": lips,
        "logmel": np.zeros((2, 300, 26), np.float16),
        "words": np.array([["bin", "red", "at", "f", "two", "now"]] * 2),
        "word_frames": np.array([[[0, 10], [10, 20], [20, 30], [30, 36]]] * 2),
        "name": np.array(["one", "two"]),
        "part": np.array([1, 2]),
    }
    np.savez(folder / "grid.npz", **arrays)
    return folder / "grid.npz"


def test_clips_are_cut_to_the_letter(tmp_path: Path) -> None:
    path = clips(tmp_path)
    data, whole = from_mirror("grid_av", path), from_mirror("grid_av_whole", path)
    assert data.y.tolist() == ["f", "f"]
    assert data.columns["lips"].lengths.tolist() == [18, 18]
    assert data.columns["voice"].lengths.tolist() == [72, 72]
    assert data.columns["lips"].time[0] == pytest.approx(24 / 25)
    assert data.columns["voice"].time[0] == pytest.approx(24 / 25)
    assert whole.columns["lips"].lengths.tolist() == [75, 75]
    # a constant image has its lowest frequency only
    values = data.columns["lips"].values[0]
    assert values[0] == pytest.approx(16 * 24)
    assert values[1:] == pytest.approx(np.zeros(47), abs=1e-3)


def test_noise_of_no_decibels_doubles_the_power(tmp_path: Path) -> None:
    data = from_mirror("grid_av_0db", clips(tmp_path))
    power = np.exp(data.columns["voice"].values)
    assert power.min() > 1
    assert power.mean() == pytest.approx(2.0, rel=0.05)
