"""Inputs of estimators: features, labels, tables, and their description."""

import numpy as np
import pandas as pd
import pytest

from mmgraph import (
    CheckpointError,
    DataError,
    FusionClassifier,
    Modality,
    MultimodalData,
    Schema,
)
from mmgraph.estimators.featurize import Featurizer
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.estimators.validation import labels_to_score, with_labels


def embed_text(data: MultimodalData) -> MultimodalData:
    return Featurizer.fit(data).transform(data)


def notes(**options) -> MultimodalData:
    return MultimodalData.from_arrays(
        {"a": np.ones((3, 2)), "note": ["fever and cough", None, "fever"]}, **options
    )


def test_text_becomes_hashed_word_counts_of_unit_length():
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


def test_data_without_text_are_returned_unchanged():
    data = notes().select(["a"])
    assert embed_text(data) is data


def test_missing_text_keeps_its_width():
    schema = Schema.star([Modality("a", 2), Modality("note", kind="text")])
    content = {"a": np.ones((2, 2)), "note": [None, None]}
    data = embed_text(MultimodalData.from_arrays(content, schema=schema))
    assert data.features()["note"].shape == (2, 256)
    assert np.isnan(data.features()["note"]).all()


def test_features_follow_the_schema_and_are_nan_for_missing_modalities():
    data = notes().select(["a"])
    schema = Schema.star([Modality("b", 4), Modality("a", 2)])
    spec = InputSpec(schema, Featurizer(), {}, widths=(4, 2))
    b, a = spec.features(data)
    assert a.tolist() == [[1, 1]] * 3
    assert b.shape == (3, 4)
    assert b.isnan().all()
    with pytest.raises(DataError, match="Modality 'a' must have 5 features, got 2"):
        InputSpec(schema, Featurizer(), {}, widths=(4, 5)).features(data)


def test_labels_are_those_given_or_those_of_the_data():
    data = notes(y=[1, 2, 3])
    assert with_labels(data, None) is data
    assert with_labels(data, [4, 5, 6]).y.tolist() == [4, 5, 6]
    with pytest.raises(DataError, match="fit needs labels, got data without y"):
        with_labels(notes(), None)


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


def test_error_about_a_table_of_strings_names_from_pandas():
    frame = pd.DataFrame({"age": [61.0, 70.0] * 4, "sex": ["f", "m"] * 4})
    y = [0, 1] * 4
    message = r"got a table of age, sex: .*'f'.*from_pandas\(X, modalities"
    with pytest.raises(DataError, match=message):
        FusionClassifier().fit(frame, y)
    numbers = frame.assign(sex=y)
    fitted = FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(numbers, y)
    with pytest.raises(DataError, match=message):
        fitted.predict(frame)
    with pytest.raises(ValueError, match="could not convert string"):
        FusionClassifier().fit(frame.to_numpy(), y)


def test_description_of_inputs_survives_json():
    spec, data = InputSpec.fit(notes(y=[1, 2, 3]))
    again = InputSpec.from_json(spec.to_json())
    assert again.schema == spec.schema
    assert again.widths == spec.widths == (2, 256)
    assert again.featurizer.kinds == {"note": "text"}
    read = again.read(notes())
    for x, z in zip(spec.features(data), again.features(read), strict=True):
        np.testing.assert_array_equal(x, z)


def test_description_of_another_schema_is_refused():
    content = InputSpec.fit(notes())[0].to_json() | {"schema_hash": "0"}
    with pytest.raises(CheckpointError, match="must have the hash that was saved"):
        InputSpec.from_json(content)


def test_unseen_and_absent_modalities_are_listed():
    data = notes().mask({"note": np.zeros(3, bool)})
    spec, _ = InputSpec.fit(data)
    assert spec.unseen == ("note",)
    assert spec.absent(["note"]) == ["a"]
    assert not spec.read(notes()).columns["note"].present.any()
