"""CSV files: every cell is kept, or the fault is named with its place."""

import gzip

import numpy as np
import pytest

from mmgraph import DataError, DataWarning, MultimodalData, MultimodalStream
from mmgraph.data.io import csv_table
from mmgraph.data.io.csv_table import is_untyped
from mmgraph.data.io.parquet import column_names, read_table


@pytest.fixture
def write(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_the_header_decides_the_separator(separator, start, write):
    text = f'{start}id,note,crp\r\n007,"a\r\n""b""{separator}c",1.50\r\n'
    path = write(text.replace(",", separator))
    assert column_names(path) == ["id", "note", "crp"]
    table = read_table(path)
    assert is_untyped(table)
    assert table.to_pylist() == [
        {"id": "007", "note": f'a\r\n"b"{separator}c', "crp": "1.50"}
    ]


def test_cells_with_line_breaks_may_span_blocks(write, monkeypatch):
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 1 << 10)
    note = "Seen on ward.\n" + "x" * (9 << 10)
    path = write(f'note,y\nshort,0\n"{note}",1\n')
    data = MultimodalData.from_parquet(path, modalities={"note": "note"}, y="y")
    assert data.columns["note"].values.tolist() == ["short", note]


def test_null_and_empty_cells_are_null(write):
    path = write('a,b\n1,""\nNA,x\n,NULL\n"  ",none\n')
    table = read_table(path)
    assert table["a"].to_pylist() == ["1", None, None, "  "]
    assert table["b"].to_pylist() == [None, "x", None, "none"]
    data = MultimodalData.from_parquet(path, modalities={"m": ["a", "b"]}, y=None)
    column = data.columns["m"]
    assert column.categories == (None, ("none", "x"))
    np.testing.assert_array_equal(column.values[0], [1, np.nan])


def test_a_file_without_rows_is_read(write):
    path = write("a,y\n")
    data = MultimodalData.from_parquet(path, modalities={"a": ["a"]}, y="y")
    assert len(data) == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("directive", ["", "sep=;\n", "SEP=;\r\n"])
def test_byte_order_marks_and_directives_of_excel_are_read(encoding, directive, write):
    text = directive + 'id;µg/L;note\n007;0,5;"a\nß"\n008;1,5;\n'
    for name, pack in (("t.csv", bytes), ("t.csv.gz", gzip.compress)):
        path = write(pack(text.encode(encoding)), name)
        assert column_names(path) == ["id", "µg/L", "note"]
        with pytest.warns(DataWarning, match="'0,5' in row 0 is read as 0.5"):
            data = MultimodalData.from_parquet(
                path, modalities={"a": ["µg/L"], "n": ["note"]}, y=None, ids="id"
            )
        assert data.ids.tolist() == ["007", "008"]
        assert data.columns["a"].values.ravel().tolist() == [0.5, 1.5]
        assert data.columns["n"].categories == (("a\nß",),)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id;crp, mg/L;age\n1;0,5;60\n2;1,5;61\n", ["id", "crp, mg/L", "age"]),
        ("id,codes (a;b),y\n1,I10;E11,0\n2,I10,1\n", ["id", "codes (a;b)", "y"]),
        ('id;"a,b";c\n1;2;3\n', ["id", "a,b", "c"]),
        ("id;crp, mg/L\n1;5\n2;6\n", ["id", "crp, mg/L"]),
        (" id , crp \n1,2\n", ["id", "crp"]),
        ("a,b\n", ["a", "b"]),
    ],
)
def test_the_first_rows_decide_between_two_separators(text, names, write):
    path = write(text)
    assert column_names(path) == names
    assert read_table(path).column_names == names


def test_a_folder_of_csv_files_is_refused_in_one_sentence(write, tmp_path):
    write("a,y\n1,0\n", "labs.csv")
    for read in (MultimodalData.from_parquet, MultimodalStream.from_parquet):
        with pytest.raises(DataError, match="join files of different columns by their"):
            read(tmp_path, modalities={"a": ["a"]})
    with pytest.raises(DataError, match="concatenate files of the same columns"):
        MultimodalData.from_folder(tmp_path)


FAULTS = [
    ("Müller,b\n1,2\n".encode("latin-1"), "a header in another encoding than UTF-8"),
    (
        "a,b\n1,2\n3,Müller\n".encode("latin-1"),
        "a text in another encoding than UTF-8 in line 3, after '3,M'.*CSV UTF-8",
    ),
    ("a,b\n1,2\n".encode("utf-16")[:-1], "truncated data"),
    ("a;b,c\n1;2,3\n", "both ',' and ';' may separate columns; put its names in qu"),
    (b"PK\x03\x04...", "an Excel file or ZIP archive"),
    (b"", "a file without a header"),
    (b"a,b\n1,2\n1,2,3\n", "Row #3: Expected 2 columns, got 3"),
    (b'a,b\n1,"x\n2,3\n4,5\n', "a quote without its pair before line 5"),
    (b'a,b\n1,"abc\n2,"def"\n3,4\n', "a quote without its pair before line 4"),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_faults_of_csv_files_are_named(content, message, write):
    with pytest.raises(DataError, match=rf"t\.csv must be a readable CSV.*{message}"):
        read_table(write(content))


def test_compressed_files_are_read(write):
    path = write(gzip.compress(b"a,b\n01,2\n"), "T.CSV.GZ")
    assert read_table(path).to_pylist() == [{"a": "01", "b": "2"}]


def test_columns_that_are_used_by_their_names_are_listed(write):
    pytest.importorskip("pandas", reason="needs the extra 'pandas'")
    path = write("wbc,y,id,group\n1,0,a,h1\n2,1,b,h2\n")
    with pytest.warns(
        DataWarning, match="'y' as y, 'id' as ids, 'group' as groups. Name the columns"
    ):
        data = MultimodalData.from_parquet(path, modalities={"labs": ["wbc"]})
    assert data.groups.tolist() == ["h1", "h2"]
    data.to_pandas().rename(columns={"labs.wbc": "wbc"}).to_parquet(
        path.with_suffix(".parquet")
    )
    with pytest.warns(DataWarning, match="'y' as y, 'id' as ids, 'group' as groups"):
        MultimodalStream.from_parquet(path.parent, modalities={"labs": ["wbc"]})
    named = {"y": "y", "ids": "id", "groups": None}
    again = MultimodalData.from_parquet(path, modalities={"labs": ["wbc"]}, **named)
    assert again.ids.tolist() == ["a", "b"]
    assert again.groups is None
