"""Joining modalities of one vector per sample, fusion at the data level."""

import numpy as np
import pandas as pd
import pytest

from mmgraph import DataError, MultimodalData, Schema


def make_data(**options) -> MultimodalData:
    """Return a sample with everything, one part, the other part, and nothing."""
    labs = [[1.0, np.nan], [2.0, 3.0], None, None]
    ecg = [[4.0], None, [5.0], None]
    note = ["stable", None, "worse", None]
    arrays = {"note": note, "labs": labs, "ecg": ecg}
    return MultimodalData.from_arrays(arrays, y=[0, 1, 0, 1], **options)


def test_cells_of_missing_modalities_are_nan():
    joined = make_data().join(["ecg", "labs"], name="record")
    assert joined.modalities == ("note", "record")
    column = joined.columns["record"]
    expected = [[4, 1, np.nan], [np.nan, 2, 3], [5, np.nan, np.nan]]
    np.testing.assert_array_equal(column.values, expected)
    assert column.names == ("ecg.0", "labs.0", "labs.1")
    assert joined.present[:, 1].tolist() == [True, True, True, False]
    assert joined.y.tolist() == [0, 1, 0, 1]


def test_joining_commutes_with_selecting_samples_and_masking():
    data = make_data()
    joined = data.join(["labs", "ecg"], name="record")
    rows = np.array([3, 0, 2])
    assert data[rows].join(["labs", "ecg"], name="record").equals(joined[rows])
    without = data.mask({"labs": [False] * 4}).join(["labs", "ecg"], name="record")
    assert np.isnan(without.columns["record"].values[:, :2]).all()


def test_categories_stay_categories():
    frame = pd.DataFrame(
        {"sex": ["f", "m", None], "age": [61, 58, 40], "bp": [1, 2, 3]}
    )
    data = MultimodalData.from_pandas(frame, {"who": ["sex", "age"], "bp": ["bp"]})
    column = data.join(["bp", "who"], name="record").columns["record"]
    assert column.names == ("bp.bp", "who.sex", "who.age")
    assert column.categories == (None, ("f", "m"), None)
    assert column.encode().values[1].tolist() == [2, 0, 1, 58]


def test_modality_without_any_row_is_joined():
    data = make_data().mask({"labs": [False] * 4})
    assert data.join(["labs", "ecg"], name="record").present[:, 1].sum() == 2


def test_schema_that_was_passed_is_replaced_by_a_star():
    data = make_data()
    late = data.with_schema(Schema.late(data.schema.modalities))
    assert (
        late.join(["labs"], name="labs").schema
        == data.join(["labs"], name="labs").schema
    )


@pytest.mark.parametrize(
    ("names", "name", "message"),
    [
        (
            ["labs", "note"],
            "record",
            "one vector per sample, got 'note', which is text",
        ),
        (["labs", "pulse"], "record", "a sequence"),
        (["labs", "age"], "record", "got 'age'. Check"),
        (["labs", "labs"], "record", "each once"),
        ([], "record", "one or more"),
        (["labs", "ecg"], "note", "no other modality has, got 'note'"),
    ],
)
def test_what_cannot_be_joined_is_refused(names, name, message):
    arrays = {"note": ["a", "b"], "labs": [[1.0], [2.0]], "ecg": [[1.0], [2.0]]}
    arrays["pulse"] = [[[1.0], [2.0]], [[3.0]]]
    data = MultimodalData.from_arrays(arrays)
    with pytest.raises(DataError, match=message):
        data.join(names, name=name)


def test_vectors_with_times_are_refused():
    times = {"a": [[1.0], [2.0]]}
    data = MultimodalData.from_arrays({"a": [[[1.0]], [[2.0]]]}, times=times)
    with pytest.raises(DataError, match="'a', which is"):
        data.join(["a"], name="b")
