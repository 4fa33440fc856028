"""Streams equal data in memory, can be shuffled and sharded, and resume exactly."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgraph import FusionClassifier, Modality, MultimodalData, MultimodalStream, Schema
from mmgraph.data.stream.sampling import MIN_PER_CLASS, draw_sample
from mmgraph.data.stream.source import RowRange, hash_keys, shard_ranges
from mmgraph.data.targets import missing_labels
from mmgraph.errors import DataError, DataWarning

pytestmark = pytest.mark.filterwarnings(
    "ignore:Columns are used because of their names"
)

SIZES = (50, 7, 33)
FIELDS = {"labs": ["wbc", "crp"], "note": "note", "wave": "wave"}


def make_part(num, seed):
    """Vectors, timed sequences and text, each missing for some; the first for many."""
    rng = np.random.default_rng(seed)
    labs = rng.normal(size=(num, 3))
    labs[: num // 2] = np.nan
    ecg = [rng.normal(size=(1 + i % 4, 2)) if i % 5 else None for i in range(num)]
    times = [None if e is None else np.arange(len(e)) / 2 for e in ecg]
    note = ["sinus rhythm" if i % 3 else None for i in range(num)]
    return MultimodalData.from_arrays(
        {"labs": labs, "ecg": ecg, "note": note},
        y=np.arange(num) % 2,
        times={"ecg": times},
    )


@pytest.fixture(scope="module")
def parts():
    return [make_part(num, seed) for seed, num in enumerate(SIZES)]


@pytest.fixture(scope="module")
def data(parts):
    return MultimodalData.concat(parts)


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    for i, part in enumerate(parts):
        part.to_parquet(path / f"{i}.parquet")
    return path


@pytest.fixture
def narrow(folder):
    """A stream whose window holds 20 samples."""
    stream = MultimodalStream.from_parquet(folder)
    return dataclasses.replace(stream, memory=16 * 20 * stream.row_bytes)


def ids_of(chunks):
    return [chunk.ids.tolist() for chunk in chunks]


def flat(lists):
    return [item for items in lists for item in items]


def user_table(num, seed=0, length=None):
    rng = np.random.default_rng(seed)
    lengths = [length or 1 + i % 3 for i in range(num)]
    return pa.table(
        {
            "wbc": rng.normal(size=num),
            "crp": pa.array([None if i % 3 else float(i) for i in range(num)]),
            "note": [f"note {i}" for i in range(num)],
            "wave": [rng.normal(size=n).tolist() for n in lengths],
            "died": np.arange(num) % 2,
            "who": [f"patient {seed} {i}" for i in range(num)],
            "unused": np.arange(num),
        }
    )


def test_a_stream_of_shards_equals_the_data(folder, data):
    stream = MultimodalStream.from_parquet(folder)
    assert stream.num_samples == 90
    assert stream.modalities == data.modalities
    assert stream.schema == data.schema
    assert stream.load().equals(data)
    assert np.array_equal(stream.labels(), data.y)
    assert "90 samples" in repr(stream)
    assert "ecg: vector, ragged, 2 channels" in repr(stream)


@pytest.mark.parametrize("size", [1, 8, 40, 90, 1000])
def test_chunks_have_the_requested_size_and_keep_the_order(folder, size):
    chunks = list(MultimodalStream.from_parquet(folder).chunks(size))
    full, rest = divmod(90, size)
    assert [len(c) for c in chunks] == [size] * full + [rest] * (rest > 0)
    assert flat(ids_of(chunks)) == list(range(90))


def test_one_file_with_several_row_groups_is_a_stream(data, tmp_path):
    path = tmp_path / "one.parquet"
    pq.write_table(data.to_arrow(), path, row_group_size=11)
    stream = MultimodalStream.from_parquet(path)
    assert len(stream.source.sizes) == 9
    assert stream.load().equals(data)


def test_foreign_files_are_read_like_one_file(tmp_path):
    tables = [user_table(num, seed) for seed, num in enumerate((20, 30))]
    (tmp_path / "sub").mkdir()
    pq.write_table(tables[0], tmp_path / "a.parquet")
    pq.write_table(tables[1], tmp_path / "sub" / "b.parquet", row_group_size=7)
    names = {"y": "died", "ids": "who"}
    stream = MultimodalStream.from_parquet(tmp_path, modalities=FIELDS, **names)
    whole = MultimodalData.from_arrow(
        pa.concat_tables(tables), modalities=FIELDS, **names
    )
    assert stream.load().equals(whole)
    assert stream.schema.modality("wave").tokens == "ragged"


def test_lists_of_equal_length_are_vectors_without_a_ragged_schema(tmp_path):
    pq.write_table(user_table(80, length=4), tmp_path / "a.parquet")
    pq.write_table(user_table(20, 1), tmp_path / "b.parquet")
    fields = {"wave": "wave"}
    options = {"modalities": fields, "y": "died"}
    stream = MultimodalStream.from_parquet(tmp_path, **options)
    assert stream.schema.modality("wave").channels == 4
    with pytest.raises(DataError, match=r"b\.parquet: .*'wave' must have 4 channels"):
        stream.load()
    schema = Schema.star([Modality("wave", 1, tokens="ragged")])
    loaded = MultimodalStream.from_parquet(tmp_path, schema=schema, **options).load()
    tables = [user_table(80, length=4), user_table(20, 1)]
    whole = MultimodalData.from_arrow(pa.concat_tables(tables), **options)
    assert loaded.equals(whole)


def test_a_ragged_schema_applies_to_files_with_lists_of_equal_length(tmp_path):
    waves = [[[1.0, 2.0, 3.0]] * 3, [[1.0], [1.0, 2.0], [3.0]]]
    for number, wave in enumerate(waves):
        labs = pa.array([float(number) or None] * 3, pa.float64())
        table = pa.table({"wave": wave, "wbc": labs, "y": [0, 1, 0]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    schema = Schema.star(
        [Modality("wave", channels=1, tokens="ragged"), Modality("labs", channels=1)]
    )
    stream = MultimodalStream.from_parquet(
        tmp_path, modalities={"wave": "wave", "labs": ["wbc"]}, schema=schema
    )
    assert stream.load().columns["wave"].lengths.tolist() == [3, 3, 3, 1, 2, 1]


def test_modality_that_a_shard_lacks_is_missing_there(parts, tmp_path):
    first, second = parts[0].select(["labs", "note"]), parts[1].select(["ecg", "labs"])
    first.to_parquet(tmp_path / "a.parquet")
    second.to_parquet(tmp_path / "b.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    assert stream.modalities == ("labs", "note", "ecg")
    assert stream.load().equals(MultimodalData.concat([first, second]))


def test_modality_without_any_sample_in_the_first_shards_is_found(tmp_path):
    rows = {"a": np.ones((600, 1)), "b": np.full((600, 5), np.nan)}
    late = np.full((600, 5), np.nan)
    late[599] = 1
    MultimodalData.from_arrays(rows).to_parquet(tmp_path / "a.parquet")
    MultimodalData.from_arrays({**rows, "b": late}).to_parquet(tmp_path / "b.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    assert stream.schema.modality("b").channels == 5
    assert stream.load().present[:, 1].sum() == 1


def test_unique_ids_are_kept_and_per_file_numbers_replaced(parts, tmp_path):
    for part, name in zip(parts[:2], "ab", strict=True):
        ids = [f"{name}{i}" for i in range(len(part))]
        part.replace(ids=ids).to_parquet(tmp_path / f"{name}.parquet")
    assert MultimodalStream.from_parquet(tmp_path).load().ids[[0, 50]].tolist() == [
        "a0",
        "b0",
    ]
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    for part, name in zip(parts[:2], "ab", strict=True):
        part.replace(ids=part.ids + 5).to_parquet(shifted / f"{name}.parquet")
    assert MultimodalStream.from_parquet(shifted).load().ids[[0, 50]].tolist() == [5, 5]


def test_ids_of_a_named_column_are_kept(tmp_path):
    for number, ids in enumerate(([2, 0, 1], [1, 2, 0])):
        table = pa.table({"wbc": [0.0, 1.0, 2.0], "pid": ids, "y": [0, 1, 0]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    labs = {"labs": ["wbc"]}
    stream = MultimodalStream.from_parquet(tmp_path, modalities=labs, ids="pid")
    assert stream.load().ids.tolist() == [2, 0, 1, 1, 2, 0]
    for number in range(2):
        table = pa.table({"wbc": [0.0, 1.0, 2.0], "pid": [0, 1, 2], "y": [0, 1, 0]})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=2)
    stream = MultimodalStream.from_parquet(tmp_path, modalities=labs, ids="pid")
    assert stream.load().ids.tolist() == [0, 1, 2, 3, 4, 5]
    repeated = pa.table({"wbc": [0.0, 1.0, 2.0], "pid": [0, 0, 2], "y": [0, 1, 0]})
    pq.write_table(repeated, tmp_path / "1.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, modalities=labs, ids="pid")
    with pytest.raises(DataError, match="ids must be unique, got 0 again"):
        stream.load()


def test_files_without_samples_are_numbered_too(parts, tmp_path):
    for number, part in enumerate([parts[1][:0], parts[1], parts[1]]):
        part.to_parquet(tmp_path / f"{number}.parquet")
    ids = MultimodalStream.from_parquet(tmp_path).load().ids
    assert ids.tolist() == list(range(14))


@pytest.mark.filterwarnings("ignore:Column 'id' has repeated")
@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([[3, 1, 2], [6, 5, 4]], True),
        ([list("abc"), list("def")], True),
        ([[1, 1, 1], [1, 1, 1]], False),
        ([[1, 2, 3], [4, 4, 5]], False),
        ([[1, 2, 3], [4, None, 5]], False),
        ([[1, 2, 3], None], False),
        ([[[1], [2], [3]], [[4], [5], [6]]], False),
    ],
)
def test_column_id_of_foreign_files_is_read_only_where_it_holds_ids(
    tmp_path, ids, kept
):
    for number, column in enumerate(ids):
        columns = {"wbc": [0.0, 1.0, 2.0], "y": [0, 1, 0]}
        columns |= {} if column is None else {"id": column}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, modalities={"labs": ["wbc"]})
    expected = [name for column in ids for name in column] if kept else list(range(6))
    assert stream.load().ids.tolist() == expected
    if not kept:
        with pytest.raises(DataError, match=r"\.parquet: "):
            MultimodalStream.from_parquet(
                tmp_path, modalities={"labs": ["wbc"]}, ids="id"
            ).load()


def test_shuffled_chunks_hold_every_sample_once_in_another_order_each_epoch(narrow):
    ids = flat(ids_of(narrow.chunks(8, shuffle=True, seed=1, epochs=2)))
    assert sorted(ids[:90]) == sorted(ids[90:]) == list(range(90))
    assert ids[:90] != ids[90:]
    assert ids == flat(ids_of(narrow.chunks(8, shuffle=True, seed=1, epochs=2)))
    assert ids != flat(ids_of(narrow.chunks(8, shuffle=True, seed=2, epochs=2)))


def test_window_mixes_row_groups(data, tmp_path):
    """Files that are sorted by class still give windows of both classes."""
    for i in range(8):
        part = data[np.arange(10 * i, 10 * i + 10)].replace(y=np.full(10, i // 4))
        part.to_parquet(tmp_path / f"{i}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    stream = dataclasses.replace(stream, memory=16 * 40 * stream.row_bytes)
    means = [c.y.mean() for c in stream.chunks(40, shuffle=True, seed=3, epochs=4)]
    assert np.mean([0 < mean < 1 for mean in means]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_chunks_resume_at_their_position(narrow, shuffle):
    def start():
        return narrow.chunks(8, shuffle=shuffle, seed=1, epochs=2)

    all_ids = ids_of(start())
    for done in (0, 1, 2, 3, 7, len(all_ids) // 2, len(all_ids) - 1, len(all_ids)):
        first = start()
        for _ in range(done):
            next(first)
        second = start()
        second.load_state_dict(first.state_dict())
        assert ids_of(second) == all_ids[done:]


def test_finished_row_groups_are_not_read_again(folder, narrow):
    files = sorted(folder.iterdir())
    read = []
    source = dataclasses.replace(narrow.source)
    original = type(source).read

    class Counting(type(source)):
        def read(self, span, size):
            read.append(span.part)
            return original(self, span, size)

    fields = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    stream = dataclasses.replace(narrow, source=Counting(**fields))
    assert stream.schema  # looks at the beginning
    read.clear()
    chunks = stream.chunks(10)
    chunks.load_state_dict({"epoch": 0, "done": 60})
    assert next(chunks).ids[0] == 60
    assert read == [2]
    assert len(files) == 3


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_readers_share_the_samples(narrow, world_size):
    readers = [narrow.shard(rank, world_size) for rank in range(world_size)]
    for shuffle in (False, True):
        ids = [flat(ids_of(r.chunks(8, shuffle=shuffle))) for r in readers]
        assert sorted(flat(ids)) == list(range(90))
    sizes = [r.num_samples for r in readers]
    assert sum(sizes) == 90
    assert all(sizes)


def test_more_readers_than_samples_leave_some_without(narrow):
    spans = [shard_ranges([RowRange(0, 0, 2)], rank, 3)[0] for rank in range(3)]
    assert [s.stop - s.start for s in spans] == [0, 1, 1]
    endless = narrow.shard(0, 200).chunks(epochs=None)
    with pytest.raises(DataError, match="reader 0 must have at least one sample"):
        next(endless)
    assert list(narrow.shard(0, 200).chunks()) == []


def test_records_are_read_like_lists():
    records = [
        {"labs": [1.0, 2.0], "note": "ok", "wave": [1.0], "y": 0},
        {"labs": None, "wave": [1.0, 2.0], "wave.time": [0, 1], "y": 1},
        {"note": "bad", "y": None},
    ]
    names = {"labs": "labs", "note": "note", "wave": "wave"}
    records[0]["wave.time"] = [3.0]
    stream = MultimodalStream.from_iterable(records, modalities=names)
    whole = MultimodalData.from_arrays(
        {
            "labs": [[1.0, 2.0], None, None],
            "note": ["ok", None, "bad"],
            "wave": [[1.0], [1.0, 2.0], None],
        },
        times={"wave": [[3.0], [0, 1], None]},
        y=[0, 1, None],
    )
    assert stream.load().equals(whole)
    assert stream.num_samples is None
    assert flat(ids_of(stream.chunks(1))) == [0, 1, 2]
    ids = [flat(ids_of(stream.shard(r, 2).chunks(1, shuffle=True))) for r in (0, 1)]
    assert [sorted(i) for i in ids] == [[0, 2], [1]]


@pytest.mark.parametrize("key", [{}, {"y": "y"}])
@pytest.mark.parametrize("labels", [["a", "b"], [0, 1]])
def test_records_in_a_row_may_lack_labels(key, labels):
    some = [{"labs": [1.0, 2.0], "y": labels[i % 2]} for i in range(10)]
    records = [*some, *({"labs": [1.0, 2.0]} for _ in range(1200)), *some]
    stream = MultimodalStream.from_iterable(records, modalities={"labs": "labs"}, **key)
    for y in (stream.labels(), stream.load().y):
        assert y[:2].tolist() == y[-10:-8].tolist() == labels
        assert missing_labels(y[10:1210]).all()


def test_labels_must_occur_among_the_first_samples(monkeypatch):
    monkeypatch.setattr("mmgraph.data.stream.records.LABEL_SEARCH", 100)
    late = [{"labs": [1.0]}] * 150 + [{"labs": [1.0], "y": 1}] * 20
    stream = MultimodalStream.from_iterable(late, modalities={"labs": "labs"})
    message = r"samples must have the key 'y' among the first 100 .* Yield None where"
    with pytest.raises(DataError, match=message):
        stream.labels()
    explicit = [{"y": None, **record} for record in late]
    stream = MultimodalStream.from_iterable(explicit, modalities={"labs": "labs"})
    assert stream.labels()[[0, -1]].tolist() == pytest.approx([np.nan, 1], nan_ok=True)


def test_labels_that_a_shard_lacks_are_missing_there(tmp_path):
    labs = np.ones((40, 2))
    parts = [
        MultimodalData.from_arrays({"labs": labs}, y=y)
        for y in ([None] * 40, ["a", "b"] * 20, [None] * 40)
    ]
    for number, part in enumerate(parts):
        part.to_parquet(tmp_path / f"{number}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    expected = [None] * 40 + ["a", "b"] * 20 + [None] * 40
    assert MultimodalData.concat(parts).y.tolist() == expected
    assert stream.labels().tolist() == stream.load().y.tolist() == expected
    assert [len(chunk) for chunk in stream.chunks(60)] == [60, 60]
    fitted = FusionClassifier(epochs=1, experts=("linear",)).fit(stream)
    assert fitted.classes_.tolist() == ["a", "b"]


def test_records_may_come_from_a_function_and_several_keys():
    def read():
        return ({"a": i, "b": None if i else 1.0, "who": f"p{i}"} for i in range(5))

    stream = MultimodalStream.from_iterable(
        read, modalities={"both": ["a", "b"]}, ids="who"
    )
    loaded = stream.load()
    assert loaded.columns["both"].values[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert loaded.ids.tolist() == ["p0", "p1", "p2", "p3", "p4"]
    assert loaded.y is None
    again = stream.chunks(2)
    again.load_state_dict({"epoch": 0, "done": 2})
    assert flat(ids_of(again)) == ["p2", "p3", "p4"]


def test_one_of_several_keys_must_hold_numbers():
    def read(value):
        records = [{"a": 1.0, "b": 2.0}, {"a": value, "b": None}]
        names = {"both": ["a", "b"]}
        return MultimodalStream.from_iterable(records, modalities=names).load()

    assert read(pd.NA).columns["both"].present.tolist() == [True, False]
    for value in ("high", [1.0, 2.0], {}):
        with pytest.raises(DataError, match="Modality 'both' must hold numbers, got"):
            read(value)
    lists = [{"a": [1.0, 2.0], "b": [3.0, 4.0]}]
    stream = MultimodalStream.from_iterable(lists, modalities={"both": ["a", "b"]})
    with pytest.raises(DataError, match="Modality 'both' must hold numbers, got"):
        stream.load()


@pytest.mark.parametrize(
    ("option", "name"), [("y", "y"), ("ids", "id"), ("groups", "group")]
)
def test_named_keys_must_exist(option, name):
    records, labs = [{"labs": [1.0, 2.0], "age": 3}], {"labs": "labs"}
    stream = MultimodalStream.from_iterable(records, modalities=labs)
    assert stream.load().ids.tolist() == [0]
    for key in (name, "no"):
        stream = MultimodalStream.from_iterable(
            records, modalities=labs, **{option: key}
        )
        with pytest.raises(DataError, match=rf"have the key '{key}', got age, labs"):
            stream.load()


def test_sample_is_the_same_whatever_is_read_first(folder, narrow):
    wide = MultimodalStream.from_parquet(folder)
    one, two = (draw_sample(s, 30, seed=4) for s in (wide, narrow.shard(1, 2)))
    assert np.array_equal(one.keys, two.keys)
    assert one.data.equals(two.data)
    assert len(one.keys) == 30
    assert one.total == 90
    assert np.array_equal(one.data.ids, one.keys)
    other = draw_sample(wide, 30, seed=5)
    assert not np.array_equal(one.keys, other.keys)
    everything = draw_sample(wide, 90)
    assert everything.data.equals(wide.load())


def test_sample_keeps_rare_classes_and_whole_groups(data, tmp_path):
    y = np.zeros(90, int)
    y[[3, 77]] = 1
    data.replace(y=y).to_parquet(tmp_path / "a.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    sample = draw_sample(stream, 10, classes=True)
    assert sample.data.y.sum() == 2
    assert len(sample.keys) <= 10 + 2 * MIN_PER_CLASS
    groups = np.arange(90) // 9
    data.replace(groups=groups).to_parquet(tmp_path / "a.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    sample = draw_sample(stream, 30)
    chosen, counts = np.unique(sample.data.groups, return_counts=True)
    assert set(counts) == {9}
    assert len(chosen) == 3
    with pytest.raises(DataError, match="a group must have at most 5 samples"):
        draw_sample(stream, 5)


def test_hashes_are_uniform():
    share = hash_keys(np.arange(20_000), 0) / 2.0**64
    counts = np.histogram(share, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 2000).max() < 200
    assert not np.array_equal(hash_keys(np.arange(9), 0), hash_keys(np.arange(9), 1))


def test_errors_name_the_shard(folder, parts, tmp_path):
    for i, part in enumerate(parts):
        part.to_parquet(tmp_path / f"{i}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    assert stream.schema
    good = (tmp_path / "1.parquet").read_bytes()
    middle = len(good) // 10  # in a page; the footer has no checksum
    flipped = bytes([good[middle] ^ 255])
    (tmp_path / "1.parquet").write_bytes(good[:middle] + flipped + good[middle + 1 :])
    with pytest.raises(DataError, match=r"1\.parquet must be a readable Parquet file"):
        stream.load()
    (tmp_path / "1.parquet").write_bytes(good[:100])
    with pytest.raises(DataError, match=r"1\.parquet must be a readable Parquet file"):
        MultimodalStream.from_parquet(tmp_path)
    wide = MultimodalData.from_arrays({"labs": np.ones((4, 7))}, y=[0, 1, 0, 1])
    wide.to_parquet(tmp_path / "1.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    with pytest.raises(
        DataError, match=r"1\.parquet: .*'labs' must have 3 channels, got 7"
    ):
        stream.load()


def test_errors_inside_a_shard_name_it(tmp_path):
    pq.write_table(user_table(20), tmp_path / "a.parquet")
    table = user_table(20, 1)
    bad = table.set_column(0, "wbc", pa.array([np.inf] * 20))
    pq.write_table(bad, tmp_path / "b.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, modalities=FIELDS, y="died")
    with pytest.raises(DataError, match=r"b\.parquet: Modality 'labs' must be finite"):
        stream.load()
    pq.write_table(table.drop_columns(["died"]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: column 'died' must exist"):
        stream.load()


def test_invalid_arguments_are_errors(tmp_path, folder):
    with pytest.raises(DataError, match=r"must be a folder with files that end in"):
        MultimodalStream.from_parquet(tmp_path)
    with pytest.raises(DataError, match=r"must be a folder with files that end in"):
        MultimodalStream.from_parquet(tmp_path / "nothing")
    pq.write_table(user_table(20), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"a\.parquet: a table that mmgraph did not write"
    ):
        MultimodalStream.from_parquet(tmp_path)
    stream = MultimodalStream.from_parquet(folder)
    with pytest.raises(DataError, match="size must be at least 1 sample, got 0"):
        stream.chunks(0)
    with pytest.raises(DataError, match="rank must be from 0 to 1, got 2"):
        stream.shard(2, 2)
    names = {"a": "a"}
    with pytest.raises(DataError, match="an iterable that can be read again, or a"):
        MultimodalStream.from_iterable(iter([{"a": 1}]), modalities=names)
    numbers = MultimodalStream.from_iterable(lambda: ["ab"], modalities=names)
    with pytest.raises(DataError, match="samples 0 to 0: every sample must be a dict"):
        numbers.load()
    empty = MultimodalStream.from_iterable([], modalities=names)
    with pytest.raises(DataError, match="must have at least one sample, got none"):
        empty.load()
    with pytest.raises(DataError, match="must be a Dataset or IterableDataset"):
        MultimodalStream.from_huggingface({"train": []}, modalities=names)


def test_schema_that_is_given_is_kept(folder, data):
    schema = Schema.late(data.schema.modalities)
    stream = MultimodalStream.from_parquet(folder, schema=schema)
    assert stream.load().schema == schema
    assert stream.with_schema(data.schema).load().equals(data)
    wrong = Schema.star([Modality("labs", 9), *data.schema.modalities[1:]])
    with pytest.raises(DataError, match="'labs' must have 9 channels, got 3"):
        MultimodalStream.from_parquet(folder, schema=wrong).load()


@pytest.mark.slow
def test_reading_never_holds_all_samples(tmp_path):
    """The peak of NumPy's arrays, as tracemalloc counts them, is far below the set."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 512), dtype=np.float32)
    for start in range(0, 1000, 125):
        part = MultimodalData.from_arrays(
            {"x": x[start : start + 125]}, y=np.arange(125) % 2
        )
        part.to_parquet(tmp_path / f"{start:05}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, memory=x.nbytes)
    assert stream.schema
    peaks = []
    tracemalloc.start()
    try:
        for _ in stream.chunks(32, shuffle=True):
            pass
        draw_sample(stream, 25, classes=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        assert len(stream.load()) == 1000
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[0] < x.nbytes / 2
    assert peaks[1] > x.nbytes


def test_keys_of_records_that_are_used_by_their_names_are_listed_once():
    records = [
        {"labs": [0.1 * k], "id": k, "group": "h", "split": "train", "y": k % 2}
        for k in range(6)
    ]
    stream = MultimodalStream.from_iterable(records, modalities={"labs": "labs"})
    with pytest.warns(DataWarning, match="'group' as groups, 'split' as split_name"):
        assert stream.load().groups.tolist() == ["h"] * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(stream.chunks(2))
