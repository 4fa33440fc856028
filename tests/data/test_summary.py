"""`MultimodalData.describe`: channels, patterns, labels and groups."""

import numpy as np
import pandas as pd
import pytest

from mmgraph import Modality, MultimodalData, Schema

NAN = np.nan


def make(**metadata) -> MultimodalData:
    """Numbers with gaps, a categorical column, sequences and text of four samples."""
    frame = pd.DataFrame(
        {
            "age": [60.0, 70.0, NAN, NAN],
            "sex": ["f", "m", "f", None],
            "crp": [NAN, 2.0, NAN, NAN],
        }
    )
    return MultimodalData.from_arrays(
        {
            "labs": frame,
            "ecg": [[[1.0], [3.0]], None, [[2.0]], None],
            "note": ["stable", None, "better now", None],
        },
        **metadata,
    )


def test_channels_have_types_ranges_and_shares_missing():
    labs, ecg, note = make().describe().modalities
    assert (labs.kind, labs.missing, labs.rows) == ("vector", 0.25, 1)
    age, sex, crp = labs.channels
    assert (age.name, age.type, age.mean, age.sd) == ("age", "number", 65, 5)
    assert (age.low, age.high) == (60, 70)
    assert age.missing == crp.missing / 2 == pytest.approx(1 / 3)
    assert sex.type == "category"
    assert list(sex.categories.items()) == [("f", 2), ("m", 1)]
    assert (ecg.tokens, ecg.rows, ecg.missing) == ("ragged", 1.5, 0.5)
    assert ecg.channels[0].mean == 2
    [text] = note.channels
    assert (text.type, text.low, text.high) == ("string", 6, 10)


def test_patterns_are_sorted_by_frequency():
    arrays = {"a": [[1.0], [1.0], None, [1.0]], "b": [[1.0], None, None, [1.0]]}
    found = MultimodalData.from_arrays(arrays).describe()
    assert list(found.patterns.items()) == [(("a", "b"), 2), ((), 1), (("a",), 1)]
    assert "  2 (50%): a, b\n  1 (25%): none" in repr(found)


@pytest.mark.parametrize(
    ("y", "classes", "unlabeled"),
    [
        (["ill", "well", "ill", None], {"ill": 2, "well": 1}, 1),
        ([1.0, 0.0, 1.0, NAN], {"1": 2, "0": 1}, 1),
        ([2.0, 2.0, 3.0, 3.0], {"2": 2, "3": 2}, 0),
        ([True, False, True, True], {"True": 3, "False": 1}, 0),
    ],
)
def test_classes_are_counted(y, classes, unlabeled):
    found = make(y=y).describe()
    assert dict(found.classes) == classes
    assert found.num_unlabeled == unlabeled
    assert found.targets == ()


def test_numeric_labels_are_targets():
    found = make(y=[0.5, 1.5, NAN, 2.5]).describe()
    assert not found.classes
    assert (found.targets[0].name, found.targets[0].mean) == ("y", 1.5)
    assert "target y: mean 1.5" in repr(found)
    assert "1 without a label" in found.caption
    several = make(y=np.arange(8.0).reshape(4, 2)).describe()
    assert [each.name for each in several.targets] == ["y.0", "y.1"]
    many = MultimodalData.from_arrays({"a": np.ones((21, 1))}, y=range(21)).describe()
    assert not many.classes
    assert many.targets[0].high == 20
    none = make(y=[NAN] * 4).describe()
    assert none.num_unlabeled == 4
    assert "no labels" in none.caption


def test_groups_are_counted_and_shares_never_round_to_none():
    groups = ["south", *["north"] * 399]
    found = MultimodalData.from_arrays({"a": np.ones((400, 1))}, groups=groups)
    caption = found.describe().caption
    assert caption == "400 samples; no labels; 2 groups: north (>99%), south (<1%)"


def test_the_data_frame_has_one_row_per_channel():
    frame = make().describe().to_frame()
    assert frame["channel"].tolist() == ["age", "sex", "crp", "0", ""]
    assert frame["modality_missing"].tolist() == [0.25, 0.25, 0.25, 0.5, 0.5]
    assert frame.loc[1, ["categories", "most_frequent"]].tolist() == [2, "f"]
    assert frame.loc[2, ["mean", "min", "max"]].tolist() == [2, 2, 2]
    assert frame["mean"].isna().tolist() == [False, True, False, False, False]


def test_tables_are_escaped_and_long_lists_are_cut():
    data = MultimodalData.from_arrays({"<a>": np.ones((2, 11))})
    found = data.describe()
    assert "  and 3 other channels" in repr(found)
    assert len(found.modalities[0].channels) == 11
    page = found._repr_html_()
    assert "<td>&lt;a&gt;</td><td>0%</td><td>0</td><td>number</td>" in page
    assert "<a>" not in page
    assert page.count("<table>") == 2
    assert "<td>and 3 other channels</td>" in page


def test_data_without_values_and_paths_are_described():
    empty = make(y=[0, 1, 0, 1])[[]].describe()
    assert empty.caption == "0 samples; no labels"
    assert empty.patterns == {}
    assert "age: no value" in repr(empty)
    schema = Schema.star([Modality("photo", kind="image", channels=None)])
    photos = MultimodalData.from_arrays({"photo": ["a.png", None]}, schema=schema)
    [photo] = photos.describe().modalities
    assert (photo.kind, photo.missing, photo.channels) == ("image", 0.5, ())
    page = photos.describe()._repr_html_()
    assert "<td>photo</td><td>50%</td><td></td><td>image</td>" in page
