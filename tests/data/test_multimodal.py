"""MultimodalData: construction, indexing, splits, concatenation and batches."""

import json
import time as clock
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.utils import _safe_indexing

from mmgraph import Classification, FusionModel
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import Column
from mmgraph.data.features.text import describe_texts
from mmgraph.data.validation import check_mapping
from mmgraph.errors import DataError, DataWarning, MMGraphError
from mmgraph.schema import Latent, Modality, Relation, Schema, TimeWindow

NAN = float("nan")


def make(num=12, seed=0):
    """Vectors, sequences with times and text; sample 1 has no modality."""
    rng = np.random.default_rng(seed)
    labs = rng.normal(size=(num, 3))
    labs[1] = NAN
    labs[2, 0] = NAN
    lengths = rng.integers(1, 6, num)
    ecg = [rng.normal(size=(n, 2)) for n in lengths]
    ecg[0] = np.empty((0, 2))
    ecg[1] = None
    ecg[3] = np.full((2, 2), NAN)
    note = [f"note {i}" if i % 3 else None for i in range(num)]
    note[1] = ""
    times = [None if e is None else rng.permutation(len(e)) + 1e9 for e in ecg]
    return MultimodalData.from_arrays(
        {"labs": labs, "ecg": ecg, "note": note},
        y=np.arange(num) % 2,
        groups=[f"h{i % 4}" for i in range(num)],
        times={"ecg": times},
    )


def two(num=6):
    """Numeric data without text, for batches."""
    return make(num).select(["labs", "ecg"])


# What is observed


def test_none_empty_and_all_nan_entries_are_missing_and_nan_cells_are_kept():
    data = make()
    assert data.present[:4].tolist() == [
        [True, False, False],
        [False, False, False],
        [True, True, True],
        [True, False, False],
    ]
    labs = data.columns["labs"]
    assert labs.values.dtype == np.float32
    assert np.isnan(labs.values).sum() == 1
    assert len(data.columns["ecg"].values) == data.columns["ecg"].lengths.sum()


def test_every_layout_of_the_input_is_read():
    data = MultimodalData.from_arrays(
        {
            "scalar": [1.0, None, 3.0],
            "floats": np.array([NAN, 2.0, 3.0]),
            "matrix": torch.arange(6).reshape(3, 2),
            "half": torch.ones(3, 2, dtype=torch.bfloat16),
            "vectors": [[1, 2], None, (3, None)],
            "sequences": [[1.0, 2.0], [3.0], None],
            "grid": np.ones((3, 4, 2)),
            "flags": np.array([[True], [False], [True]]),
            "objects": np.array([[1, None], [None, None], [2, 3]], dtype=object),
            "text": np.array(["a", "", "b c"]),
        }
    )
    kinds = {
        m.name: (m.channels, m.tokens, m.kind, m.time) for m in data.schema.modalities
    }
    assert kinds == {
        "scalar": (1, "single", "vector", False),
        "floats": (1, "single", "vector", False),
        "matrix": (2, "single", "vector", False),
        "half": (2, "single", "vector", False),
        "vectors": (2, "single", "vector", False),
        "sequences": (1, "ragged", "vector", False),
        "grid": (2, "ragged", "vector", False),
        "flags": (1, "single", "vector", False),
        "objects": (2, "single", "vector", False),
        "text": (None, "single", "text", False),
    }
    assert data.columns["grid"].lengths.tolist() == [4, 4, 4]
    assert data.columns["flags"].values.ravel().tolist() == [1, 0, 1]
    assert data.columns["objects"].present.tolist() == [True, False, True]
    assert data.columns["text"].values.tolist() == ["a", "b c"]


def test_vectors_of_equal_length_are_sequences_with_times_or_a_ragged_schema():
    entries = [[1.0, 2.0], [3.0, 4.0]]
    timed = MultimodalData.from_arrays({"a": entries}, times={"a": [[0, 1], [0, 1]]})
    assert timed.columns["a"].lengths.tolist() == [2, 2]
    schema = Schema.complete([Modality("a", 1, tokens="ragged")])
    ragged = MultimodalData.from_arrays({"a": entries}, schema=schema)
    assert ragged.columns["a"].lengths.tolist() == [2, 2]
    schema = Schema.complete([Modality("a", 2)])
    single = MultimodalData.from_arrays({"a": entries[:1]}, schema=schema)
    assert single.columns["a"].values.tolist() == [[1, 2]]


def test_one_sequence_given_as_a_list_is_read_by_the_schema_of_the_others():
    schema = MultimodalData.from_arrays({"a": [[1.0, 2.0], [3.0]]}).schema
    alone = MultimodalData.from_arrays({"a": [[1.0, 2.0]]})
    given = MultimodalData.from_arrays({"a": [[1.0, 2.0]]}, schema=schema)
    assert alone.columns["a"].lengths.tolist() == [1]
    assert alone.conform(schema).columns["a"].equals(given.columns["a"])
    assert alone.with_schema(schema).equals(given)
    alone.check(schema)
    one_step = MultimodalData.from_arrays({"a": np.ones((3, 1))}, schema=schema)
    assert one_step.columns["a"].ragged
    timed = MultimodalData.from_arrays({"a": np.ones((1, 2))}, times={"a": [0.0]})
    with pytest.raises(DataError, match="'a' must have 1 channels, got 2"):
        timed.conform(schema)


def test_fixed_length_sequences_drop_all_nan_samples_and_keep_nan_steps():
    grid = np.ones((3, 4, 2))
    grid[1] = NAN
    grid[2, 0] = NAN
    column = MultimodalData.from_arrays({"a": grid}).columns["a"]
    assert column.lengths.tolist() == [4, 0, 4]
    assert np.isnan(column.values[4]).all()


def test_masked_cells_are_missing():
    values = np.ma.masked_array([[1.0], [2.0]], mask=[[False], [True]])
    assert MultimodalData.from_arrays({"a": values}).present.tolist() == [[1], [0]]


def test_a_modality_of_nothing_but_none_is_missing_everywhere():
    data = MultimodalData.from_arrays({"a": [None, None], "b": [1.0, 2.0]})
    assert data.present.tolist() == [[False, True], [False, True]]
    assert data.features()["a"].shape == (2, 1)
    assert data.batch().x["a"].shape == (0, 1)


def test_no_samples_at_all():
    data = make()[[]]
    assert data.shape == (0, 3)
    assert data.present.shape == (0, 3)
    assert "0 samples" in repr(data)
    assert data.features()["ecg"].shape == (0, 50)
    assert two()[[]].batch().num_samples == 0


POISON = st.sampled_from([NAN, np.inf, -np.inf, 1e30, 1e300])


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_values_with_present_false_are_never_read(source):
    num = source.draw(st.integers(1, 6))
    flag = st.lists(st.booleans(), min_size=num, max_size=num)
    present = {name: np.array(source.draw(flag)) for name in ("a", "b", "c")}
    rng = np.random.default_rng(num)
    clean = {
        "a": rng.normal(size=(num, 2)),
        "b": rng.normal(size=(num, 3, 2)),
        "c": [rng.normal(size=(i % 3 + 1, 2)) for i in range(num)],
    }
    times = {"c": [np.arange(len(e)) for e in clean["c"]]}
    poisoned = {name: clean[name].copy() for name in ("a", "b")}
    for name, array in poisoned.items():
        array[~present[name]] = source.draw(POISON)
    junk = source.draw(st.sampled_from(["text", np.full((1, 9), np.inf), object()]))
    poisoned["c"] = [
        e if p else junk for e, p in zip(clean["c"], present["c"], strict=True)
    ]
    junk_times = {
        "c": [
            t if p else [NAN] * 7 for t, p in zip(times["c"], present["c"], strict=True)
        ]
    }
    first = MultimodalData.from_arrays(clean, present=present, times=times)
    second = MultimodalData.from_arrays(poisoned, present=present, times=junk_times)
    assert np.array_equal(first.present, np.stack(list(present.values()), axis=1))
    for name in present:
        if present[name].any():
            assert first.columns[name].equals(second.columns[name])
    for name, rows in first.features().items():
        if present[name].any():
            assert np.array_equal(rows, second.features()[name], equal_nan=True)


def test_objects_with_present_false_are_never_read():
    array = np.array([[1.0, 2.0], [object(), "x"]], dtype=object)
    data = MultimodalData.from_arrays({"a": array}, present=[[True], [False]])
    assert data.columns["a"].values.tolist() == [[1, 2]]


def test_the_data_does_not_change_with_the_array_it_was_built_from():
    array = np.ones((3, 2), dtype=np.float32)
    y = np.zeros(3)
    data = MultimodalData.from_arrays({"a": array}, y=y)
    array[:] = 7
    y[:] = 7
    assert data.columns["a"].values.max() == 1
    assert data.y.max() == 0


def test_rows_are_sorted_by_time_within_a_sample():
    data = MultimodalData.from_arrays(
        {"a": [[[1.0], [2.0], [3.0]], None, [[4.0]]]},
        times={"a": [[30, 10, 20], None, [5]]},
    )
    column = data.columns["a"]
    assert column.time.tolist() == [10, 20, 30, 5]
    assert column.time.dtype == np.float64
    assert column.values.ravel().tolist() == [2, 3, 1, 4]


def test_single_rows_may_have_times():
    data = MultimodalData.from_arrays(
        {"a": np.array([[1.0], [NAN], [3.0]])}, times={"a": np.array([5.0, NAN, 7.0])}
    )
    assert data.columns["a"].time.tolist() == [5, 7]


@pytest.mark.parametrize("shape", [(2, 1), (2, 3, 1)])
def test_times_of_missing_modalities_are_not_read(shape):
    nothing, junk = np.full(shape, NAN), np.full(shape[:-1], NAN)
    data = MultimodalData.from_arrays({"a": nothing}, times={"a": junk})
    assert not data.present.any()
    assert data.columns["a"].time.shape == (0,)


# Labels, ids, groups


@pytest.mark.parametrize(
    ("y", "kind", "expected"),
    [
        ([1, 2, 3], "i", [1, 2, 3]),
        ([True, False, True], "b", [True, False, True]),
        ([1, None, 3], "f", [1, NAN, 3]),
        ([True, None, False], "O", [True, None, False]),
        (["a", "b", "a"], "U", ["a", "b", "a"]),
        (["a", None, NAN], "O", ["a", None, None]),
        ([None, None, None], "f", [NAN, NAN, NAN]),
        (torch.tensor([0, 1, 1]), "i", [0, 1, 1]),
        ([[1, 0], [0, 1], [1, None]], "f", [[1, 0], [0, 1], [1, NAN]]),
    ],
)
def test_labels_of_every_type_are_kept_and_missing_ones_marked(y, kind, expected):
    data = MultimodalData.from_arrays({"a": [1.0, 2.0, 3.0]}, y=y)
    assert data.y.dtype.kind == kind
    for got, want in zip(
        np.ravel(data.y).tolist(), np.ravel(expected).tolist(), strict=True
    ):
        assert got == want or (got != got and want != want)


def test_ids_are_numbers_from_zero_unless_given():
    assert MultimodalData.from_arrays({"a": [1.0, 2.0]}).ids.tolist() == [0, 1]


# Indexing


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ([2, 0, 2], [2, 0, 2]),
        (np.array([-1]), [11]),
        (slice(1, 9, 3), [1, 4, 7]),
        (slice(None, None, -5), [11, 6, 1]),
        (3, [3]),
        (np.arange(12) > 9, [10, 11]),
        (torch.tensor([4, 5]), [4, 5]),
        ((np.array([1, 2]), ...), [1, 2]),
        ((np.array([1, 2]), slice(None)), [1, 2]),
        ([], []),
    ],
)
def test_indexing_returns_the_requested_samples(key, expected):
    data = make()
    part = data[key]
    assert part.ids.tolist() == expected
    assert np.array_equal(part.present, data.present[expected])
    assert part.y.tolist() == data.y[expected].tolist()
    assert part.groups.tolist() == data.groups[expected].tolist()
    for name, column in part.columns.items():
        whole = data.columns[name]
        rows = [whole.values[whole.offsets[i] : whole.offsets[i + 1]] for i in expected]
        joined = np.concatenate([whole.values[:0], *rows])
        same = np.array_equal(column.values, joined, equal_nan=not whole.is_text)
        assert same


def test_iterating_gives_each_sample_once():
    assert [sample.ids[0] for sample in make(4)] == [0, 1, 2, 3]


@given(
    st.lists(st.integers(0, 11), max_size=8), st.lists(st.integers(0, 11), max_size=8)
)
@settings(deadline=None, max_examples=40)
def test_taking_is_composition_and_concat_is_its_inverse(first, second):
    data = make()
    inner = data[first]
    positions = [i % len(first) for i in second] if first else []
    assert inner[positions].equals(data[[first[i] for i in positions]])
    cut = len(first)
    assert MultimodalData.concat([data[:cut], data[cut:]]).equals(data)


def test_scikit_learn_can_index_and_split_the_data():
    data = make()
    assert _safe_indexing(data, np.array([3, 1])).ids.tolist() == [3, 1]
    assert _safe_indexing(data, [2]).ids.tolist() == [2]
    train, test = train_test_split(data, test_size=0.25, random_state=0)
    assert (len(train), len(test)) == (9, 3)
    for splitter in (KFold(3), StratifiedKFold(3)):
        sizes = [len(data[test]) for _, test in splitter.split(data, data.y)]
        assert sizes == [4, 4, 4]
    assert len(list(GroupKFold(2).split(data, data.y, data.groups))) == 2


class _Share(ClassifierMixin, BaseEstimator):
    def fit(self, data, y):
        assert np.array_equal(data.y, y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, data):
        return data.y


def test_cross_val_score_passes_multimodal_data():
    data = make()
    assert cross_val_score(_Share(), data, data.y, cv=3).tolist() == [1, 1, 1]


# Joining, masking, selecting


def test_concat_marks_modalities_that_a_part_lacks_as_missing():
    a = MultimodalData.from_arrays({"x": [[1.0, 2.0]]}, y=[0])
    b = MultimodalData.from_arrays({"t": ["hello"], "x": [None]}, y=[1])
    both = MultimodalData.concat([a, b])
    assert both.modalities == ("x", "t")
    assert both.present.tolist() == [[True, False], [False, True]]
    assert both.ids.tolist() == [0, 1]
    assert both.y.tolist() == [0, 1]


def test_mask_keeps_only_what_was_observed_and_is_present():
    data = make()
    keep = np.random.default_rng(0).random(data.shape) < 0.5
    masked = data.mask(keep)
    assert np.array_equal(masked.present, data.present & keep)
    assert data.mask(np.ones(data.shape, dtype=bool)).equals(data)
    only = data.mask({"labs": np.zeros(len(data), dtype=bool)})
    assert not only.present[:, 0].any()
    assert np.array_equal(only.present[:, 1:], data.present[:, 1:])
    i = int(np.flatnonzero(masked.present[:, 1])[0])
    assert masked[[i]].columns["ecg"].equals(data[[i]].columns["ecg"])


def test_masking_equals_leaving_out():
    data = two()
    masked = data.mask({"ecg": np.zeros(len(data), dtype=bool)})
    assert np.isnan(masked.features()["ecg"]).all()
    assert len(masked.batch().x["ecg"]) == 0


def test_the_order_of_modalities_is_kept():
    assert make().modalities == ("labs", "ecg", "note")
    assert make().select(["note", "labs"]).modalities == ("note", "labs")
    assert make().select(["note", "labs"])[[0]].schema.modality_names == (
        "note",
        "labs",
    )


def test_select_takes_the_relations_of_other_modalities_away():
    a, b = Modality("a", 1), Modality("b", 1)
    relations = [Relation("a", "b"), Relation("*", "fuse")]
    schema = Schema([a, b], [Latent("fuse")], relations)
    data = MultimodalData.from_arrays({"a": [1.0], "b": [2.0]}, schema=schema)
    assert data.select(["b"]).schema.edge_types == (("b", "to", "fuse"),)


# Splitting


def test_split_keeps_shares_of_classes_and_is_repeatable():
    num = 100
    y = np.array(["yes"] * 20 + ["no"] * 80)
    data = MultimodalData.from_arrays({"a": np.arange(num)}, y=y)
    train, test = data.split(0.25, seed=3)
    assert (test.y == "yes").sum() == 5
    assert sorted([*train.ids, *test.ids]) == list(range(num))
    assert data.split(0.25, seed=3)[1].equals(test)
    assert not data.split(0.25, seed=4)[1].equals(test)


@pytest.mark.parametrize("stratify", [True, False])
def test_split_keeps_groups_together(stratify):
    num = 120
    rng = np.random.default_rng(0)
    data = MultimodalData.from_arrays(
        {"a": np.arange(num)}, y=rng.integers(0, 2, num), groups=np.arange(num) // 6
    )
    train, test = data.split(0.2, stratify=stratify)
    assert not set(train.groups) & set(test.groups)
    assert 12 <= len(test) <= 36


@pytest.mark.parametrize("size", [0.06, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_split_of_groups_and_classes_has_about_the_requested_size(size):
    num = 600
    y = np.arange(num) // 2 % 3
    data = MultimodalData.from_arrays({"a": y}, y=y, groups=np.arange(num) // 6)
    train, test = data.split(size)
    assert not set(train.groups) & set(test.groups)
    assert sorted([*train.ids, *test.ids]) == list(range(num))
    assert len(test) / num == pytest.approx(size, abs=0.02)
    assert np.bincount(test.y) / len(test) == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("folds", [2, 4, 5, 10])
def test_split_of_groups_is_the_first_fold_where_it_can_be(folds):
    y, groups = np.arange(200) % 2, np.arange(200) // 3
    data = MultimodalData.from_arrays({"a": y}, y=y, groups=groups)
    first = StratifiedGroupKFold(folds, shuffle=True, random_state=7)
    _, expected = next(first.split(y, y, groups))
    assert data.split(1 / folds, seed=7)[1].ids.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "y", [np.arange(10) / 3, np.arange(10), [0] * 9 + [1], [0.0, NAN] * 5, None]
)
def test_split_works_for_labels_that_cannot_be_stratified(y):
    data = MultimodalData.from_arrays({"a": np.arange(10)}, y=y)
    train, test = data.split(0.3)
    assert (len(train), len(test)) == (7, 3)


def test_split_of_two_samples():
    train, test = MultimodalData.from_arrays({"a": [1.0, 2.0]}).split(0.01)
    assert len(train) == len(test) == 1


def test_frames_of_nullable_columns_are_arrays():
    frame = pd.DataFrame(
        {
            "wbc": pd.array([1, None, None], dtype="Int64"),
            "fever": pd.array([True, False, None], dtype="boolean"),
        }
    )
    column = MultimodalData.from_arrays({"a": frame}).columns["a"]
    assert column.present.tolist() == [True, True, False]
    assert np.array_equal(column.values, [[1, 1], [NAN, 0]], equal_nan=True)
    assert column.names == ("wbc", "fever")


# Features and batches


def test_features_of_single_rows_are_the_rows():
    features = make().features()["labs"]
    assert features.dtype == np.float32
    assert np.isnan(features[1]).all()
    assert np.isnan(features[2]).tolist() == [True, False, False]


def test_features_of_sequences_are_statistics_of_the_whole_and_quarters():
    steps = np.array([1.0, 3.0, NAN, 7.0, 2.0, 2.0, 4.0, 8.0])[:, None]
    data = MultimodalData.from_arrays({"a": [steps, None, steps[:1]]}, ids=[5, 6, 7])
    features = data.features()["a"]
    seen = steps[~np.isnan(steps)]
    assert features.shape == (3, 25)
    whole = [seen.mean(), seen.std(), seen.min(), seen.max()]
    assert features[0, :4] == pytest.approx(whole, rel=1e-6)
    assert features[0, 4] == pytest.approx(np.mean([2, 5, 0, 2, 4]))
    assert features[0, 5:10] == pytest.approx([2, 1, 1, 3, 2], abs=2e-6)
    assert features[0, 10:15] == pytest.approx([7, 0, 7, 7, 0], abs=2e-6)
    assert np.isnan(features[1]).all()
    assert features[2, :5] == pytest.approx([1, 0, 1, 1, 0], abs=2e-6)
    assert np.isnan(features[2, 10:]).all()


def test_features_of_text_are_hashed_words_of_unit_length():
    data = MultimodalData.from_arrays({"t": ["a cold day", None, "cold a day cold"]})
    features = data.features()["t"]
    assert features.shape == (3, 256)
    assert np.isnan(features[1]).all()
    assert np.linalg.norm(features[[0, 2]], axis=1) == pytest.approx([1, 1])
    assert not np.array_equal(features[0], features[2])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("tumour stage 1", "tumour stage 2"),
        ("pain 3/10", "pain 10/3"),
        ("dose 2.5", "dose 5.2"),
        ("blood group A", "blood group B"),
        ("HbA1c > 7 %", "HbA1c < 7 %"),
        ("rash?", "rash"),
        ("患者有病", "患者有痛"),
        ("ok 👍", "ok 👎"),
        ("C", "C++"),
        ("", "\ud800"),
    ],
)
def test_features_distinguish_texts_that_differ_in_one_character(a, b):
    first, second = describe_texts([a, b])
    assert np.abs(first - second).max() > 0.1


def test_features_of_text_are_those_of_its_composed_lower_case():
    composed, decomposed = describe_texts(["Caf\u00e9, rue 3.", "cafe\u0301 rue 3"])
    np.testing.assert_array_equal(composed, decomposed)


ZONED = pd.date_range("2024-03-01 08:00", periods=3, freq="s", tz="Europe/Berlin")
NAIVE = ZONED.tz_convert("UTC").tz_localize(None)
START = 1709276400.0


@pytest.mark.parametrize(
    "times",
    [
        [ZONED],
        [pd.Series(ZONED, index=[7, 8, 9])],
        [list(ZONED)],
        [NAIVE.to_numpy()],
        [list(NAIVE.to_numpy())],
        [NAIVE.to_pydatetime()],
        [[str(stamp) for stamp in ZONED]],
        [[stamp.isoformat() for stamp in NAIVE]],
        torch.tensor([[START, START + 1, START + 2]], dtype=torch.float64),
    ],
)
def test_dates_of_every_type_become_seconds_since_1970(times):
    rows = [[[1.0], [2.0], [3.0]]]
    column = MultimodalData.from_arrays({"a": rows}, times={"a": times}).columns["a"]
    assert column.time.tolist() == [START, START + 1, START + 2]


def test_dates_are_read_from_tables_and_streams(tmp_path):
    frame = pd.DataFrame(
        {
            "ecg": [[1.0, 2.0], [3.0]],
            "ecg.time": [ZONED[:2], ZONED[2:]],
            "dose": [0.5, 1.0],
            "dose.time": NAIVE[:2],
        }
    )
    fields = {"ecg": "ecg", "drugs": ["dose"]}
    records = [
        {"ecg": row.ecg, "ecg.time": list(row["ecg.time"]), "dose": row.dose}
        for _, row in frame.iterrows()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # columns used for their names
        first = MultimodalData.from_pandas(frame, fields)
        table = pa.Table.from_pandas(
            frame.assign(**{"ecg.time": [list(ZONED[:2]), list(ZONED[2:])]})
        )
        second = MultimodalData.from_arrow(table, modalities=fields, y=None)
        path = tmp_path / "a.csv"
        path.write_text(
            "dose,dose.time\n0.5,2024-03-01 07:00:00\n1,2024-03-01 07:00:01\n"
        )
        third = MultimodalData.from_parquet(
            path, modalities={"drugs": ["dose"]}, y=None
        )
        path.write_text("dose,dose.time\n0.5,0\n1,1.5\n,\n")
        numbers = MultimodalData.from_parquet(
            path, modalities={"drugs": ["dose"]}, y=None
        )
    assert numbers.columns["drugs"].time.tolist() == [0, 1.5]
    stream = MultimodalStream.from_iterable(records, modalities=fields, y=None)
    for data in (first, second, next(stream.chunks())):
        assert data.columns["ecg"].time.tolist() == [START, START + 1, START + 2]
    for data in (first, second, third):
        assert data.columns["drugs"].time.tolist() == [START, START + 1]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([["2024-01-01", "2024-01-02T00:00Z"]], "all have a zone or none, got both"),
        ([[ZONED[0], NAIVE[1]]], "all have a zone or none, got both"),
        ([["01/03/2024", "02/03/2024"]], "ISO 8601 or durations, got '01/03/2024'"),
        ([[START * 1e3, START * 1e3 + 1]], "which are more than 3000 years. Divide"),
        (
            np.array([[START, START + 10]], np.float32),
            "resolution is 1.3e.02 s. Pass f",
        ),
        ([[0, 1, 2, 3]], "has 2 rows, got 4 times. Transpose the rows to .T, C.."),
    ],
)
def test_times_that_cannot_be_seconds_are_named(times, message):
    with pytest.raises(DataError, match=message):
        MultimodalData.from_arrays({"a": np.ones((1, 2, 4))}, times={"a": times})


def test_large_float32_times_of_tables_are_refused():
    times = pa.array([[START, START + 10]], pa.list_(pa.float32()))
    table = pa.table({"a": [[1.0, 2.0]], "a.time": times})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # columns used for their names
        with pytest.raises(DataError, match="Times of 'a' must be float64 if they"):
            MultimodalData.from_arrow(table, modalities={"a": "a"}, y=None)


def test_nanoseconds_since_1970_become_seconds_with_a_warning():
    stamps = NAIVE.as_unit("ns").astype("int64").to_numpy()[None]
    with pytest.warns(DataWarning, match="'a' up to 1.709.* are read as nanoseconds"):
        data = MultimodalData.from_arrays(
            {"a": np.ones((1, 3, 1))}, times={"a": stamps}
        )
    assert data.columns["a"].time.tolist() == [START, START + 1, START + 2]


def test_modalities_without_a_common_origin_are_reported():
    arrays = {"a": [[[1.0], [2.0]], None], "b": [[[1.0], [2.0]], [[3.0]]]}
    times = {"a": [[START, START + 1], None], "b": [[0.0, 1.0], [0.0]]}
    with pytest.warns(
        DataWarning, match="'a' and 'b' are up to 1.71e.09 s apart in one"
    ):
        MultimodalData.from_arrays(arrays, times=times)
    times["b"] = [[START + 5, START + 6], [0.0]]
    MultimodalData.from_arrays(arrays, times=times)


def test_rows_of_equal_time_keep_their_order():
    rows = [[[1.0], [2.0], [3.0], [4.0]]]
    data = MultimodalData.from_arrays({"a": rows}, times={"a": [[5, 1, 5, 1]]})
    assert data.columns["a"].values.ravel().tolist() == [2, 4, 1, 3]


def test_rows_of_nan_at_the_end_of_a_sequence_are_padding():
    rows = np.full((4, 3, 2), NAN)
    rows[0, 0], rows[1], rows[2, 1, 0] = 1, 2, 3
    array = MultimodalData.from_arrays({"a": rows})
    assert array.columns["a"].lengths.tolist() == [1, 3, 2, 0]
    assert array.columns["a"].equals(
        MultimodalData.from_arrays({"a": list(rows)}).columns["a"]
    )
    short = [[7.0], [1, 2, 3], [4, 5], None]
    for times in ([[7, NAN, 0], [1, 2, 3], [4, 5, 0], None], short):
        timed = MultimodalData.from_arrays({"a": rows}, times={"a": times})
        assert timed.columns["a"].time.tolist() == [7, 1, 2, 3, 4, 5]
    again = MultimodalData.from_arrow(timed.to_arrow())
    assert again.equals(timed)


def test_transposed_sequences_are_reported():
    with pytest.warns(DataWarning, match=r"'a' has 3 rows of 40 channels in each sam"):
        data = MultimodalData.from_arrays({"a": np.ones((2, 3, 40))})
    MultimodalData.from_arrays({"a": np.ones((2, 3, 40))}, schema=data.schema)
    with pytest.raises(DataError, match="time steps of 3 channels, transpose"):
        MultimodalData.from_arrays({"a": [np.ones((3, 40)), np.ones((3, 41))]})


def test_a_batch_holds_only_the_rows_that_exist():
    data = two()
    batch = data.batch([4, 1, 2])
    assert batch.num_samples == 3
    assert batch.modalities == ("labs", "ecg")
    assert batch.sample["labs"].tolist() == [0, 2]
    assert torch.equal(batch.present, torch.tensor(data.present[[4, 1, 2]]))
    ecg = data[[4]].columns["ecg"]
    mine = batch.x["ecg"][batch.sample["ecg"] == 0]
    assert np.array_equal(mine.numpy(), ecg.values, equal_nan=True)
    assert batch.y.tolist() == [0, 1, 0]
    assert batch.y.dtype == torch.int64
    assert batch.x["labs"].dtype == torch.float32


def test_batch_times_count_from_the_first_time_of_the_sample():
    data = MultimodalData.from_arrays(
        {"a": [[[1.0], [2.0]], None], "b": [[[1.0]], [[1.0]]]},
        times={"a": [[1e9 + 0.5, 1e9 + 1], None], "b": [[1e9], [7.0]]},
    )
    batch = data.batch()
    assert batch.time["a"].dtype == torch.float64
    assert batch.time["a"].tolist() == [0.5, 1.0]
    assert batch.time["b"].tolist() == [0.0, 0.0]
    assert data.select(["a"]).batch().time["a"].tolist() == [0.0, 0.5]


def test_late_times_keep_their_digits_and_masked_is_removed():
    """Blood a year before an ECG of ten rows a second."""
    schema = Schema(
        [Modality("labs", 1, time=True), Modality("ecg", 1, "vector", "ragged", True)],
        [Latent("fuse")],
        [Relation("ecg", "ecg", topology=TimeWindow(0.15)), Relation("*", "fuse")],
    )
    data = MultimodalData.from_arrays(
        {"labs": [[1.0]], "ecg": [np.arange(6.0)[:, None]]},
        times={"labs": [[0.0]], "ecg": [3e7 + np.arange(6) / 10]},
        schema=schema,
    )
    model = FusionModel(schema, Classification(2), hidden_channels=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    keep = np.array([[False, True]])
    dropped = model(data.batch().drop(torch.from_numpy(keep))).logits
    removed = model(data.select(["ecg"]).batch()).logits
    torch.testing.assert_close(dropped, removed, rtol=0, atol=5e-6)
    graph, _ = model.nodes(data.batch(), None, None, {})
    assert graph.edges(schema.relations[0]).shape[1] == 6 + 2 * 5  # neighbours


def test_batch_targets_are_numbers_or_none():
    data = MultimodalData.from_arrays({"a": [1.0, 2.0]}, y=[0.5, NAN])
    assert data.batch().y.dtype == torch.float32
    assert data.replace(y=[[0, 1], [1, 1]]).batch().y.shape == (2, 2)
    assert data.replace(y=["u", "v"]).batch().y is None
    assert data.replace(y=None).batch().y is None


@pytest.mark.slow
def test_large_arrays_are_built_sliced_and_packed_without_a_loop():
    x = np.random.default_rng(0).normal(size=(100_000, 128)).astype(np.float32)
    start = clock.process_time()
    data = MultimodalData.from_arrays(dict.fromkeys("abcd", x), y=np.arange(100_000))
    part = data[::2]
    for first in range(0, 50_000, 1000):
        batch = part.batch(np.arange(first, first + 1000))
    assert clock.process_time() - start < 10
    assert batch.x["a"].shape == (1000, 128)


# Schema


def test_a_schema_that_was_given_is_kept_and_inferred_ones_follow_the_columns():
    schema = Schema.star([Modality("a", 1), Modality("extra", 7)])
    data = MultimodalData.from_arrays({"a": [1.0, 2.0]}, schema=schema)
    assert data[[0]].schema == schema
    plain = MultimodalData.from_arrays({"a": [1.0, 2.0]})
    assert plain.schema == Schema.complete([Modality("a", 1)])
    assert plain.with_schema(schema).schema == schema
    assert MultimodalData.concat([data[:1], data[1:]]).schema == schema


def test_a_timed_schema_gets_times():
    ecg = Modality("ecg", 2, tokens="ragged", time=True)
    schema = Schema([ecg], relations=[Relation("ecg", "ecg", topology=TimeWindow(1.0))])
    assert two().select(["ecg"]).with_schema(schema).schema == schema


def test_repr_lists_shapes_kinds_and_missing_shares():
    shown = repr(make())
    assert "12 samples" in shown
    assert "labs: [N, 3] vector, 8% missing" in shown
    assert "ecg: [N, T, 2] vector, 25% missing" in shown
    assert "note: [N] text, 42% missing" in shown


def test_the_notebook_table_lists_modalities_escaped():
    labs = np.array([[1.0, 2.0], [NAN, NAN], [3.0, 4.0], [5.0, 6.0]])
    data = MultimodalData.from_arrays(
        {"<labs>": labs, "note": ["a", None, None, None]},
        y=["ill", "well", "ill", None],
        groups=["h&1", "h&1", "h2", "h2"],
    )
    page = data._repr_html_()
    assert "4 samples; labels (missing: 1); 2 groups</caption>" in page
    row = "<td>&lt;labs&gt;</td><td>vector</td><td>2</td><td>single</td><td>25%</td>"
    assert row in page
    assert "<td>note</td><td>text</td><td></td><td>single</td><td>75%</td>" in page
    assert "<labs>" not in page
    assert "no labels" in make().replace(y=None)._repr_html_()
    assert "12 samples; 2 classes; 4 groups</caption>" in make()._repr_html_()
    assert "0 samples" in make()[[]]._repr_html_()


def test_the_fingerprint_depends_on_content_and_order_only():
    data = make()
    assert data.fingerprint == make().fingerprint
    assert data.fingerprint == data.replace(ids=range(100, 112)).fingerprint
    schema = Schema.late(data.schema.modalities)
    assert data.fingerprint == data.with_schema(schema).fingerprint
    others = [
        make(seed=1),
        data[::-1],
        data[:-1],
        data.select(["ecg", "labs", "note"]),
        data.replace(y=1 - data.y),
        data.replace(y=None),
        data.replace(groups=None),
        data.replace(split_name=["train"] * 12),
        data.mask({"labs": np.arange(12) > 0}),
    ]
    prints = {other.fingerprint for other in others}
    assert len(prints) == len(others)
    assert data.fingerprint not in prints
    assert len(data.fingerprint) == 64


def test_the_fingerprint_is_the_one_of_stored_benchmark_results():
    folder = Path(__file__).parents[1] / "fixtures" / "0.1"
    names = {"a": ["c0", "c1"], "b": ["c2"]}
    file = folder / "cohort.csv"
    data = MultimodalData.from_parquet(file, modalities=names, y="y")
    stored = json.loads((folder / "bench" / "datasets.jsonl").read_text())
    assert data.fingerprint == stored["data_hash"]


def test_equals_detects_every_difference():
    data = make()
    assert data.equals(make())
    assert not data.equals(make(seed=1))
    assert not data.equals(data.replace(y=np.zeros(12)))
    assert not data.equals(data.replace(groups=None))
    assert not data.equals(data.select(["ecg", "labs", "note"]))
    column = data.columns["labs"]
    assert not column.equals(Column(column.values, column.offsets, names=("a", "b")))


# Errors

OK = {"a": [1.0, 2.0]}
INF = {"a": np.array([[1.0], [-np.inf]])}
ERRORS = [
    (({},), {}, "at least one modality, got none"),
    (({"a": np.array(1.0)},), {}, "'a' must be an array or a list .* got ndarray"),
    (({"a": [10**400]},), {}, "'a' must hold numbers, got int too large"),
    ((OK,), {"y": [10**30, 1]}, "got integers of more than 64 bits"),
    ((OK,), {"times": {"a": 3}}, "2 samples, got 1"),
    (({"a": 3},), {}, "'a' must be an array or a list .* got int"),
    (({"a": [1.0], "b": [1.0, 2.0]},), {}, "1 samples in 'a', got 2"),
    ((INF,), {}, "'a' must be finite .* in sample 1"),
    (({"a": [1.0, 1e300]},), {}, "'a' must be finite or NaN in float32"),
    (({"a": [[1.0], [np.inf]]},), {}, "'a' must be finite .* in sample 1"),
    (({"a": np.ones((2, 0))},), {}, "at least one channel"),
    (({"a": np.ones((2, 1, 1, 1))},), {}, r"must have shape \[N\], \[N, C\]"),
    (({"a": np.array([1j, 2])},), {}, "must hold numbers, got dtype complex128"),
    (
        ({"a": np.array([[1.0], ["x"]], dtype=object)},),
        {},
        "must hold numbers, got the string",
    ),
    (({"a": [1.0, "x"]},), {}, "must hold numbers, got dtype <U1"),
    (({"a": [object()]},), {}, "'a' must hold numbers, got 'object'. Encode it"),
    (({"a": ["x", 1.0]},), {}, "only strings .* got float in sample 1"),
    (({"a": [[1.0], [[1.0]]]},), {}, r"entries with \[1, 2\] dimensions"),
    (({"a": [[[1.0]], [[1.0, 2.0]]]},), {}, r"one number of channels .* \[1, 2\]"),
    ((OK,), {"y": [1]}, "y must have one label per sample: 2 samples, got 1 labels"),
    ((OK,), {"y": 1}, "y must have one label per sample"),
    ((OK,), {"ids": [1, 2, 3]}, "ids must have one id per sample"),
    ((OK,), {"ids": ["u", "u"]}, "ids must be unique, got 'u' again at sample 1"),
    ((OK,), {"ids": ["u", None]}, "ids must be known .* at sample 1"),
    ((OK,), {"groups": [1]}, "groups must have one group per sample"),
    ((OK,), {"groups": [1, None]}, "groups must be known"),
    ((OK,), {"groups": [[1], [2]]}, "groups must hold one number or string"),
    ((OK,), {"y": [1.0, np.inf]}, "y must be finite or NaN, got .* at sample 1"),
    ((OK,), {"y": ["a", 1]}, "y must hold numbers or strings of one type, got str"),
    ((OK,), {"y": [[1], [1, 2]]}, "got entries of several lengths"),
    ((OK,), {"y": np.array([[1], [{}]], dtype=object)}, "got objects"),
    ((OK,), {"times": {"b": [1, 2]}}, r"times must name known modalities \(a\).* 'b'"),
    ((OK,), {"times": {"a": [1]}}, "2 samples, got 1"),
    ((OK,), {"times": {"a": [1, NAN]}}, "ISO 8601 or durations, got NaN"),
    ((OK,), {"times": {"a": [1, "x"]}}, "ISO 8601 or durations, got 'x'"),
    ((OK,), {"times": {"a": np.array(["x", "y"])}}, "ISO 8601 or durations, got 'x'"),
    ((OK,), {"times": {"a": [1, None]}}, "sample 1 has 1 rows, got 0 times"),
    ((OK,), {"present": {"b": [1, 1]}}, "present must name known modalities"),
    ((OK,), {"present": [[True]]}, r"present must have shape \[2, 1\]"),
    ((OK,), {"present": {"a": [1]}}, r"present\['a'\] must have shape \[2\]"),
    ((OK,), {"present": [[0.5], [1]]}, "present must be boolean"),
]


@pytest.mark.parametrize(("args", "options", "message"), ERRORS)
def test_wrong_input_is_named(args, options, message):
    with pytest.raises(DataError, match=message):
        MultimodalData.from_arrays(*args, **options)


def test_mappings_are_dicts_with_string_keys():
    with pytest.raises(DataError, match=r"x must be a dict .* modality, got list"):
        check_mapping("x", [1.0])
    with pytest.raises(DataError, match="x must name modalities by strings, got 1"):
        check_mapping("x", {1: [1.0]})


TEXT = Modality("a", kind="text")
SCHEMA_ERRORS = [
    (Modality("b", 1), "'a' must be in the schema, which has b"),
    (Modality("a", 34), "'a' must have 34 channels, got 1"),
    (TEXT, "'a' must hold strings, got numbers"),
    (Modality("a", 1, time=True), "'a' must have times, got none"),
]


@pytest.mark.parametrize(("modality", "message"), SCHEMA_ERRORS)
def test_columns_that_do_not_fit_the_schema_are_named(modality, message):
    schema = Schema.complete([modality])
    with pytest.raises(DataError, match=message):
        MultimodalData.from_arrays(OK, schema=schema)
    with pytest.raises(DataError, match=message):
        MultimodalData.from_arrays(OK).with_schema(schema)


def test_sequences_do_not_fit_a_schema_of_single_rows():
    data = MultimodalData.from_arrays({"a": np.ones((2, 3, 1))})
    with pytest.raises(DataError, match="'a' must have one row per sample"):
        data.check(Schema.complete([Modality("a", 1)]))
    with pytest.raises(DataError, match="'a' must hold numbers, got strings"):
        MultimodalData.from_arrays({"a": ["x"]}).check(
            Schema.complete([Modality("a", 1)])
        )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ([12], "index must be below 12, got 12"),
        ([-13], "got -13"),
        ("labs", "must be indexed by integers"),
        ([0.5], "must be indexed by integers"),
        ([[1]], "must be indexed by integers"),
        ([True, False], "12 booleans"),
    ],
)
def test_wrong_indices_are_named(key, message):
    with pytest.raises(DataError, match=message):
        make()[key]


def test_unknown_modalities_are_named():
    with pytest.raises(DataError, match=r"select .*\(labs, ecg, note\), got 'ekg'"):
        make().select(["ekg"])
    with pytest.raises(DataError, match="select must name at least one"):
        make().select([])
    with pytest.raises(DataError, match="present must name known modalities"):
        make().mask({"ekg": np.ones(12, dtype=bool)})


def test_parts_that_cannot_be_joined_are_named():
    a = MultimodalData.from_arrays(OK, ids=["u", "v"])
    concat = MultimodalData.concat
    with pytest.raises(DataError, match="ids must be unique, got 'u'"):
        concat([a, a])
    with pytest.raises(DataError, match="at least one part"):
        concat([])
    with pytest.raises(DataError, match="ids must hold numbers or strings of one type"):
        concat([a, MultimodalData.from_arrays(OK)])
    b = MultimodalData.from_arrays(OK, ids=["w", "x"], y=[0, 1])
    with pytest.raises(DataError, match="y must have the same shape in all parts"):
        concat([a, b])
    c = MultimodalData.from_arrays({"a": [[1.0, 2.0]]}, ids=["y"])
    with pytest.raises(DataError, match="same channels in all parts, got 1 and 2"):
        concat([a, c])
    d = MultimodalData.from_arrays(OK, times={"a": [1, 2]}, ids=["y", "z"])
    with pytest.raises(DataError, match="same times in all parts"):
        concat([a, d])


def test_wrong_splits_are_named():
    data = MultimodalData.from_arrays(OK, groups=[1, 1])
    with pytest.raises(MMGraphError, match="test_size must be between 0 and 1, got 2"):
        data.split(2.0)
    with pytest.raises(DataError, match="at least 2 groups, got 1"):
        data.split(0.5)
    with pytest.raises(DataError, match="at least 2 samples, got 1"):
        data.replace(groups=None)[:1].split(0.5)


def test_text_has_to_be_encoded_before_a_batch():
    with pytest.raises(DataError, match="'note' must be numbers in a batch, got text"):
        make().batch()


def test_replace_changes_only_metadata():
    with pytest.raises(DataError, match=r"replace must name y, ids, .* got 'columns'"):
        make().replace(columns={})
    with pytest.raises(DataError, match="12 samples, got 1 labels"):
        make().replace(y=[1])
