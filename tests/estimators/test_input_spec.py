"""What estimators accept, in the form that models take."""

import numpy as np
import pandas as pd
import pytest

from mmgraph import (
    DataError,
    FusionClassifier,
    Modality,
    MultimodalData,
    Schema,
)
from mmgraph.estimators.featurize import RawInputs
from mmgraph.estimators.validation import features_of, labelled, labels_to_score


def embed_text(data: MultimodalData) -> MultimodalData:
    return RawInputs.of(data, None).as_numbers(data)


def notes(**options) -> MultimodalData:
    return MultimodalData.from_arrays(
        {"a": np.ones((3, 2)), "note": ["fever and cough", None, "fever"]}, **options
    )


def test_text_becomes_hashed_words_of_unit_length():
    data = embed_text(notes(y=[1, 2, 3], ids=[7, 8, 9], groups=[0, 0, 1]))
    note = data.columns["note"]
    assert not note.is_text
    assert note.values.shape == (2, 256)
    assert np.linalg.norm(note.values, axis=1) == pytest.approx([1, 1])
    assert note.present.tolist() == [True, False, True]
    assert data.schema.modality("note") == Modality("note", 256, kind="embedding")
    assert data.schema.edge_types == notes().schema.edge_types
    assert data.y.tolist() == [1, 2, 3]
    assert data.ids.tolist() == [7, 8, 9]
    assert data.groups.tolist() == [0, 0, 1]


def test_data_without_text_are_returned_as_they_are():
    data = notes().select(["a"])
    assert embed_text(data) is data


def test_text_that_nobody_has_keeps_its_width():
    schema = Schema.star([Modality("a", 2), Modality("note", kind="text")])
    content = {"a": np.ones((2, 2)), "note": [None, None]}
    data = embed_text(MultimodalData.from_arrays(content, schema=schema))
    assert data.features()["note"].shape == (2, 256)
    assert np.isnan(data.features()["note"]).all()


def test_features_follow_the_schema_and_are_nan_where_data_has_none():
    data = notes().select(["a"])
    schema = Schema.star([Modality("b", 4), Modality("a", 2)])
    b, a = features_of(data, schema, [4, 2])
    assert a.tolist() == [[1, 1]] * 3
    assert b.shape == (3, 4)
    assert b.isnan().all()
    with pytest.raises(DataError, match="Modality 'a' must have 5 features, got 2"):
        features_of(data, schema, [4, 5])


def test_labels_are_those_given_or_those_of_the_data():
    data = notes(y=[1, 2, 3])
    assert labelled(data, None) is data
    assert labelled(data, [4, 5, 6]).y.tolist() == [4, 5, 6]
    with pytest.raises(DataError, match="fit needs labels, got data without y"):
        labelled(notes(), None)


def test_labels_to_score_have_the_shape_of_predictions():
    data = notes(y=[1, 2, 3])
    assert labels_to_score(data, None, (3,)).tolist() == [1, 2, 3]
    assert labels_to_score(data, [[4], [5], [6]], (3,)).tolist() == [4, 5, 6]
    assert labels_to_score(data, None, (3, 1)).tolist() == [[1], [2], [3]]
    with pytest.raises(DataError, match="score needs labels, got none"):
        labels_to_score(np.ones((3, 2)), None, (3,))
    with pytest.raises(DataError, match=r"shape of predictions, \[3, 2\], got \[3\]"):
        labels_to_score(data, None, (3, 2))
    with pytest.raises(DataError, match="one label per sample: 4 samples, got 3"):
        labels_to_score(data, None, (4,))
    with pytest.raises(DataError, match="score needs at least one known label"):
        labels_to_score(data, [None] * 3, (3,))


def test_a_table_with_words_is_told_how_to_become_data():
    frame = pd.DataFrame({"age": [61.0, 70.0] * 4, "sex": ["f", "m"] * 4})
    y = [0, 1] * 4
    said = r"got a table of age, sex: .*'f'.*from_pandas\(X, modalities"
    with pytest.raises(DataError, match=said):
        FusionClassifier().fit(frame, y)
    numbers = frame.assign(sex=y)
    fitted = FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(numbers, y)
    with pytest.raises(DataError, match=said):
        fitted.predict(frame)
    with pytest.raises(ValueError, match="could not convert string"):
        FusionClassifier().fit(frame.to_numpy(), y)
