"""Tables of thousands of columns: linear time, and the rules of each column."""

import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from mmgraph import DataError, DataWarning, MultimodalData, MultimodalStream
from mmgraph.data.column_names import ColumnNames
from mmgraph.data.number_strings import read_certain_numbers

WIDTH = 4000
NAMES = [f"c{i}" for i in range(WIDTH)]
COLUMNS = {"a": NAMES}


@pytest.fixture(scope="module")
def wide():
    cells = np.random.default_rng(0).normal(size=(12, WIDTH)).astype(np.float32)
    return pd.DataFrame(cells, columns=NAMES).astype(np.float64)


@pytest.mark.parametrize("kind", ["pandas", "list", "arrow", "csv", "parquet"])
def test_a_wide_table_is_read_in_linear_time(wide, kind, tmp_path):
    table = pa.table({name: wide[name].to_numpy() for name in NAMES})
    path = tmp_path / f"wide.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "csv":
        csv.write_csv(table, path)
    wider = pd.concat([wide, wide.add_prefix("x"), wide.add_prefix("y")], axis=1)
    turned = [wide.iloc[:2, ::-1], wide.iloc[2:]]
    start = time.process_time()
    if kind == "pandas":
        data = MultimodalData.from_pandas(wider, {"a": NAMES, "b": [*wider][WIDTH:]})
    elif kind == "list":
        data = MultimodalData.from_arrays({"a": turned})
    elif kind == "arrow":
        data = MultimodalData.from_arrow(table, modalities=COLUMNS, y=None)
    elif kind == "csv":
        data = MultimodalData.from_parquet(path, modalities=COLUMNS, y=None)
    else:
        data = MultimodalStream.from_parquet(path, modalities=COLUMNS, y=None).load()
    seconds = time.process_time() - start
    values = data.columns["a"].values
    if kind == "list":
        assert data.columns["a"].names == tuple(NAMES[::-1])
        values = values[:, ::-1]
    np.testing.assert_allclose(values, wide.to_numpy(), rtol=1e-6)
    # 7 to 60 seconds where each name was searched for in a list
    assert seconds < 2


def test_columns_that_are_read_together_follow_the_rules_of_one_column():
    frame = pd.DataFrame(
        {
            "whole": np.array([2**24 + 1, 2**24 + 3]),
            "flag": [True, False],
            "half": np.array([0.5, np.nan], dtype=np.float16),
            "text": ["1.5", ">2"],
            "kind": pd.Categorical(["b", "a"]),
            "gaps": pd.array([None, 3], dtype="Int64"),
        }
    )
    with pytest.warns(DataWarning) as caught:
        together = MultimodalData.from_pandas(frame, {"a": list(frame)})
    messages = " ".join(str(each.message) for each in caught)
    assert "loses digits of channel whole" in messages
    assert "'>2' in row 1 is read as 2" in messages
    column = together.columns["a"]
    with pytest.warns(DataWarning):
        alone = [MultimodalData.from_pandas(frame, {"a": [f]}) for f in frame]
    for i, each in enumerate(alone):
        one, cells = each.columns["a"], np.full(2, np.nan)
        cells[one.present] = one.values[:, 0]
        np.testing.assert_array_equal(column.values[:, i], cells)
    assert column.categories[4] == ("a", "b")


def test_a_repeated_name_is_refused_once_it_is_read():
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x", "x", "z"])
    assert MultimodalData.from_pandas(frame, {"a": ["z"]}).columns["a"].names == ("z",)
    with pytest.raises(DataError, match="column 'x' must exist once, got 2 in: x, x"):
        MultimodalData.from_pandas(frame, {"a": ["z", "x"]})


def test_names_are_found_with_their_repeats():
    names = ColumnNames(["b", "a", "b"])
    assert list(names) == ["b", "a", "b"]
    assert len(names) == 3
    assert "a" in names
    assert "c" not in names
    assert names.count("b") == 2
    assert names.repeated == "b"
    assert names.position("a") == 1
    assert ColumnNames("ab").repeated is None
    with pytest.raises(DataError, match=r"column 'c' must exist once, got 0 .* Rename"):
        names.position("c", "Rename it.")


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", "-2.5", "3e4"], [1, -2.5, 3e4]),
        (["0", None, "0.5"], [0, np.nan, 0.5]),
        ([None, None, None], None),
        (["01", "2", "3"], None),
        (["1234567890123456", "2", "3"], None),
        (["1", "2", "x"], None),
        (["1", "2", " 3"], None),
        (["inf", "2", "3"], None),
    ],
)
def test_only_certain_numbers_are_read_together(cells, numbers):
    arrays = [pa.array(["7", "8", "9"], pa.large_string())] * 2
    arrays.insert(1, pa.array(cells, pa.large_string()))
    first, read, last = read_certain_numbers(arrays)
    assert first.tolist() == last.tolist() == [7, 8, 9]
    if numbers is None:
        assert read is None
    else:
        np.testing.assert_array_equal(read, numbers)
    assert read_certain_numbers([]) == []
