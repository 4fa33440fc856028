"""Predictions as tables and files."""

import csv
import sys

import numpy as np
import pyarrow as pa
import pytest

from mmgraph.workflows.predict import to_csv, write_tables

TABLE = pa.table(
    {
        "id": ["plain", "with, comma", 'with "quotes"'],
        "match": [True, False, None],
        "probability_a,b": pa.array([0.5, 1e-12, np.nan], pa.float32()),
        "prediction": [1, 2, 3],
        "z": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0)), 2),
    }
)
CELLS = [
    ["id", "match", "probability_a,b", "prediction", "z"],
    ["plain", "true", "0.5", "1", "[0.0, 1.0]"],
    ["with, comma", "false", "1e-12", "2", "[2.0, 3.0]"],
    ['with "quotes"', "", "", "3", "[4.0, 5.0]"],
]


def test_csv_is_written_without_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it raises ImportError
    path = tmp_path / "p.csv"
    assert write_tables([TABLE, TABLE[:1]], path) == (4, 0)
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [*CELLS, CELLS[1]]
    assert "".join(to_csv([TABLE, TABLE[:1]])) == path.read_text(encoding="utf-8")


def test_csv_is_read_back_with_its_types(tmp_path):
    pd = pytest.importorskip("pandas")
    write_tables([TABLE[:2]], tmp_path / "p.csv")
    frame = pd.read_csv(tmp_path / "p.csv")
    assert frame["match"].tolist() == [True, False]
    assert frame["match"].dtype == bool
    assert frame["prediction"].dtype == np.int64
    assert frame["id"].tolist() == ["plain", "with, comma"]
