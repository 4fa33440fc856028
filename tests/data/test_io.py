"""Round trips through Parquet, Arrow, pandas and HeteroData; damaged files."""

import json
import time as clock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.errors import DataError, DataWarning, MMGraphError
from mmgraph.schema import Custom, Latent, Modality, Relation, Schema

NAN = float("nan")
CELL = st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32))
LABELS = {
    "int": st.integers(-5, 5),
    "float": st.one_of(st.just(NAN), st.floats(-9, 9)),
    "bool": st.booleans(),
    "text": st.sampled_from(["yes", "no"]),
    "holes": st.sampled_from(["yes", None]),
}


@st.composite
def some_data(draw):
    """Arrays with holes of every kind, and the options to build data with them.

    The data are built in the test, as the checks of types draw random elements.
    """
    num = draw(st.integers(1, 5))

    def listed(cell):
        return draw(st.lists(cell, min_size=num, max_size=num))

    row = st.lists(CELL, min_size=2, max_size=2)
    kind = draw(st.sampled_from(sorted(LABELS)))
    ecg = listed(st.none() | st.lists(row, min_size=1, max_size=4))
    ecg[0] = [[1.0, NAN], [NAN, NAN]]
    note = listed(st.sampled_from([None, "", "a b", "über"]))
    note[0] = "first"
    labs = np.array(listed(row), dtype=np.float32)
    times = [None if e is None else listed_times(draw, len(e)) for e in ecg]
    several = draw(st.booleans())
    options = {
        "y": np.eye(num, 3) if several else listed(LABELS[kind]),
        "ids": draw(st.sampled_from([None, [f"id{i}" for i in range(num)]])),
        "groups": draw(st.sampled_from([None, [f"g{i // 2}" for i in range(num)]])),
        "split_name": draw(st.sampled_from([None, ["train"] * num])),
        "times": draw(st.sampled_from([None, {"ecg": times}])),
    }
    return {"labs": labs, "ecg": ecg, "note": note}, options


def build(drawn):
    arrays, options = drawn
    return MultimodalData.from_arrays(arrays, **options)


def listed_times(draw, num):
    return draw(st.lists(st.floats(-1e9, 1e9), min_size=num, max_size=num))


def small(**options):
    return MultimodalData.from_arrays(
        {
            "labs": np.array([[1.0, NAN], [NAN, NAN], [3.0, 4.0]]),
            "ecg": [np.ones((2, 3)), None, np.zeros((1, 3))],
            "note": ["a", None, "c"],
        },
        **{"y": [0, 1, 0], **options},
    )


# Round trips


@given(some_data())
@settings(deadline=None, max_examples=25)
def test_arrow_round_trip_is_equal(drawn):
    data = build(drawn)
    again = MultimodalData.from_arrow(data.to_arrow())
    assert again.equals(data)
    assert again.y.dtype.kind == data.y.dtype.kind


@pytest.mark.filterwarnings("ignore:Columns are used because of their names")
@given(some_data())
@settings(deadline=None, max_examples=20)
def test_pandas_round_trip_is_equal(drawn):
    data = build(drawn)
    y = ["y.0", "y.1", "y.2"] if data.y.ndim == 2 else "y"
    again = MultimodalData.from_pandas(
        data.to_pandas(),
        modalities={"labs": ["labs.0", "labs.1"], "ecg": "ecg", "note": "note"},
        y=y,
        ids="id",
        groups=None if data.groups is None else "group",
    )
    again = again.replace(split_name=data.split_name)
    assert again.with_schema(data.schema).equals(data)  # texts that repeat


@given(some_data())
@settings(deadline=None, max_examples=20)
def test_hetero_data_round_trip_is_equal(drawn):
    data = build(drawn)
    graphs = data.to_hetero_data()
    again = MultimodalData.from_hetero_data(graphs, schema=data.schema)
    assert again.equals(data.select(again.modalities).with_schema(data.schema))


def test_times_of_text_are_read_back(tmp_path):
    data = MultimodalData.from_arrays(
        {"note": ["stable", None, "worse"], "labs": [[1.0], [2.0], [3.0]]},
        times={"note": [[2.5], None, [0.0]]},
    )
    data.to_parquet(tmp_path / "notes.parquet")
    again = MultimodalData.from_parquet(tmp_path / "notes.parquet")
    assert again.equals(data)
    assert again.columns["note"].time.tolist() == [2.5, 0.0]
    assert MultimodalStream.from_parquet(tmp_path).load().equals(data)


def test_hetero_data_round_trip_keeps_the_order_of_modalities():
    arrays = {"a": [None, 1.0, None], "b": [None, 2.0, 3.0], "c": [4.0, None, 5.0]}
    data = MultimodalData.from_arrays(arrays)
    again = MultimodalData.from_hetero_data(data.to_hetero_data())
    assert again.equals(data)


def test_graphs_that_contradict_each_other_are_read():
    graphs = [HeteroData(), HeteroData()]
    for graph, names in zip(graphs, ("ab", "ba"), strict=True):
        for name in names:
            graph[name].x = torch.ones(1, 1)
    assert MultimodalData.from_hetero_data(graphs).modalities == ("a", "b")


def test_parquet_round_trip_keeps_schema_names_and_split(tmp_path):
    schema = Schema.star([Modality("labs", 2, kind="embedding")])
    data = MultimodalData.from_arrays(
        {"labs": pd.DataFrame({"wbc": [1.0, NAN], "crp": [2.0, NAN]})},
        y=["u", "v"],
        ids=["p1", "p2"],
        groups=[3, 4],
        split_name=["train", "test"],
        schema=schema,
    )
    path = tmp_path / "records.parquet"
    data.to_parquet(path)
    again = MultimodalData.from_parquet(str(path))
    assert again.equals(data)
    assert again.schema == schema
    assert again.columns["labs"].names == ("wbc", "crp")
    assert again.split_name.tolist() == ["train", "test"]
    again = MultimodalData.from_parquet(path, y=None)
    assert again.y is None


def test_data_without_labels_comes_back_without(tmp_path):
    path = tmp_path / "x.parquet"
    small(y=None).to_parquet(path)
    assert MultimodalData.from_parquet(path).equals(small(y=None))


def test_parts_of_data_and_empty_data_can_be_stored(tmp_path):
    path = tmp_path / "x.parquet"
    for part in (small()[[1]], small()[[]], small()[::2]):
        part.to_parquet(path)
        assert MultimodalData.from_parquet(path).equals(part)


def test_the_stored_types_have_real_nulls():
    table = small(times={"ecg": [[0, 1], None, [0]]}).to_arrow()
    types = {field.name: str(field.type) for field in table.schema}
    assert types["labs"].startswith("fixed_size_list")
    assert types["ecg"].startswith("list")
    assert "fixed_size_list" in types["ecg"]
    assert types["note"] == "string"
    assert types["ecg.time"].startswith("list")
    assert [table.column(c).null_count for c in ("labs", "ecg", "note")] == [1, 1, 1]
    document = json.loads(table.schema.metadata[b"mmgraph"])
    assert (
        Schema.from_json(json.dumps(document["schema"]))
        == small(times={"ecg": [[0, 1], None, [0]]}).schema
    )


def test_schemas_with_custom_topologies_are_stored_as_a_star():
    labs = Modality("labs", 2)
    custom = Custom(lambda a, b: None, "mine")
    schema = Schema([labs], [Latent("fuse")], [Relation("labs", "fuse", "r", custom)])
    data = small().select(["labs"]).with_schema(schema)
    again = MultimodalData.from_arrow(data.to_arrow())
    assert again.schema == Schema.complete([labs])


def test_to_pandas_names_channels_and_metadata():
    data = small(groups=["a", "b", "c"])
    assert list(data.to_pandas().columns) == [
        "id",
        "y",
        "group",
        "labs.0",
        "labs.1",
        "ecg",
        "note",
    ]
    assert data.to_pandas()["ecg"][1] is None


@pytest.mark.filterwarnings("ignore:Columns are used because of their names")
def test_single_rows_with_times_survive_pandas():
    data = MultimodalData.from_arrays({"a": [1.0, NAN]}, times={"a": [7.0, None]})
    again = MultimodalData.from_pandas(data.to_pandas(), modalities={"a": ["a.0"]})
    assert again.equals(data)


def test_hetero_data_has_a_node_type_for_each_modality_that_is_present():
    first, second, _ = small(times={"ecg": [[5, 6], None, [0]]}).to_hetero_data()
    assert first.node_types == ["labs", "ecg", "note"]
    assert second.node_types == []
    assert first["ecg"].x.shape == (2, 3)
    assert first["ecg"].time.tolist() == [5, 6]
    assert first["note"].text == ["a"]
    assert first.y.tolist() == [0]


def test_graphs_made_elsewhere_are_read():
    graphs = [HeteroData(), HeteroData()]
    graphs[0]["a"].x = torch.ones(3, 2)
    graphs[1]["b"].x = torch.ones(1, 4)
    graphs[0].y = torch.tensor(1)
    graphs[1].y = torch.tensor(0)
    data = MultimodalData.from_hetero_data(graphs)
    assert data.present.tolist() == [[True, False], [False, True]]
    assert data.y.tolist() == [1, 0]
    assert data.schema.modality("a").tokens == "ragged"
    assert data.schema.modality("b").tokens == "single"


# Files and frames of users


def flat():
    return pd.DataFrame(
        {
            "wbc": [1.0, None, 3.0],
            "crp": [1, 2, 3],
            "fever": [True, False, True],
            "sex": ["m", "f", "m"],
            "ward": pd.Categorical(["x", "y", "x"]),
            "note": ["one", None, "three"],
            "hr": [[60.0, 61.0], None, np.array([70.0])],
            "died": [0, 1, 0],
        }
    )


def test_a_data_frame_is_read():
    data = MultimodalData.from_pandas(
        flat(),
        modalities={
            "labs": ["wbc", "crp"],
            "signs": ["fever"],
            "note": "note",
            "hr": ["hr"],
        },
        y="died",
        groups="ward",
    )
    assert data.columns["labs"].names == ("wbc", "crp")
    assert np.isnan(data.columns["labs"].values[1, 0])
    assert data.columns["signs"].values.ravel().tolist() == [1, 0, 1]
    assert data.present[:, 2].tolist() == [True, False, True]
    assert data.columns["hr"].lengths.tolist() == [2, 0, 1]
    assert data.y.tolist() == [0, 1, 0]
    assert data.groups.tolist() == ["x", "y", "x"]


def test_pandas_categoricals_are_categories(tmp_path):
    frame = pd.DataFrame(
        {
            "ward": pd.Categorical(["x", None, "y"]),
            "stage": pd.Categorical([2, 4, None]),
        }
    )
    frame.to_parquet(tmp_path / "frame.parquet")
    options = {"modalities": {"ward": "ward", "labs": ["stage"]}, "y": None}
    data = MultimodalData.from_parquet(tmp_path / "frame.parquet", **options)
    assert MultimodalData.from_pandas(frame, **options).equals(data)
    assert data.columns["ward"].categories == (("x", "y"),)
    assert data.columns["labs"].categories == (("2", "4"),)


@pytest.mark.filterwarnings("ignore:Columns are used because of their names")
def test_default_columns_of_other_types_are_not_read(tmp_path):
    path = tmp_path / "foreign.parquet"
    foreign = pa.table(
        {
            "wbc": [1.0, 2.0],
            "id": ["patient 1", "patient 1"],
            "split": [["train"], ["test", "train"]],
            "group": [{"a": 1}, {"a": 2}],
            "visit": [7, 7],
        }
    )
    pq.write_table(foreign, path)
    options = {"modalities": {"labs": ["wbc"]}, "y": None}
    with pytest.warns(DataWarning, match="'id' has repeated, missing or rounded"):
        data = MultimodalData.from_parquet(path, **options)
    assert data.ids.tolist() == [0, 1]
    assert data.split_name is data.groups is None
    with pytest.raises(DataError, match="ids must be unique, got 7 again"):
        MultimodalData.from_parquet(path, ids="visit", **options)
    with pytest.raises(DataError, match="column 'split' must hold numbers or strings"):
        MultimodalData.from_parquet(path, groups="split", **options)
    known = foreign.set_column(1, "id", pa.array(["p", "q"]))
    assert MultimodalData.from_arrow(known, **options).ids.tolist() == ["p", "q"]


def test_nullable_columns_of_pandas_are_read():
    frame = flat()[["wbc", "crp", "fever", "sex", "died"]].convert_dtypes()
    frame.loc[0, "crp"] = pd.NA
    frame.loc[0, "died"] = pd.NA
    data = MultimodalData.from_pandas(
        frame, modalities={"labs": ["crp", "fever"]}, y="died", groups="sex"
    )
    assert np.isnan(data.columns["labs"].values[0]).tolist() == [True, False]
    assert np.isnan(data.y).tolist() == [True, False, False]


def test_a_flat_parquet_of_a_user_is_read(tmp_path):
    path = tmp_path / "flat.parquet"
    flat().to_parquet(path)
    data = MultimodalData.from_parquet(
        path,
        modalities={"labs": ["wbc", "crp", "fever"], "note": "note", "hr": "hr"},
        y="died",
    )
    assert data.columns["labs"].names == ("wbc", "crp", "fever")
    assert data.columns["labs"].values[2].tolist() == [3, 3, 1]
    assert np.isnan(data.columns["labs"].values[1, 0])
    assert data.columns["hr"].values.ravel().tolist() == [60, 61, 70]
    assert data.columns["note"].values.tolist() == ["one", "three"]
    assert data.y.tolist() == [0, 1, 0]
    several = MultimodalData.from_parquet(
        path, modalities={"labs": ["wbc"]}, y="sex", ids=None
    )
    assert several.y.tolist() == ["m", "f", "m"]


def test_lists_of_one_length_are_vectors_and_lists_of_lists_are_sequences():
    table = pa.table(
        {
            "v": pa.array([[1.0, 2.0], None, [3.0, None]]),
            "s": pa.array([[[1, 2]], None, [[3, 4], [5, 6]]]),
            "t": pa.array([["a"], ["b"], ["c"]]),
            "d": pa.array(["x", "y", None]).dictionary_encode(),
        }
    )
    data = MultimodalData.from_arrow(
        table, modalities={"v": "v", "s": "s", "d": "d"}, y=None
    )
    assert data.columns["v"].channels == 2
    assert not data.columns["v"].ragged
    assert data.columns["s"].lengths.tolist() == [1, 0, 2]
    assert data.columns["d"].categories == (("x", "y"),)
    with pytest.raises(DataError, match="'t' must hold lists of numbers, got string"):
        MultimodalData.from_arrow(table, modalities={"t": "t"}, y=None)


def test_dictionaries_of_lists_are_decoded():
    lists = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array([[1.0, 2.0]]))
    table = pa.table({"a": lists})
    data = MultimodalData.from_arrow(table, modalities={"a": "a"}, y=None)
    assert data.columns["a"].values.tolist() == [[1, 2], [1, 2]]


def test_columns_of_nothing_but_null_are_missing_everywhere():
    table = pa.table({"a": pa.nulls(2), "b": [1, 2], "y": pa.nulls(2)})
    data = MultimodalData.from_arrow(table, modalities={"a": "a", "b": "b"}, y="y")
    assert data.present.tolist() == [[False, True], [False, True]]
    assert np.isnan(data.y).all()


def test_a_table_of_several_chunks_is_read_as_one():
    table = small().to_arrow()
    chunked = pa.concat_tables([table.slice(1), table.slice(0, 1)])
    again = MultimodalData.from_arrow(chunked)
    assert again.equals(small()[[1, 2, 0]])


@pytest.mark.slow
def test_large_files_are_read_without_a_loop(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "large.parquet"
    data = MultimodalData.from_arrays(
        {
            "a": rng.normal(size=(100_000, 32)).astype(np.float32),
            "b": rng.normal(size=(100_000, 8, 4)).astype(np.float32),
        }
    )
    start = clock.process_time()
    data.to_parquet(path)
    assert MultimodalData.from_parquet(path).equals(data)
    assert clock.process_time() - start < 15


# Errors

FRAME_ERRORS = [
    ({"labs": ["wbc"]}, {"y": ["sex"]}, "must hold numbers, got column 'sex'"),
    ({"labs": ["wcb"]}, {}, "column 'wcb' must exist once, got 0 in: wbc"),
    ({"labs": "wcb"}, {}, "column 'wcb' must exist once"),
    ({"labs": []}, {}, "must name at least one column"),
    ({}, {}, "modalities must be a dict with at least one modality, got none"),
    ({"labs": ["wbc"]}, {"y": "dead"}, "column 'dead' must exist once"),
    ({"labs": ["wbc"]}, {"ids": "sex"}, "ids must be unique, got 'm' again"),
]


@pytest.mark.parametrize(("modalities", "options", "message"), FRAME_ERRORS)
def test_wrong_frames_are_named(modalities, options, message):
    with pytest.raises(DataError, match=message):
        MultimodalData.from_pandas(flat(), modalities=modalities, **options)


@pytest.mark.parametrize("source", ["visit", ["visit"], ["wbc", "visit"]])
def test_dates_are_days(source):
    frame = flat().assign(visit=pd.Timestamp("1970-01-03 12:00"))
    column = MultimodalData.from_pandas(frame, modalities={"a": source}).columns["a"]
    assert (column.values[:, -1] == 2.5).all()


def test_repeated_channel_names_are_errors():
    frame = pd.DataFrame([[1.0, 2.0]], columns=["time", "b"])
    data = MultimodalData.from_arrays({"a": frame})
    timed = MultimodalData.from_arrays({"a": frame}, times={"a": [1.0]})
    assert list(data.to_pandas().columns) == ["id", "a.time", "a.b"]
    with pytest.raises(DataError, match="different names other than 'time'"):
        timed.to_pandas()
    with pytest.raises(DataError, match="columns must have different names, got 'id'"):
        MultimodalData.from_arrays({"id": ["text"]}).to_pandas()


def test_wrong_graphs_are_named():
    with pytest.raises(DataError, match="graphs must hold at least one node type"):
        MultimodalData.from_hetero_data([HeteroData()])
    graph = HeteroData()
    graph["a"].pos = torch.ones(1, 2)
    with pytest.raises(DataError, match=r"HeteroData\['a'\] must have x, got pos"):
        MultimodalData.from_hetero_data([graph])


def _stored(tmp_path, table):
    path = tmp_path / "file.parquet"
    pq.write_table(table, path)
    return path


def _own(**columns):
    """The table of small data with some columns replaced or (None) left out."""
    table = small(times={"ecg": [[0, 1], None, [0]]}).to_arrow()
    metadata = table.schema.metadata
    for name, values in columns.items():
        name = name.replace("__", ".")
        table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, values)
    return table.replace_schema_metadata(metadata)


def _changed(**fields):
    table = _own()
    document = json.loads(table.schema.metadata[b"mmgraph"]) | fields
    return table.replace_schema_metadata({b"mmgraph": json.dumps(document)})


NULL_ROWS = pa.array(
    [[[1.0, 2.0], None], None, [[0.0, 1.0]]], pa.list_(pa.list_(pa.float32(), 2))
)
FILES = [
    (_own(y=None), "column 'y' must exist once, got 0 in: id, labs, ecg"),
    (_own(id=None), "column 'id' must exist once"),
    (_own(labs=None), "column 'labs' must exist once"),
    (_own(labs=pa.array([["a"]] * 3)), "'labs' must hold lists of numbers"),
    (_own(labs=pa.array([{"a": 1}] * 3)), "column 'labs' must hold numbers, strings"),
    (_own(labs=pa.array([[1.0]] * 3)), "'labs' must have 2 channels, got 1"),
    (_own(ecg=pa.array([[[1.0], [1.0, 2.0]]] * 3)), r"one number of channels .*\[1, 2"),
    (_own(ecg=NULL_ROWS), "'ecg' must not have null rows inside a sequence"),
    (_own(labs=pa.array([[1.0, np.inf]] * 3)), "'labs' must be finite"),
    (_own(note=pa.array([[1.0]] * 3)), "'note' must hold strings, got numbers"),
    (_own(y=pa.array([{"a": 1}] * 3)), "column 'y' must hold numbers or strings"),
    (_own(ecg__time=pa.array([[0.0]] * 3)), "column 'ecg.time' must hold one time"),
    (_own(ecg__time=pa.array(["a"] * 3)), "column 'ecg.time' must hold one time"),
    (_own(ecg__time=None), "'ecg' must have times, got none"),
    (_changed(names=None), "metadata 'mmgraph' must hold a schema"),
    (_changed(schema={"a": 1}), "metadata 'mmgraph' must hold a schema"),
    (_changed(modalities=[]), "the table must have a modality"),
    (_changed(names={"labs": ["a"]}), "column 'labs' must have 1 channels, got 2"),
    (
        _own().replace_schema_metadata(None),
        "must come with the columns of each modality",
    ),
    (_own().replace_schema_metadata({b"mmgraph": b"\xff"}), "metadata 'mmgraph' must"),
]


@pytest.mark.parametrize(("table", "message"), FILES)
def test_files_with_missing_or_wrong_columns_are_named(tmp_path, table, message):
    path = _stored(tmp_path, table)
    with pytest.raises(DataError, match=rf"file\.parquet: .*{message}") as caught:
        MultimodalData.from_parquet(path)
    assert "\n" not in str(caught.value)


USER_ERRORS = [
    ({"labs": ["wcb"]}, {"y": None}, "column 'wcb' must exist once"),
    ({"labs": []}, {"y": None}, "must name at least one column"),
    ({"labs": ["wbc"]}, {}, "column 'y' must exist once, .* or y=None"),
    ({"labs": ["wbc"]}, {"y": "dead"}, "column 'dead' must exist once"),
    ({"labs": ["wbc"]}, {"y": None, "ids": "pid"}, "column 'pid' must exist once"),
    ({"labs": ["wbc"]}, {"y": None, "groups": "g"}, "column 'g' must exist once"),
    ({"labs": ["wbc"]}, {"y": None, "ids": "id"}, "column 'id' must exist once"),
    ({"labs": ["wbc"]}, {"y": None, "groups": "group"}, "column 'group' must exist"),
]


@pytest.mark.parametrize(("modalities", "options", "message"), USER_ERRORS)
def test_wrong_names_for_a_users_file_are_named(tmp_path, modalities, options, message):
    path = tmp_path / "flat.parquet"
    flat().to_parquet(path)
    with pytest.raises(DataError, match=rf"flat\.parquet: .*{message}"):
        MultimodalData.from_parquet(path, modalities=modalities, **options)


def test_named_columns_must_exist(tmp_path):
    path, labs = tmp_path / "x.parquet", {"labs": ["wbc"]}
    table = flat().assign(id=1, group=[[0]] * len(flat()))
    table.to_parquet(path)
    with pytest.warns(DataWarning, match="'id' has repeated"):
        data = MultimodalData.from_parquet(path, modalities=labs, y=None)
    assert data.ids.tolist() == list(range(len(table)))
    assert data.groups is None
    for option, name, rule in (
        ("ids", "id", "ids must be unique, got 1 again"),
        ("groups", "group", "column 'group' must hold numbers or strings"),
    ):
        with pytest.raises(DataError, match=rule):
            MultimodalData.from_parquet(path, modalities=labs, y=None, **{option: name})
    MultimodalData.from_arrays({"a": [1.0, 2.0]}).to_parquet(path)
    assert MultimodalData.from_parquet(path).y is None
    with pytest.raises(DataError, match="column 'y' must exist once, got 0"):
        MultimodalData.from_parquet(path, y="y")


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(DataError, match=r"x\.parquet must exist, got no such file"):
        MultimodalData.from_parquet(path)
    path.write_text("not parquet at all")
    with pytest.raises(DataError, match="must be a readable Parquet file"):
        MultimodalData.from_parquet(path)
    small().to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="must be a readable Parquet file") as caught:
        MultimodalData.from_parquet(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match="must be a writable file"):
        small().to_parquet(tmp_path / "none" / "x.parquet")


def test_modalities_named_like_metadata_cannot_be_stored():
    with pytest.raises(DataError, match="'y' must not be named like"):
        MultimodalData.from_arrays({"y": [1.0]}).to_arrow()


def test_damaged_pages_raise_data_errors_only(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.parquet"
    data = MultimodalData.from_arrays({"a": rng.normal(size=(50, 8))}, y=[0, 1] * 25)
    data.to_parquet(path)
    content = path.read_bytes()
    refused = 0
    for place in rng.integers(4, len(content), 150):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            again = MultimodalData.from_parquet(path)
        except MMGraphError:
            refused += 1
        else:
            values = again.columns["a"].values
            assert np.array_equal(values, data.columns["a"].values)
    assert refused > 50


def test_texts_of_graphs_are_strings_or_lists_of_one():
    graphs = [HeteroData() for _ in range(3)]
    for graph, text in zip(graphs, ("hello", ["you"], []), strict=True):
        graph["note"].text, graph["note"].num_nodes = text, 1
    data = MultimodalData.from_hetero_data(graphs)
    assert data.columns["note"].values.tolist() == ["hello", "you"]
    assert data.present[:, 0].tolist() == [True, True, False]
    graphs[2]["note"].text = ["x", "y"]
    with pytest.raises(DataError, match="text must be one string, got 2"):
        MultimodalData.from_hetero_data(graphs)


def test_labels_that_some_graphs_lack_are_missing():
    graphs = MultimodalData.from_arrays({"a": [1.0, 2.0]}).to_hetero_data()
    graphs[0].y = torch.tensor([[1.0, 0.0]])
    y = MultimodalData.from_hetero_data(graphs).y
    assert y.shape == (2, 2)
    assert np.isnan(y[1]).all()
    for graph in graphs:
        graph.y = torch.tensor([0.5], dtype=torch.bfloat16)
    assert MultimodalData.from_hetero_data(graphs).y.tolist() == [0.5, 0.5]


def test_a_modality_is_not_named_like_an_entry_of_a_graph():
    data = MultimodalData.from_arrays({"y": [1.0, 2.0]})
    with pytest.raises(DataError, match="'y' must not be named like one of the entr"):
        data.to_hetero_data()
