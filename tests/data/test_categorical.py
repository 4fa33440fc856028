"""Categorical columns are one-hot encoded."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmgraph import (
    DataError,
    DataWarning,
    FusionClassifier,
    MultimodalData,
    MultimodalStream,
)
from mmgraph.cli.app import app
from mmgraph.data.categorical import resolve_column

pytestmark = pytest.mark.usefixtures("few_trees")

NUM = 40
RNG = np.random.default_rng(0)
SEX = np.array(["m", "f"], dtype=object)[RNG.integers(0, 2, NUM)]
STAGE = np.array(["II", "I", "III"], dtype=object)[np.arange(NUM) % 3]
SEX[:4], STAGE[:4] = [None, "f", "m", ""], ["I", "I", "II", None]
FRAME = pd.DataFrame(
    {
        "age": np.where(np.arange(NUM) < 1, np.nan, 50.0 + np.arange(NUM)),
        "sex": SEX,
        "stage": pd.Categorical(STAGE),
        "smokes": RNG.random(NUM) > 0.5,
        "crp": RNG.normal(size=NUM),
        "died": np.arange(NUM) % 2,
        "note": [f"seen {i} times" for i in range(NUM)],
    }
)
HISTORY = {"history": ["age", "sex", "smokes"], "lab": ["crp"]}
SMALL: dict[str, Any] = {"members": 2, "epochs": 1, "experts": ("linear",)}


def read(frame: pd.DataFrame = FRAME, *fields: str) -> MultimodalData:
    chosen = {"history": list(fields), "lab": ["crp"]} if fields else HISTORY
    return MultimodalData.from_pandas(frame, chosen, y="died")


def history(*fields: str) -> Any:
    """Return the channels of a modality of some columns, and its rows."""
    column = read(FRAME, *fields).columns["history"]
    return column.names, column.values


@pytest.fixture(scope="module")
def model() -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(read())


# Reading


def test_each_category_is_a_channel_and_null_is_missing():
    names, values = history("age", "sex", "smokes")
    assert names == ("age", "sex=f", "sex=m", "smokes")
    nan, smokes = np.nan, FRAME["smokes"].to_numpy(float)
    expected = [[nan, nan, nan], [51, 1, 0], [52, 0, 1], [53, nan, nan]]
    np.testing.assert_array_equal(values[:4, :3], expected)
    np.testing.assert_array_equal(values[:, 3], smokes)


def test_a_list_of_one_column_is_categorical():
    names, values = history("stage")
    assert names == ("stage=I", "stage=II", "stage=III")
    np.testing.assert_array_equal(values[:3], [[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert not read(FRAME, "stage").present[3, 0]  # nothing else is known
    assert read(FRAME, "stage").present[4, 0]


def test_one_category_may_be_selected():
    names, values = history("age", "sex=f", "stage=IV")
    assert names == ("age", "sex=f", "stage=IV")
    np.testing.assert_array_equal(values[:4, 1], [np.nan, 1, 0, np.nan])
    assert np.nansum(values[:, 2]) == 0
    assert np.isnan(values[3, 2])
    single = MultimodalData.from_pandas(FRAME, {"a": "sex=f"})
    assert single.columns["a"].names == ("sex=f",)


def test_a_column_of_just_this_name_comes_first():
    frame = FRAME.assign(**{"sex=f": np.arange(NUM, dtype=float)})
    column = read(frame, "sex=f", "age").columns["history"]
    np.testing.assert_array_equal(column.values[:, 0], np.arange(NUM))
    assert resolve_column("a=b=c", ["a", "a=b"]) == "a"
    assert resolve_column("x=y", ["a"]) == "x=y"


def test_a_column_without_any_category_is_missing():
    nothing = read(FRAME.assign(sex=None), "age", "sex").columns["history"]
    assert nothing.names == ("age", "sex")
    assert np.isnan(nothing.values[:, 1]).all()
    named = read(FRAME.assign(sex=None), "age", "sex=f").columns["history"]
    assert named.names == ("age", "sex=f")
    empty = read(FRAME.assign(sex=""), "age", "sex").columns["history"]
    assert np.isnan(empty.values[:, 1]).all()


def test_files_and_data_frames_agree(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.to_parquet(tmp_path / "a.parquet")
    for file in ("a.csv", "a.parquet"):
        found = MultimodalData.from_parquet(
            tmp_path / file, modalities={**HISTORY, "s": ["stage"]}, y="died"
        )
        assert found.columns["history"].equals(read().columns["history"])
        assert found.columns["s"].equals(read(FRAME, "stage").columns["history"])


def test_what_was_read_is_written_and_read_again(tmp_path):
    data = read()
    data.to_parquet(tmp_path / "own.parquet")
    again = MultimodalData.from_parquet(tmp_path / "own.parquet")
    assert again.columns["history"].equals(data.columns["history"])
    frame = data.to_pandas()
    fields = [f for f in frame.columns if f.startswith("history.")]
    assert fields[1] == "history.sex=f"
    back = MultimodalData.from_pandas(frame, {"history": fields})
    assert back.columns["history"].equals(data.columns["history"])


def test_a_string_alone_stays_text():
    data = MultimodalData.from_pandas(FRAME, {"sex": "sex"})
    assert data.columns["sex"].is_text


LONG = pd.DataFrame({"word": [f"word {i}" for i in range(65)], "x": range(65)})
DIGITS = pd.DataFrame({"code": ["1.5", "2", None, "x"]})
ERRORS = [
    (LONG, ["word"], "at most 64 categories, got column 'word' of 65 different str"),
    (LONG, ["word", "x"], "alone, as text: modalities={'word': 'word'}; or list the"),
    (LONG, ["x=1"], "got 'x=1', and column 'x' is numeric. Use 'x'"),
    (LONG, ["wrod=1"], "column 'wrod=1' must exist once"),
    (LONG.assign(y="a"), ["x", "y=a"], "must not hold the label 'y'"),
    (DIGITS, ["code"], "strings that are numbers, such as '1.5'. .* 'code=1.5'"),
]


@pytest.mark.parametrize(("frame", "fields", "message"), ERRORS)
def test_columns_that_are_not_categorical_are_errors(frame, fields, message, tmp_path):
    y = "y" if "y" in frame else None
    with pytest.raises(DataError, match=message):
        MultimodalData.from_pandas(frame, {"a": fields}, y=y)
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        MultimodalData.from_parquet(
            tmp_path / "a.parquet", modalities={"a": fields}, y=y
        )


def test_categories_up_to_the_limit_and_selected_codes_are_read():
    found = MultimodalData.from_pandas(LONG[:64], {"a": ["word"]}).columns["a"]
    assert found.channels == 64
    assert (found.values.sum(1) == 1).all()
    codes = MultimodalData.from_pandas(DIGITS, {"a": ["code=2"]}).columns["a"]
    assert codes.values.ravel().tolist() == [0, 1, 0]


# Streams


def test_streams_need_selected_categories(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    chosen = {"history": ["age", "sex=f"], "lab": ["crp"]}
    stream = MultimodalStream.from_parquet(tmp_path, modalities=chosen, y="died")
    whole = MultimodalData.concat(list(stream.chunks(7)))
    assert whole.columns["history"].equals(
        read(FRAME, "age", "sex=f").columns["history"]
    )
    unnamed = MultimodalStream.from_parquet(tmp_path, modalities=HISTORY, y="died")
    with pytest.raises(DataError, match=r"as 'sex=CATEGORY', when data are read piece"):
        next(unnamed.chunks(7))


# Channels of the training data


def predict_strictly(model: FusionClassifier, frame: pd.DataFrame) -> np.ndarray:
    """Predict; a warning about the data is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        return model.predict_proba(read(frame))


def test_categories_that_do_not_occur_keep_their_channels(model):
    men = FRAME[FRAME["sex"] != "f"]
    assert read(men).columns["history"].names == ("age", "sex=m", "smokes")
    expected = predict_strictly(model, FRAME)[men.index]
    np.testing.assert_allclose(predict_strictly(model, men), expected, atol=1e-6)


def test_a_column_that_is_null_throughout_is_missing(model):
    unknown = read().columns["history"].values.copy()
    unknown[:, 1:3] = np.nan
    same = MultimodalData.from_arrays({"history": unknown, "lab": FRAME[["crp"]]})
    proba = predict_strictly(model, FRAME.assign(sex=None))
    np.testing.assert_allclose(proba, model.predict_proba(same), atol=1e-6)


def test_unknown_categories_are_encoded_as_none_with_a_warning(model):
    frame = FRAME.assign(sex=["x", "y", *SEX[2:]])
    with pytest.warns(DataWarning, match="lack: sex=x, sex=y. They are encoded as"):
        proba = model.predict_proba(read(frame))
    neither = read().columns["history"].values.copy()
    neither[:2, 1:3] = 0
    same = MultimodalData.from_arrays({"history": neither, "lab": FRAME[["crp"]]})
    np.testing.assert_allclose(proba, model.predict_proba(same), atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        ("age", "sex=f", "smokes"),  # not f does not imply m
        ("age", "smokes"),
        ("age", "sex"),
        ("age", "sex", "smokes", "crp"),
        ("age", "sex", "smokes", "stage"),
    ],
)
def test_other_channels_are_errors(model, fields):
    with pytest.raises(DataError, match="must have the channels age, sex=f, sex=m, sm"):
        model.predict_proba(read(FRAME, *fields))


def test_numeric_columns_are_never_categories():
    frame = FRAME.assign(**{"a=1": 1.0, "a=2": RNG.normal(size=NUM)})
    model = FusionClassifier(**SMALL).fit(read(frame, "a=1", "age"))
    with pytest.raises(DataError, match="must have the channels a=1, age"):
        model.predict_proba(read(frame, "a=2", "age"))


# The command line


@pytest.mark.slow
def test_categories_on_the_command_line(tmp_path):
    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, result.output
        return result.output

    file, model = tmp_path / "icu.csv", tmp_path / "model"
    FRAME.to_csv(file, index=False)
    chosen = ("--modality", "history=age,sex,stage=II", "--modality", "lab=crp")
    output = run(
        *("train", file, "--label", "died", *chosen),
        *("--output", model, "--epochs", 1),
    )
    assert "history: [N, 4] vector" in output
    new = tmp_path / "new.csv"
    FRAME.assign(sex="Female").to_csv(new, index=False)
    output = run("predict", model, new)
    assert output.count("Notice: ") == 1
    assert "categories that the training data lack: sex=Female" in output
    FRAME.drop(columns="stage").to_csv(new, index=False)
    output = run("predict", model, new, code=2)
    assert "must hold the modality column 'stage=II'" in output
    assert "Notice" not in run("evaluate", model, file)
    (tmp_path / "folder").mkdir()
    FRAME.to_parquet(tmp_path / "folder" / "a.parquet")
    output = run("predict", model, tmp_path / "folder", code=2)
    assert "as 'sex=CATEGORY', when data are read piece by piece" in output
    named = ("--modality", "history=age,sex=f,sex=m,stage=II")
    assert len(run("predict", model, tmp_path / "folder", *named).splitlines()) == 41
