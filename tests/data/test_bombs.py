"""Small files that claim large tables, and files that are no files."""

import gzip
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgraph import DataError, MultimodalData, MultimodalStream, limits


def read(path):
    return MultimodalData.from_parquet(path, modalities={"a": ["x"]}, y=None, ids=None)


def write_zeros(path):
    pq.write_table(pa.table({"x": np.zeros(5_000_000)}), path, compression="zstd")


def write_repeated_string(path):
    long = pa.array([200_000 * "a"])
    table = pa.table({"x": long.take(pa.array(np.zeros(1000, dtype=int)))})
    pq.write_table(table, path, compression="zstd")


def write_repeated_list(path):
    table = pa.table({"x": pa.array([[200_000 * "a"]] * 1000)})
    pq.write_table(table, path, compression="zstd")


def write_csv(path):
    with gzip.open(path, "wb") as file:
        file.write(b"x,y\n" + b"0,1\n" * 9_000_000)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("zeros.parquet", write_zeros),
        ("string.parquet", write_repeated_string),
        ("list.parquet", write_repeated_list),
        ("zeros.csv.gz", write_csv),
    ],
)
def test_small_files_of_large_tables_are_refused(tmp_path, name, write):
    write(tmp_path / name)
    rule = rf"{name}: A file of \d+ bytes must hold at most \d+ bytes .*_expansion=NUM"
    with pytest.raises(DataError, match=rule):
        read(tmp_path / name)


def test_limits_of_tables_can_be_raised(tmp_path):
    write_zeros(tmp_path / "zeros.parquet")
    with limits.override(table_expansion=10_000):
        assert len(read(tmp_path / "zeros.parquet")) == 5_000_000


def test_repeated_strings_within_the_limits_are_read_as_before(tmp_path):
    """Long strings with few values are read as codes first, then as strings."""
    texts = ["a" * 90_000, None, "b" * 70_000] * 300
    table = pa.table({"x": texts, "y": [["c", None], [], None] * 300})
    pq.write_table(table, tmp_path / "text.parquet")
    with limits.override(table_expansion=100_000):
        data = MultimodalData.from_parquet(
            tmp_path / "text.parquet", modalities={"a": "x"}, y=None
        )
    assert list(data.columns["a"].values) == [text for text in texts if text]
    assert data.present[:3, 0].tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.csv.gz"])
@pytest.mark.parametrize("function", [read, MultimodalStream.from_parquet])
def test_pipes_are_refused(tmp_path, name, function):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"x\.\S+ must be"):
        function(tmp_path / name)


def test_names_in_a_parquet_file_are_covered_by_a_checksum(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"thalch": [1.0, 2.0], "crp": [3.0, 4.0]})
    data = MultimodalData.from_pandas(frame, {"labs": ["thalch", "crp"]})
    data.to_parquet(path)
    content = path.read_bytes()
    assert content.count(b"thalch") == 1
    path.write_bytes(content.replace(b"thalch", b"tha|ch"))
    with pytest.raises(DataError, match=r"a\.parquet.* another SHA-256: it was damag"):
        MultimodalData.from_parquet(path)


def test_an_interrupted_write_keeps_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    data = MultimodalData.from_arrays({"labs": np.ones((3, 2))})
    data.to_parquet(path)

    def failing(table, target, **options):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", failing)
    with pytest.raises(KeyboardInterrupt):
        data[:1].to_parquet(path)
    assert os.listdir(tmp_path) == ["a.parquet"]
    assert MultimodalData.from_parquet(path).equals(data)
