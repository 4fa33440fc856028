"""Corrections of times: shifts and factors by modality and by sample."""

import math

import numpy as np
import pytest

from mmgraph import MultimodalData
from mmgraph.errors import DataError

DATA = MultimodalData.from_arrays(
    {"ecg": [[1.0, 2.0, 3.0], None, [4.0, 5.0]], "labs": [[1.0, 2.0]] * 3},
    times={"ecg": [[0.0, 1.0, 4.0], None, [10.0, 12.0]]},
)


def test_shifts_are_added_to_the_times_of_each_sample():
    moved = DATA.shift_times({"ecg": [0.5, 7.0, -1.0]})
    assert moved.columns["ecg"].time.tolist() == [0.5, 1.5, 4.5, 9.0, 11.0]
    assert DATA.columns["ecg"].time.tolist() == [0.0, 1.0, 4.0, 10.0, 12.0]
    assert moved.shift_times({"ecg": np.array([-0.5, 0, 1])}).equals(DATA)
    assert DATA.shift_times({"ecg": np.float32(2)}).columns["ecg"].time[0] == 2


def test_factors_keep_the_first_row():
    slow = DATA.stretch_times({"ecg": 2.0})
    assert slow.columns["ecg"].time.tolist() == [0.0, 2.0, 8.0, 10.0, 14.0]
    assert slow.stretch_times({"ecg": [0.5, 1.0, 0.5]}).equals(DATA)


def test_unknown_shifts_change_nothing():
    partly = DATA.shift_times({"ecg": [math.nan, math.nan, 1.0]})
    assert partly.columns["ecg"].time.tolist() == [0.0, 1.0, 4.0, 11.0, 13.0]
    kept = DATA.stretch_times({"ecg": [math.nan, 1.0, math.nan]})
    assert kept.equals(DATA)


def test_faults_are_named():
    with pytest.raises(DataError, match="'labs' must have times for shift_times"):
        DATA.shift_times({"labs": 1.0})
    with pytest.raises(DataError, match=r"shift_times.*'eeg'"):
        DATA.shift_times({"eeg": 1.0})
    with pytest.raises(DataError, match=r"one for each of the 3 samples, got shape"):
        DATA.shift_times({"ecg": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"must be a finite number of seconds.*got inf"):
        DATA.shift_times({"ecg": math.inf})
    with pytest.raises(DataError, match="must be a finite number of seconds"):
        DATA.shift_times({"ecg": "late"})
    with pytest.raises(DataError, match=r"must be above 0, got -1\. Times cannot run"):
        DATA.stretch_times({"ecg": -1.0})
    with pytest.raises(DataError, match="shift_times must be"):
        DATA.shift_times(0.5)
