"""Fill values and ranges of channels, at fit and at prediction."""

import warnings

import numpy as np
import pytest

from mmgraph import (
    DataWarning,
    FusionClassifier,
    FusionRetriever,
    MultimodalData,
    evaluate,
)
from mmgraph.data.ranges import ChannelRanges
from mmgraph.datasets.load import load_dataset
from mmgraph.estimators.input_spec import InputSpec, removing_modalities

RNG = np.random.default_rng(0)
QUICK = {"members": 1, "epochs": 1, "experts": ("linear",), "hidden_channels": 8}


def normal(fill: float = np.nan, share: float = 0.2, size: int = 300) -> np.ndarray:
    """Standard normal cells of two channels, some of the first replaced."""
    x = np.random.default_rng(1).normal(size=(size, 2)).astype(np.float32)
    x[np.random.default_rng(2).random(size) < share, 0] = fill
    return x


def ranges_of(values) -> ChannelRanges:
    values = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    return ChannelRanges.fit("labs", values, [str(c) for c in range(values.shape[1])])


@pytest.mark.parametrize(
    "fill", [-9999, -999, 999, 1e20, 9.96921e36, -3.4028235e38, 32767, 99, 7e17]
)
def test_fill_values_are_missing_at_fit_and_at_prediction(fill):
    data = MultimodalData.from_arrays({"labs": normal(fill)})
    with pytest.warns(
        DataWarning, match=r"'labs' has fill values, .* cells of channel"
    ):
        spec, numbers = InputSpec.fit(data)
    missing = MultimodalData.from_arrays({"labs": normal()}).columns["labs"]
    assert numbers.columns["labs"].equals(missing)
    again = InputSpec.from_json(spec.to_json())
    assert again == spec
    assert again.read(data).columns["labs"].equals(missing)
    table = again.read_table("labs", normal(fill).astype(np.float64))
    np.testing.assert_array_equal(np.isnan(table), np.isnan(normal()))


def test_several_fill_values_are_found_in_one_channel():
    values = normal(-9999)
    values[:20, 0], values[20:40, 0] = 9999, 1e20
    with pytest.warns(DataWarning, match=r"-9999 in .*; 9999 in 20 .*; 1e\+20 in 20"):
        assert len(ranges_of(values).fill_values[0]) == 3


def test_samples_of_fill_values_alone_lack_the_modality():
    rows = [[[1.0, 2.0], [3.0, 4.0], [-9999, -9999]]] * 20 + [[[-9999, -9999]] * 2]
    data = MultimodalData.from_arrays({"ecg": rows})
    with pytest.warns(DataWarning, match="-9999 in 22 cells of channel 0"):
        _, numbers = InputSpec.fit(data)
    assert numbers.columns["ecg"].lengths.tolist() == [2] * 20 + [0]


@pytest.mark.parametrize(
    "values",
    [
        np.clip(RNG.normal(size=2000) * 20_000, -32768, 32767),  # a saturated sensor
        RNG.integers(0, 1000, 500),  # 999 within the range
        np.where(RNG.random(300) < 0.5, 0, 999),  # two levels
        RNG.lognormal(4, 2, 500).round(),
        [*RNG.normal(size=200), 999],  # once
        np.where(RNG.random(300) < 0.2, 1e9, RNG.normal(size=300)),  # no usual value
    ],
)
def test_other_values_are_kept(values):
    assert not ranges_of(values).fill_values


def test_values_that_may_be_fill_values_are_reported_and_kept():
    values = RNG.uniform(50, 400, 300)
    values[::10] = 999
    with pytest.warns(DataWarning, match="may mark missing cells: 999 in 30 cells"):
        assert not ranges_of(values).fill_values


@pytest.mark.parametrize("name", ["heart", "mfeat", "basic_motions"])
def test_included_data_sets_have_no_fill_values(name):
    for column in load_dataset(name).columns.values():
        assert not ChannelRanges.fit(name, column.values, column.fields).fill_values


def test_values_far_outside_the_training_data_are_reported_once():
    ranges = ranges_of(normal())
    values = normal(500.0)
    values[3, 1] = 3e38
    with pytest.warns(
        DataWarning, match=r"'labs' has values .* 0 \(500\); channel 1 \(3e"
    ):
        ranges.read("labs", values, "01")
    inside = normal(10.0)
    assert ranges.read("labs", inside, "01") is inside
    constant = ranges_of(np.zeros((20, 1)))
    constant.read("flag", np.ones((2, 1)), "0")
    vectors = np.c_[RNG.normal(size=(50, 3)), np.full(50, 0.01)].astype(np.float32)
    vectors[0, 3] = 0.0
    numbered = ChannelRanges.fit("image", vectors, "0123", named=False)
    numbered.read("image", np.ones((1, 4), np.float32), "0123")
    unknown = ranges_of(np.full((3, 1), np.nan))
    unknown.read("labs", normal(), "01"[:1])
    assert ChannelRanges.from_json(unknown.to_json(), 1) == unknown


def test_limits_contain_no_value_of_the_training_data():
    ranges = ranges_of([*RNG.normal(size=50), 123456.789])
    assert ranges.upper == (1_400_000.0,)
    with pytest.raises(ValueError, match="ranges of 1 channels for 2"):
        ChannelRanges.from_json(ranges.to_json(), 2)


def three(size: int = 60) -> MultimodalData:
    """Three modalities; a is always observed, b and c together or not at all."""
    b = normal(size=size)
    b[::3] = np.nan
    arrays = {"a": normal(size=size), "b": b, "c": b}
    return MultimodalData.from_arrays(arrays, y=np.arange(size) % 2)


def test_subsets_of_modalities_that_the_training_lacked_are_reported():
    data = three()
    spec, _ = InputSpec.fit(data)
    spec = InputSpec.from_json(spec.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in (data, data.select(["a"]), data[:1]):
            spec.warn_subsets(known)
        with removing_modalities():
            spec.warn_subsets(data.select(["b"]))
    alone = r"had: b without a \(40 samples\); b without c \(40 samples\)\. Measure"
    with pytest.warns(DataWarning, match=alone):
        spec.warn_subsets(data.select(["b"]))


@pytest.mark.slow
def test_predictions_report_new_subsets_where_they_are_not_intended():
    data = three()
    clf = FusionClassifier(**QUICK).fit(data)
    with pytest.warns(DataWarning, match="b without a"):
        clf.predict(data.select(["b"]))
    retriever = FusionRetriever(members=1, epochs=1, out_channels=4)
    retriever.fit(data.select(["a", "b"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(clf, data[:50], [0.5])
        retriever.embed(data.select(["b"]))


@pytest.mark.parametrize("value", [True, "0", [0.0]])
def test_ranges_of_a_file_hold_numbers(value):
    content = {"fill_values": {}, "lower": [value], "upper": [1.0]}
    with pytest.raises(TypeError, match="range "):
        ChannelRanges.from_json(content, 1)
    ranges = ChannelRanges.from_json(content | {"lower": [0]}, 1)
    assert ranges.lower == (0.0,)
