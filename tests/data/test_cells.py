"""What a column is: types of Arrow and pandas, labels, and values among them."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmgraph import DataError, DataWarning, FusionClassifier, MultimodalData
from mmgraph.data.cells import read_cells
from mmgraph.data.label_cells import read_labels
from mmgraph.data.targets import known_labels

BERLIN = dt.timezone(dt.timedelta(hours=1))


def cells(array, **options):
    result = read_cells("labs", "x", array, **options)
    return result.tolist() if isinstance(result, np.ndarray) else result.to_pylist()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([True, None]), [1, None]),
        (pa.array([1, None], pa.int8()), [1, None]),
        (pa.array([1.5], pa.float16()), [1.5]),
        (pa.array([2**63], pa.uint64()), [2.0**63]),
        (pa.array([Decimal("1.5"), None]), [1.5, None]),
        (pa.array([dt.date(1970, 1, 3), None]), [2, None]),
        (pa.array([dt.datetime(1970, 1, 2, 1, tzinfo=BERLIN)]), [1]),
        (pa.array([1], pa.timestamp("ns")), [1e-9 / 86400]),
        (pa.array([dt.time(1), None]), [3600, None]),
        (pa.array([dt.timedelta(hours=1)]), [3600]),
        (pa.nulls(2), [None, None]),
        (pa.array(["f", None, " m "]), ["f", None, "m"]),
        (pa.array(["f"], pa.string_view()), ["f"]),
        (pa.array(["1", None]).dictionary_encode(), ["1", None]),
        (pa.array([1, 2]).dictionary_encode(), ["1", "2"]),
        (pa.RunEndEncodedArray.from_arrays([2], ["f"]), ["f", "f"]),
    ],
)
def test_types_of_arrow_decide(array, expected):
    got = cells(array)
    assert [None if v != v else v for v in got] == pytest.approx(expected)


@pytest.mark.parametrize("array", [pa.array([b"x"]), pa.array([{"a": 1}])])
def test_other_types_are_refused(array):
    with pytest.raises(DataError, match="must hold numbers, categories, dates or text"):
        cells(array)


def test_a_warning_lists_each_different_cell_once():
    texts = ["1"] * 9 + ["n/a", ">5", ">5", "<1", "?", "a", "b", "c"]
    with pytest.warns(DataWarning) as caught:
        cells(pa.array(texts))
    (warning,) = caught
    message = str(warning.message)
    assert "Column 'x' of modality 'labs' holds numbers, and 8 cells in" in message
    assert "'n/a' in row 9 is read as missing; '>5' in row 10 is read as 5;" in message
    assert message.count("is read as") == 5
    assert "; ..." in message


def test_dates_of_numpy_are_days():
    dates = np.array([["1970-01-02", "NaT"], ["1970-01-03", "1970-01-01"]], "M8[D]")
    column = MultimodalData.from_arrays({"when": dates}).columns["when"]
    np.testing.assert_array_equal(column.values, [[1, np.nan], [2, 0]])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["yes", " yes", "no "], ["yes", "yes", "no"]),
        ([">50K", "<=50K", "<=50K"], [">50K", "<=50K", "<=50K"]),
        (["1st", "2nd", "2nd"], ["1st", "2nd", "2nd"]),
    ],
)
def test_classes_of_csv_files_are_strings(texts, expected):
    assert read_labels("y", "x", pa.array(texts), typed=False).tolist() == expected


def test_labels_that_are_numbers_in_another_form_are_reported():
    with pytest.warns(
        DataWarning, match="'x' holds numbers in another form, such as '1"
    ):
        read_labels("y", "x", pa.array(["12%", "13%", "15%"]), typed=False)


def test_a_selected_category_declares_the_column():
    frame = pd.DataFrame({"code": ["1", "2", "1", "x"]})
    column = MultimodalData.from_pandas(frame, {"m": ["code=x"]}).columns["m"]
    assert column.values.ravel().tolist() == [0, 0, 0, 1]


def test_text_that_is_named_alone_is_judged_by_its_cells():
    texts = pd.DataFrame({"note": ["3 days of fever", "none", None, "NA"]})
    column = MultimodalData.from_pandas(texts, {"note": "note"}).columns["note"]
    assert column.values.tolist() == ["3 days of fever", "none", "NA"]
    table = pa.table({"crp": [f"{i / 10}" for i in range(60)] + [">100"]})
    with pytest.warns(DataWarning, match="'>100' in row 60 is read as 100"):
        data = MultimodalData.from_arrow(table, modalities={"crp": "crp"}, y=None)
    assert data.columns["crp"].values[-1].tolist() == [100]


def test_strings_of_arrays_that_are_numbers_are_reported():
    with pytest.warns(DataWarning, match="strings that are numbers, such as '1.5'"):
        MultimodalData.from_arrays({"labs": ["1.5", None, "2"]})


def test_paths_of_files_that_are_read_as_text_are_reported():
    paths = [f"/scans/{label}/{i}.PNG" for i in range(3) for label in "ab"]
    data = MultimodalData.from_arrays({"scan": paths, "x": np.arange(6.0)})
    with pytest.warns(DataWarning, match=r"'/scans/a/0.PNG' are paths of image files"):
        data.features()
    sounds = MultimodalData.from_arrays({"cough": ["a.wav", None, "b.flac"]})
    with pytest.warns(DataWarning, match="paths of audio files"):
        sounds.features()


# Digits that float32 loses


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        (1_700_000_000 + np.arange(0, 600, 10), True),
        (np.array([[1.0, 20_000_001], [2.0, 3]]), True),
        ([[1_700_000_000.25], [1_700_000_000.5], [1_700_000_001.5]], True),
        ([np.arange(3) + 1.7e9, np.arange(4) + 1.8e9], True),
        (np.array([19723.416667, 19723.417361]), True),
        (np.array([1_000_000, 16_777_216]), False),
        (np.random.default_rng(0).normal(1e4, 1, 100), False),
        (np.array([1e30, 2e30, 3.0]), False),
        (np.full(5, 0.1), False),
    ],
)
def test_lost_digits_are_reported(values, lost, recwarn):
    MultimodalData.from_arrays({"arrival": values})
    messages = [str(w.message) for w in recwarn]
    assert len(messages) == lost
    assert all(
        "stored as float32, which loses digits of channel" in m for m in messages
    )


# Labels, ids and groups


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([Decimal(12345678901234567890)]), ["12345678901234567890"]),
        (pa.array([Decimal(7), None]), [7, None]),
        (pa.array([2**60 + 1, None]), [2**60 + 1, None]),
        (pa.array([2**63 + 1], pa.uint64()), [2**63 + 1]),
        (pa.array([True, None]), [True, None]),
        (pa.array([3, None]).dictionary_encode(), [3, None]),
    ],
)
def test_labels_keep_every_digit(array, expected):
    got = read_labels("y", "x", array).tolist()
    assert [None if v != v else v for v in got] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([2**63, 1], [2**63, 1]),
        ([2**60 + 1, None], [2**60 + 1, None]),
        (np.array([np.bool_(True), None], dtype=object), [True, None]),
        (pa.array([2**60 + 1, None]), [2**60 + 1, None]),
        (pa.chunked_array([["01"], ["1"]]), ["01", "1"]),
    ],
)
def test_python_integers_and_booleans_keep_their_type(given, expected, tmp_path):
    data = MultimodalData.from_arrays({"a": [1.0, 2.0]}, y=given)
    assert data.y.tolist() == expected
    assert data.equals(MultimodalData.from_arrow(data.to_arrow()))
    assert data.equals(MultimodalData.from_hetero_data(data.to_hetero_data()))
    unlabeled = data.replace(y=[None, None])
    joined = MultimodalData.concat([unlabeled, data[[0]], data])
    assert joined.y.tolist() == [None, None, expected[0], *expected]


@pytest.mark.parametrize("y", [[2**64, 1], [-1, 2**63]])
def test_integers_beyond_64_bits_are_refused(y):
    with pytest.raises(
        DataError, match=r"y must hold .* integers of more than 64 bits"
    ):
        MultimodalData.from_arrays({"a": [1.0, 2.0]}, y=y)


def test_rounded_ids_are_refused():
    ids = [9007199254740992.0, 1.0]
    with pytest.raises(
        DataError, match=r"ids must hold every digit, got the float 900"
    ):
        MultimodalData.from_arrays({"a": [1.0, 2.0]}, ids=ids)


def test_booleans_with_gaps_are_booleans():
    data = MultimodalData.from_arrays({"a": np.arange(3.0)}, y=[True, None, False])
    assert known_labels(data.y).dtype == bool
    np.testing.assert_array_equal(data.batch().y, [1, np.nan, 0])


@pytest.mark.slow
def test_classes_of_booleans_do_not_depend_on_gaps():
    y = [None if i == 2 else i > 5 for i in range(12)]
    data = MultimodalData.from_arrays({"a": np.arange(12.0)}, y=y)
    model = FusionClassifier(members=1, epochs=1, experts=("linear",)).fit(data)
    assert model.classes_.tolist() == [False, True]
    assert model.classes_.dtype == bool
    assert model.score(data) > 0.5


@pytest.mark.parametrize(
    ("cells", "values", "message"),
    [
        (["20260131", "20260201"], [20484, 20485], "without hyphens, .*'20260131'"),
        (["20260131120000", "20260201"], [20484.5, 20485], "dates without hyphens"),
        (
            ["20260131", "20260201", "20260230"],
            [20484, 20485, np.nan],
            "'20260230' in row",
        ),
        (["20261331", "20261332"], [20261331, 20261332], "loses digits"),
        (["TRUE", "0", "1", "False"], [1, 0, 1, 0], "'0' in row 1 is read as 0"),
        (
            ["\uff11\uff12", "\uff0d\uff13\uff0e\uff15"],
            [12, -3.5],
            "in row 0 is read as 12",
        ),
        (["\u0661\u0662", "\u0663\u066b\u0665"], [12, 3.5], "is read as 3.5"),
        (["1", "2", "#REF!"], [1, 2, np.nan], "'#REF!' in row 2 is read as missing"),
    ],
)
def test_cells_of_devices_and_spreadsheets(cells, values, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x", *cells]), encoding="utf-8")
    with pytest.warns(DataWarning, match=message):
        data = MultimodalData.from_parquet(path, modalities={"a": ["x"]}, y=None)
    column = data.columns["a"]
    found = np.full(len(data), np.nan)
    found[column.present] = column.values[:, 0]
    np.testing.assert_array_equal(found, np.array(values, dtype=np.float32))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["yes", "no", "1", "0"], "'yes' and '1', which are read as different categor"),
        (["n", "false", "y"], "'n' and 'false', which"),
        (["Male", "female", "male"], "'Male' and 'male', which"),
        (["yes", "no", None], None),
        (["yes", "no", "unsure", "1"], None),
        ([f"word {i}" for i in range(70)] + ["Word 1"], None),
    ],
)
def test_spellings_of_one_category_are_reported(texts, message, recwarn):
    cells(pa.array(texts))
    found = [str(each.message) for each in recwarn]
    if message is None:
        assert not found
    else:
        assert len(found) == 1
        assert message in found[0]


def test_errors_of_excel_are_missing_categories_and_labels(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\nf,a\n#REF!,#NAME?\nm,b\n", encoding="utf-8")
    data = MultimodalData.from_parquet(path, modalities={"a": ["x"]}, y="y")
    assert data.columns["a"].categories == (("f", "m"),)
    assert data.y.tolist() == ["a", None, "b"]


def test_formulas_that_keep_zeros_are_what_they_hold(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('id,x,note\n="007",1,="a"\n="08",2,b\n', encoding="utf-8")
    columns = {"a": ["x"], "n": ["note"]}
    data = MultimodalData.from_parquet(path, modalities=columns, y=None, ids="id")
    assert data.ids.tolist() == ["007", "08"]
    assert data.columns["n"].categories == (('="a"', "b"),)


def test_default_ids_that_repeat_are_reported(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,x\n1,5\n1,6\n2,7\n", encoding="utf-8")
    with pytest.warns(DataWarning, match="'id' has repeated, .* pass it as groups"):
        data = MultimodalData.from_parquet(path, modalities={"a": ["x"]}, y=None)
    assert data.ids.tolist() == [0, 1, 2]


def test_nul_bytes_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    for content in (b"x,y\n1,\x002\n", "x,y\n1,2\n".encode("utf-16-le")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="got NUL bytes, as in UTF-16 without a"):
            MultimodalData.from_parquet(path, modalities={"a": ["x"]}, y=None)
