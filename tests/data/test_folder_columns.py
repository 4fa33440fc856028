"""Files of one folder may differ in columns, categories and types."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgraph import (
    DataError,
    DataWarning,
    FusionClassifier,
    MultimodalData,
    MultimodalStream,
)

NUM = 24
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": 50.0 + np.arange(NUM),
        "sex": np.array(["m", "f", None, "m"], dtype=object)[np.arange(NUM) % 4],
        "rate": RNG.normal(size=NUM),
        "note": [f"seen {i} times, then sent home" for i in range(NUM)],
        "died": np.arange(NUM) % 2,
        "id": [f"p{i}" for i in range(NUM)],
    }
)

MODALITIES = {"history": ["age", "sex"], "ecg": ["rate"], "note": "note"}
SMALL = {"members": 1, "epochs": 1, "experts": ("linear",)}


@pytest.fixture
def write(tmp_path):
    """Write frames as the files of a folder, and return it."""

    def write(*frames: pd.DataFrame) -> Path:
        folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, frame in enumerate(frames):
            frame.to_parquet(folder / f"site{number}.parquet")
        return folder

    return write


def memory(frame: pd.DataFrame = FRAME) -> MultimodalData:
    return MultimodalData.from_pandas(frame, MODALITIES, y="died", ids="id")


def stream(folder: Path, modalities=MODALITIES, ids="id") -> MultimodalStream:
    columns = {"modalities": modalities, "y": "died", "ids": ids}
    return MultimodalStream.from_parquet(folder, **columns)


def by_id(data: MultimodalData, name: str) -> list:
    """Return the cells of each sample by id: strings for categories."""
    column = data.columns[name]
    frame = data.replace(y=None).select([name]).to_pandas()
    frame = frame.set_index("id").sort_index()
    assert len(column) == len(frame)
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def test_a_stream_learns_categories_from_all_files(write):
    women, others = FRAME[FRAME["sex"] == "f"], FRAME[FRAME["sex"] != "f"]
    folder = write(others[["sex", "note", "age", "id", "rate", "died"]], women)
    opened = stream(folder)
    assert opened.schema.modality("history").channels == 3
    for size in (1, 7, 100):
        parts = list(opened.chunks(size, shuffle=size == 7))
        assert {p.columns["history"].categories for p in parts} == {(None, ("f", "m"))}
        data = MultimodalData.concat(parts)
        for name in MODALITIES:
            assert by_id(data, name) == by_id(memory(), name)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_without_a_modality_lacks_it_and_changes_no_other(write, order):
    parts = [FRAME[:10].drop(columns=["rate", "note"]), FRAME[10:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = stream(write(*(parts[i] for i in order))).load()
    expected = memory().mask({n: np.arange(NUM) >= 10 for n in ("ecg", "note")})
    for name in MODALITIES:
        assert by_id(data, name) == by_id(expected, name)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_column_that_a_file_lacks_is_missing_there(write, order):
    parts = [FRAME[:10].drop(columns="sex"), FRAME[10:]]
    folder = write(*(parts[i] for i in order))
    message = rf"'history' lacks the column 'sex' in site{order.index(0)}.parquet\. Its"
    with pytest.warns(DataWarning, match=message) as caught:
        data = stream(folder).load()
    assert len(caught) == 1
    assert by_id(data, "history") == by_id(
        memory(FRAME.assign(sex=FRAME["sex"].where(np.arange(NUM) >= 10, None))),
        "history",
    )


def test_a_column_that_no_file_has_is_an_error(write):
    folder = write(FRAME[:10], FRAME[10:])
    with pytest.raises(DataError, match="column 'sax' must exist in some file, got no"):
        stream(folder, {"history": ["age", "sax"]})


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_numbers_in_one_file_are_the_categories_of_another(write, order):
    codes = FRAME["sex"].map({"f": "1", "m": "2"})
    parts = [
        FRAME[:10].assign(sex=codes[:10].astype(float)),
        FRAME[10:].assign(sex=pd.Categorical(codes[10:].where(codes.notna(), "x"))),
    ]
    data = stream(write(*(parts[i] for i in order))).load()
    column = data.columns["history"]
    assert column.categories == (None, ("1", "2", "x"))
    cells = dict(zip(sorted(data.ids), by_id(data, "history"), strict=True))
    assert [cells[f"p{i}"][1] for i in (0, 1, 13, 14)] == ["2", "1", "1", "x"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_of_cells_that_stand_for_missing_ones_is_missing(write, order):
    parts = [FRAME[:10].assign(age="n/a", note=7), FRAME[10:]]
    folder = write(*(parts[i] for i in order))
    with pytest.warns(
        DataWarning, match="numbers in column 'age', got 'n/a' .sample 0"
    ):
        data = stream(folder).load()
    column = data.columns["history"]
    assert column.categories == (None, ("f", "m"))
    assert np.isnan(column.values[:, 0]).sum() == 8  # of 10, two know nothing else
    assert data.columns["note"].values.tolist().count("7") == 10


def test_what_the_first_samples_do_not_show_is_kept(write):
    """A column that is null at first has no kind, and new categories are added."""
    first = FRAME.assign(sex=None, rate=np.nan)
    late = pd.concat([FRAME] * 5, ignore_index=True).assign(sex="new")
    late["id"] = [f"q{i}" for i in range(len(late))]
    folder = write(pd.concat([first, first.assign(id=FRAME["id"] + "b")] * 2))
    data = stream(folder, ids=None).load()
    assert data.columns["history"].categories == ()
    frame = pd.concat([first, first, first, late, FRAME], ignore_index=True)
    parts = stream(write(frame), ids=None).chunks(16)
    data = MultimodalData.concat(list(parts))
    column = data.columns["history"]
    assert column.categories == (None, ("f", "m", "new"))
    assert np.isnan(column.values[: 3 * NUM, 1]).all()
    assert (column.values[3 * NUM : 8 * NUM, 1] == 2).all()


def test_files_of_mmgraph_keep_the_names_of_channels(tmp_path):
    parts = [memory(FRAME[:10]), memory(FRAME[10:].assign(sex="x"))]
    swapped = MultimodalData.from_pandas(
        FRAME[10:].assign(sex="x"), MODALITIES | {"history": ["sex", "age"]}, y="died"
    )
    parts[0].to_parquet(tmp_path / "0.parquet")
    swapped.replace(ids=parts[1].ids).to_parquet(tmp_path / "1.parquet")
    opened = MultimodalStream.from_parquet(tmp_path)
    data = opened.load()
    assert data.columns["history"].categories == (None, ("f", "m", "x"))
    expected = MultimodalData.concat(parts)
    assert by_id(data, "history") == by_id(expected, "history")


def test_models_of_a_stream_equal_those_of_data_in_memory(write):
    folder = write(FRAME[:10], FRAME[10:])
    fitted = FusionClassifier(**SMALL).fit(stream(folder))
    in_memory = FusionClassifier(**SMALL).fit(memory())
    assert fitted.channels_ == in_memory.channels_
    new = write(FRAME.drop(columns="sex"))
    fields = MODALITIES | {"history": ["age"]}
    with pytest.warns(DataWarning, match="lacks columns of the training data: sex"):
        proba = fitted.predict_proba(stream(new, fields))
    nothing = memory(FRAME.assign(sex=None))
    np.testing.assert_allclose(proba, in_memory.predict_proba(nothing), atol=1e-6)


def test_strings_of_single_pieces_are_those_of_the_training(write):
    """Digits are no numbers where the training has categories or text."""

    def declared(frame):
        return memory(frame.assign(sex=pd.Categorical(frame["sex"])))

    frame = FRAME.assign(sex=FRAME["sex"].map({"f": "01", "m": "x"}).fillna("2"))
    model = FusionClassifier(**SMALL).fit(declared(frame))
    new = frame.assign(sex="01", note="seen 7 times, then sent home")
    expected = model.predict_proba(declared(new))
    opened = model.input_spec_.read_stream(stream(write(new)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = model.predict_proba(opened)
    np.testing.assert_allclose(proba, expected, atol=1e-6)


# Records


def test_records_have_categories_and_names():
    records = FRAME.to_dict("records")
    fields = {"history": ["age", "sex"], "ecg": ["rate", "sex=f"]}
    opened = MultimodalStream.from_iterable(records, modalities=fields, y="died")
    data = MultimodalData.concat(list(opened.chunks(5)))
    expected = MultimodalData.from_pandas(FRAME, fields)
    for name in fields:
        assert by_id(data, name) == by_id(expected.replace(ids=FRAME["id"]), name)
    assert data.columns["history"].names == ("age", "sex")
