"""Data frames: names of columns, indices of rows, one frame per sample."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch_geometric.data import Batch as GraphBatch
from torch_geometric.data import Data, HeteroData

from mmgraph import Batch, DataError, DataWarning, MultimodalData

NAN = float("nan")
ECG = pd.DataFrame({"rate": [60.0, 61.0], "qt": [400.0, 401.0]})
DATES = pd.to_datetime(["1970-01-01 00:01", "1970-01-01 00:02"])


def read(entries, **options):
    return MultimodalData.from_arrays({"ecg": entries}, **options).columns["ecg"]


# Names of columns

TUPLES = pd.MultiIndex.from_tuples([("lab", "a"), ("lab", "b")])
NUMBERS = pd.DataFrame(np.arange(6.0).reshape(2, 3))
LEVELS = pd.DataFrame(np.arange(4.0).reshape(2, 2), columns=TUPLES)


@pytest.mark.parametrize(
    ("frame", "fields", "names"),
    [
        (NUMBERS, [0, 1], ("0", "1")),
        (NUMBERS, NUMBERS.columns[:2], ("0", "1")),
        (NUMBERS, np.array([0, 1]), ("0", "1")),
        (NUMBERS, 0, ("0",)),
        (LEVELS, [("lab", "a"), ("lab", "b")], ("lab.a", "lab.b")),
        (LEVELS, ("lab", "a"), ("lab.a",)),
        (LEVELS, ["lab.b"], ("lab.b",)),
    ],
)
def test_columns_are_named_by_numbers_and_tuples(frame, fields, names):
    data = MultimodalData.from_pandas(frame, {"labs": fields})
    assert data.columns["labs"].names == names


def test_labels_are_named_by_numbers_and_tuples():
    data = MultimodalData.from_pandas(NUMBERS, {"a": [0]}, y=2, ids=1)
    assert data.y.tolist() == [2, 5]
    assert data.ids.tolist() == [1, 4]
    with pytest.raises(DataError, match="must not hold the label '2'"):
        MultimodalData.from_pandas(NUMBERS, {"a": [0, 2]}, y=2)
    several = MultimodalData.from_pandas(NUMBERS, {"a": [0]}, y=[1, 2])
    assert several.y.tolist() == [[1, 2], [4, 5]]
    y = MultimodalData.from_pandas(LEVELS, {"a": [("lab", "a")]}, y=("lab", "b")).y
    assert y.tolist() == [1, 3]


@pytest.mark.parametrize("labels", [["a", "a"], [0, "0"]])
def test_repeated_names_are_refused(labels):
    frame = pd.DataFrame([[1.0, 2.0]], columns=labels)
    with pytest.raises(DataError, match=r"column '.' must exist once, got 2"):
        MultimodalData.from_pandas(frame, {"m": [labels[0]]})
    with pytest.raises(DataError, match="'ecg' must have columns of different names"):
        read(frame)


# Types of pandas that the guide does not list


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series(pd.period_range("1970", "1971", freq="Y")), [0, 365]),
        (pd.Series([dt.date(1970, 1, 2), None]), [1, NAN]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float32())), [1.5, NAN]),
        (pd.Series(pd.interval_range(0, 2)), ["(0, 1]", "(1, 2]"]),
        (pd.Series(pd.cut([1, 9], 2)), ["(0.992, 5.0]", "(5.0, 9.0]"]),
        (pd.Series([Path("a"), Path("b")]), ["a", "b"]),
    ],
)
def test_extension_types_are_read(series, expected):
    column = MultimodalData.from_pandas(pd.DataFrame({"x": series}), {"m": ["x"]})
    cells, categories = column.columns["m"].cells("x")
    if categories:
        assert [categories[int(cell)] for cell in cells] == expected
    else:
        known = [value for value in expected if value == value]
        np.testing.assert_array_equal(cells, known)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, {"a": 1}], "must hold numbers, dates or strings, got dict in row 1"),
        ([1 + 2j, 2], "must hold numbers, dates or strings, got complex in row 0"),
        (
            [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
            "must hold times with a zone or without, got both",
        ),
    ],
)
def test_other_cells_are_named(cells, message):
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    with pytest.raises(DataError, match=f"column 'x' {message}"):
        MultimodalData.from_pandas(frame, {"m": ["x"]})


# Indices


def test_rows_of_different_indices_are_not_combined():
    shuffled = ECG.iloc[[1, 0]]
    for options in ({"y": shuffled["qt"]}, {"groups": shuffled["qt"]}):
        with pytest.raises(
            DataError, match=r"must have the same index, got 0 and 1 in"
        ):
            read(ECG, **options)
    with pytest.raises(DataError, match="a and b must have the same index"):
        MultimodalData.from_arrays({"a": ECG, "b": shuffled})
    assert read(shuffled, y=shuffled["qt"]).values[0].tolist() == [61, 401]
    assert len(read(shuffled, y=[1, 2])) == 2


def test_a_frame_of_mixed_types_is_a_table():
    frame = pd.DataFrame(
        {"age": [61, 58], "sex": ["f", None], "ill": pd.array([True, None])}
    )
    column = read(frame, present={"ecg": [True, True]})
    assert column.names == ("age", "sex", "ill")
    assert column.categories == (None, ("f",), None)
    np.testing.assert_array_equal(column.values, [[61, 0, 1], [58, NAN, NAN]])
    assert read(pa.table({"a": [1, None]})).names == ("a",)
    assert read(pd.Series([1, None], dtype="Int64")).values.tolist() == [[1]]


# One frame per sample


def test_frames_are_aligned_by_name():
    column = read([ECG, None, ECG[["qt", "rate"]]])
    assert column.names == ("rate", "qt")
    assert column.lengths.tolist() == [2, 0, 2]
    assert column.values[:2].tolist() == column.values[2:].tolist()
    with pytest.warns(DataWarning, match="columns that some data frames lack: qt"):
        column = read([ECG, pd.DataFrame({"rate": [1]})])
    np.testing.assert_array_equal(column.values[2], [1, NAN])
    with pytest.raises(DataError, match="with a column in common, got rate, qt, spo2"):
        read([ECG, pd.DataFrame({"spo2": [97.0]})])
    with pytest.raises(DataError, match=r"a data frame or None .* got list in sampl"):
        read([ECG, [[1.0, 2.0]]])


@pytest.mark.parametrize(
    ("frame", "source"),
    [
        (ECG.assign(when=DATES), "column 'when'"),
        (ECG.assign(when=DATES.tz_localize("UTC")), "column 'when'"),
        (ECG.set_index(DATES), "index"),
    ],
)
def test_dates_of_frames_are_times(frame, source):
    with pytest.warns(
        DataWarning, match=f"the {source} of its data frames holds dates"
    ):
        column = read([frame, None])
    assert column.names == ("rate", "qt")
    assert column.time.tolist() == [60, 120]


def test_other_times_of_frames_are_named():
    dated = ECG.assign(when=DATES)
    with pytest.raises(
        DataError, match="one time per row, got the columns when and tim"
    ):
        read([dated], times={"ecg": [[0, 1]]})
    with (
        pytest.raises(DataError, match="must have the column 'when' of times in every"),
        pytest.warns(DataWarning),
    ):
        read([dated, ECG])
    with pytest.warns(DataWarning, match="column 'Time' of its data frames ascends"):
        assert read([ECG.assign(Time=[0.0, 0.5])]).channels == 3
    with pytest.raises(
        DataError, match="numbers in sequences, got column 'lead' of str"
    ):
        read([ECG.assign(lead=["I", "II"])])


# Other tables


class Exported:
    """Table of another library, with the Arrow PyCapsule interface alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_tables_of_other_libraries_are_read():
    views = pa.array(["f", None], pa.string_view())
    table = pa.table({"age": [61, None], "sex": views})
    data = MultimodalData.from_arrow(
        Exported(table), modalities={"m": ["age", "sex"]}, y=None
    )
    np.testing.assert_array_equal(data.columns["m"].values, [[61, 0]])
    with pytest.raises(DataError, match="table must be an Arrow table or export one"):
        MultimodalData.from_arrow([1], modalities={"m": ["age"]}, y=None)
    with pytest.raises(DataError, match="from_arrow, which reads polars"):
        MultimodalData.from_pandas(Exported(table), {"m": ["age"]})


# Graphs


def graph(i):
    data = HeteroData()
    data["labs"].x = torch.full((1, 3), float(i))
    data.y = torch.tensor([i % 2])
    return data


def test_graphs_come_from_any_iterable():
    for graphs in (
        (graph(i) for i in range(2)),
        GraphBatch.from_data_list([graph(0), graph(1)]),
    ):
        data = MultimodalData.from_hetero_data(graphs)
        assert data.y.tolist() == [0, 1]
        assert data.columns["labs"].values[:, 0].tolist() == [0, 1]
    assert len(MultimodalData.from_hetero_data(graph(1))) == 1
    with pytest.raises(
        DataError, match=r"graphs must be HeteroData, .* got Data at samp"
    ):
        MultimodalData.from_hetero_data([Data(x=torch.ones(1, 3))])
    with pytest.raises(DataError, match="data must be one HeteroData, got list"):
        Batch.from_hetero_data([graph(0)])
