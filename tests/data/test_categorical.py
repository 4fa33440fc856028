"""Categorical columns hold codes, and estimators encode them as channels."""

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmgraph import (
    DataError,
    DataWarning,
    FusionClassifier,
    Modality,
    MultimodalData,
    Schema,
)
from mmgraph.baselines import LateLogistic
from mmgraph.cli.app import app
from mmgraph.data.categorical import resolve_column
from mmgraph.data.column import Column
from mmgraph.data.concat import concat_columns
from mmgraph.data.encoder import ChannelEncoder
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.serving.inputs import read_samples

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
    """Return the encoded channels of a modality of some columns, and its rows."""
    column = read(FRAME, *fields).columns["history"].encode()
    return column.names, column.values


@pytest.fixture(scope="module")
def model() -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(read())


# Reading


def test_cells_of_a_categorical_column_are_codes():
    column = read().columns["history"]
    assert column.names == ("age", "sex", "smokes")
    assert column.categories == (None, ("f", "m"), None)
    expected = [[np.nan, np.nan], [51, 0], [52, 1], [53, np.nan]]
    np.testing.assert_array_equal(column.values[:4, :2], expected)
    assert read().schema.modality("history").channels == 4
    assert read().features()["history"].shape == (NUM, 4)
    assert read().batch([1]).x["history"].tolist()[0][1:3] == [1, 0]
    assert read(FRAME, "age", "smokes").columns["history"].categories == ()


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


def test_channel_names_survive_round_trips(tmp_path):
    data = read()
    data.to_parquet(tmp_path / "own.parquet")
    again = MultimodalData.from_parquet(tmp_path / "own.parquet")
    assert again.columns["history"].equals(data.columns["history"])
    frame = data.to_pandas()
    fields = [f for f in frame.columns if f.startswith("history.")]
    assert frame["history.sex"].tolist()[1:3] == ["f", "m"]
    back = MultimodalData.from_pandas(frame, {"history": fields})
    assert back.columns["history"].equals(data.columns["history"])


def test_a_string_alone_is_text_or_one_categorical_column(tmp_path):
    """Few short strings that repeat are categories; a declared type decides."""
    frame = FRAME.assign(
        long=[("x" * 41, "y" * 41)[i % 2] for i in range(NUM)],
        once=[f"p{i}" for i in range(NUM)],
        declared=pd.Categorical([f"p{i}" for i in range(NUM)]),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    fields = {n: n for n in ("sex", "stage", "note", "long", "once", "declared")}
    data = MultimodalData.from_pandas(frame, fields)
    again = MultimodalData.from_parquet(
        tmp_path / "a.parquet", modalities=fields, y="died"
    )
    for columns in (data.columns, again.columns):
        text = [name for name, column in columns.items() if column.is_text]
        assert text == ["note", "long", "once"]
        assert columns["sex"].categories == (("f", "m"),)
        assert columns["sex"].equals(read(FRAME, "sex").columns["history"])


def test_a_schema_or_an_encoder_declares_text():
    schema = Schema.star([Modality("sex", kind="text")])
    data = MultimodalData.from_pandas(FRAME, {"sex": "sex"}).with_schema(schema)
    assert data.columns["sex"].values[:2].tolist() == ["f", "m"]
    numbers = MultimodalData.from_pandas(FRAME, {"sex": "age"}).with_schema(schema)
    assert numbers.columns["sex"].values[:2].tolist() == ["51", "52"]


def test_categories_are_read_where_the_training_had_text_and_vice_versa():
    fields = {"a": "note", "lab": ["crp"]}
    text = MultimodalData.from_pandas(FRAME, fields, y="died")
    repeated = MultimodalData.from_pandas(FRAME.assign(note="seen 1 times"), fields)
    assert not repeated.columns["a"].is_text
    model = FusionClassifier(**SMALL).fit(text)
    found = model.input_spec_.read(repeated).columns["a"].values
    expected = model.input_spec_.read(text[[1] * NUM]).columns["a"].values
    np.testing.assert_array_equal(found, expected)
    fields = {"a": "sex", "lab": ["crp"]}
    categories = MultimodalData.from_pandas(FRAME, fields, y="died")
    model = FusionClassifier(**SMALL).fit(categories)
    one = MultimodalData.from_pandas(FRAME[1:2], fields)
    assert one.columns["a"].is_text
    assert model.input_spec_.read(one).columns["a"].values.tolist() == [[1, 0]]


LONG = pd.DataFrame({"word": [f"word {i}" for i in range(65)], "x": range(65)})
DIGITS = pd.DataFrame({"code": pd.Categorical(["1.5", "2", None, "x"])})
ERRORS = [
    (LONG, ["x=a"], "got 'x=a', and column 'x' is numeric. Use 'x'"),
    (LONG, ["wrod=1"], "column 'wrod=1' must exist once"),
    (LONG.assign(y="a"), ["x", "y=a"], "must not hold the label 'y'"),
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


def test_columns_have_at_most_64_categories_in_training():
    data = MultimodalData.from_pandas(LONG, {"a": ["word", "x"]})
    with pytest.raises(DataError, match="at most 64 categories, got column 'word' of "):
        ChannelEncoder.fit("a", data.columns["a"])
    encoder = ChannelEncoder.fit("a", data[:64].columns["a"])
    assert len(encoder.names) == 65
    assert (
        encoder.transform("a", data[:64].columns["a"]).values[:, :64].sum() == 64
    ).all()


def test_selected_categories_are_compared_as_numbers():
    numbers = MultimodalData.from_pandas(LONG, {"a": ["x=1", "x"]}).columns["a"]
    assert numbers.values[:3, 0].tolist() == [0, 1, 0]
    codes = MultimodalData.from_pandas(DIGITS, {"a": ["code=2"]}).columns["a"]
    assert codes.values.ravel().tolist() == [0, 1, 0]


# Channels of the training data


def predict_strictly(model: FusionClassifier, frame: pd.DataFrame) -> np.ndarray:
    """Predict; a warning about the data is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        return model.predict_proba(read(frame))


def same_as(model: FusionClassifier, channels: Any) -> np.ndarray:
    """Predict from encoded channels of the history."""
    return model.predict_proba(
        MultimodalData.from_arrays({"history": channels, "lab": FRAME[["crp"]]})
    )


@pytest.fixture
def channels() -> np.ndarray:
    return read().columns["history"].encode().values.copy()


def test_channels_are_the_categories_of_the_training(model):
    assert model.channels_["history"] == ("age", "sex=f", "sex=m", "smokes")
    assert model.input_spec_.categories == {"history": {"sex": ("f", "m")}}
    women = read(FRAME[FRAME["sex"] != "m"])
    fitted = FusionClassifier(**SMALL).fit(women)
    assert fitted.channels_["history"] == ("age", "sex=f", "smokes")
    assert fitted.fit(read()[women.ids]).channels_ == fitted.channels_


def test_categories_that_do_not_occur_keep_their_channels(model):
    men = FRAME[FRAME["sex"] != "f"]
    expected = predict_strictly(model, FRAME)[men.index]
    np.testing.assert_allclose(predict_strictly(model, men), expected, atol=1e-6)


def test_a_column_that_is_null_throughout_is_missing(model, channels):
    channels[:, 1:3] = np.nan
    proba = predict_strictly(model, FRAME.assign(sex=None))
    np.testing.assert_allclose(proba, same_as(model, channels), atol=1e-6)


def test_unknown_categories_are_encoded_as_none_with_a_warning(model, channels):
    frame = FRAME.assign(sex=["x", "y", *SEX[2:]])
    with pytest.warns(DataWarning, match="lack: sex=x, sex=y. They are encoded as"):
        proba = model.predict_proba(read(frame))
    channels[:2, 1:3] = 0
    np.testing.assert_allclose(proba, same_as(model, channels), atol=1e-6)


@pytest.mark.parametrize("fields", [("age", "smokes"), ("smokes", "age", "sex=q")])
def test_an_absent_column_is_missing_with_one_warning(model, channels, fields):
    channels[:, 1:3] = np.nan
    data = read(FRAME, *fields)
    with pytest.warns(
        DataWarning, match="lacks columns of the training data: sex"
    ) as w:
        proba = model.predict_proba(data)
    assert len(w) == 1
    np.testing.assert_allclose(proba, same_as(model, channels), atol=1e-6)


def test_channels_of_categories_stand_for_their_column(model, channels):
    both = read(FRAME, "sex=m", "smokes", "sex=f", "age")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        expected = same_as(model, channels)
        np.testing.assert_allclose(model.predict_proba(both), expected, atol=1e-6)
    one = read(FRAME, "age", "sex=f", "smokes")  # not f does not imply m
    with pytest.warns(DataWarning, match="lacks .*: sex=m. Their cells are missing"):
        proba = model.predict_proba(one)
    channels[channels[:, 1] == 0, 2] = np.nan
    np.testing.assert_allclose(proba, same_as(model, channels), atol=1e-6)


def test_columns_stand_for_channels_that_are_named_by_their_categories(model):
    """Data sets that are stored one-hot take rows as a hospital writes them."""
    stored = replace(read(), columns={n: c.encode() for n, c in read().columns.items()})
    fitted = FusionClassifier(**SMALL).fit(stored)
    assert fitted.input_spec_.categories == {"history": {"sex": ("f", "m")}}
    expected = fitted.predict_proba(stored)
    np.testing.assert_allclose(predict_strictly(fitted, FRAME), expected, atol=1e-6)
    with pytest.warns(DataWarning, match="lack: sex=x"):
        fitted.predict_proba(read(FRAME.assign(sex=["x", *SEX[1:]])))


@pytest.mark.parametrize("extra", ["crp", "stage", "stage=II"])
def test_unknown_columns_are_errors(model, extra):
    data = read(FRAME, "age", "sex", "smokes", extra)
    with pytest.raises(DataError, match=rf"\(age, sex, smokes\), got {extra}. Rename"):
        model.predict_proba(data)


CODES = FRAME.assign(sex=np.where(SEX == "f", "1", "2"))
OTHER_FORMS = [[1.0, 2.0], [1, 2], ["1.0", "2.0"], ["1", "2"]]


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_numbers_and_strings_of_one_value_are_one_category(form):
    codes = CODES.assign(sex=pd.Categorical(CODES["sex"]))
    model = FusionClassifier(**SMALL).fit(read(codes, "age", "sex"))
    assert model.channels_["history"] == ("age", "sex=1", "sex=2")
    new = CODES.assign(
        sex=pd.Series(form)[(CODES["sex"] == "2").astype(int)].to_numpy()
    )
    expected = model.predict_proba(read(codes, "age", "sex"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*strings that are numbers", DataWarning)
        data = read(new, "age", "sex")
    np.testing.assert_allclose(model.predict_proba(data), expected, atol=1e-6)


def test_strings_are_read_as_numbers_where_the_training_has_numbers(model, channels):
    text = FRAME["age"].map("{:.1f}".format).where(FRAME["age"].notna(), None)
    text[1:4] = ["old", "old", "unknown"]
    frame = FRAME.assign(age=pd.Categorical(text))
    with pytest.warns(DataWarning, match=r"'age', got 'old' \(sample 1\), 'unkn") as w:
        proba = model.predict_proba(read(frame))
    assert len(w) == 1
    channels[1:4, 0] = np.nan
    np.testing.assert_allclose(proba, same_as(model, channels), atol=1e-6)


def test_numeric_columns_are_never_categories():
    frame = FRAME.assign(**{"a=1": FRAME["age"], "a=2": RNG.normal(size=NUM)})
    model = FusionClassifier(**SMALL).fit(read(frame, "a=1", "age"))
    with pytest.raises(DataError, match=r"\(a=1, age\), got a=2"):
        model.predict_proba(read(frame, "a=2", "age"))


def test_models_of_earlier_versions_know_categories_by_their_names(model, channels):
    content = model.input_spec_.to_json()
    del content["categories"]
    spec = InputSpec.from_json(content)
    assert spec == model.input_spec_
    column = spec.read(read()).columns["history"]
    np.testing.assert_array_equal(column.values, channels)


def test_the_categories_of_a_saved_description_are_checked(model):
    content = model.input_spec_.to_json()
    content["categories"] = {"history": {"sex": ["f", "x"]}}
    with pytest.raises(TypeError, match="categories of 'history' without a channel"):
        InputSpec.from_json(content)


def test_baselines_align_categories_in_the_same_way():
    data = read()
    fitted = LateLogistic().fit(data)
    men = FRAME[FRAME["sex"] != "f"]
    expected = fitted.predict_proba(data)[men.index]
    np.testing.assert_allclose(fitted.predict_proba(read(men)), expected, atol=1e-12)


def test_inputs_of_exported_models_are_aligned_in_the_same_way(model, channels):
    spec = InputSpec.from_json(model.input_spec_.to_json())
    data = read(FRAME.assign(sex=["x", *SEX[1:]]), "sex", "age")
    with pytest.warns(DataWarning) as caught:
        rows = read_samples(data, spec)["input.history"]
    texts = " ".join(str(w.message) for w in caught)
    assert "lacks columns of the training data: smokes" in texts
    assert "training data lack: sex=x" in texts
    channels[0, 1:3], channels[:, 3] = 0, np.nan
    np.testing.assert_array_equal(rows, channels)


# Concatenation


def test_concatenation_unites_categories_and_columns():
    parts = [read(FRAME[:10]), read(FRAME[10:20].assign(sex="x"), "age", "sex")]
    with pytest.warns(
        DataWarning, match="'history' lacks columns in some parts: smokes"
    ):
        data = MultimodalData.concat(parts)
    column = data.columns["history"]
    assert column.names == ("age", "sex", "smokes")
    assert column.categories == (None, ("f", "m", "x"), None)
    assert column.values[10:, 1].tolist() == [2] * 10
    assert np.isnan(column.values[10:, 2]).all()
    np.testing.assert_array_equal(
        column.values[:10], parts[0].columns["history"].values
    )


def test_wide_modalities_are_concatenated_in_linear_time():
    names = [f"g{i}" for i in range(20_000)]
    columns = [Column(np.ones((2, 20_000), "f4"), np.arange(3), names=tuple(names))]
    coded = np.zeros((2, 20_000), "f4")
    kinds = (("f", "m"), *[None] * 19_999)
    columns += [Column(coded, np.arange(3), names=tuple(names), categories=kinds)]
    for parts in ([columns[0]] * 4, [columns[1]] * 4):
        start = time.process_time()
        joined = concat_columns("genes", parts)
        assert time.process_time() - start < 3  # minutes if each name were searched
        assert joined.values.shape == (8, 20_000)
        assert joined.names == tuple(names)


def test_concatenation_of_numbers_and_categories():
    a, b = (
        MultimodalData.from_pandas(pd.DataFrame({"x": cells}), {"a": ["x"]})
        for cells in ([2.0, 10.0], pd.Categorical(["10", "b"]))
    )
    column = MultimodalData.concat([a, b]).columns["a"]
    assert column.categories == (("10", "2", "b"),)
    assert column.values.ravel().tolist() == [1, 0, 0, 2]
    c = MultimodalData.from_pandas(pd.DataFrame({"x": [1.5]}), {"a": ["x"]})
    with pytest.warns(DataWarning, match="got 'b' .*1.*. These cells are missing"):
        numbers = MultimodalData.concat([b, c, c, c]).columns["a"]
    assert numbers.values.ravel().tolist() == [10, 1.5, 1.5, 1.5]
    with pytest.raises(
        DataError, match=r"'x', got the number 1\.5 in one part and the c"
    ):
        MultimodalData.concat([b, c])


def test_fingerprints_depend_on_categories_not_on_codes():
    data = read()
    again = MultimodalData.concat([data[:3], data[3:]])
    assert again.fingerprint == data.fingerprint
    assert again.equals(data)
    men = read(FRAME.assign(sex="m"))
    assert men.fingerprint != read(FRAME.assign(sex="f")).fingerprint
    recoded = replace(
        data.columns["history"],
        categories=(None, ("e", "f", "m"), None),
        values=data.columns["history"].values + np.float32([0, 1, 0]),
    )
    other = replace(data, columns=data.columns | {"history": recoded})
    assert other.fingerprint == data.fingerprint
    assert recoded.equals(data.columns["history"])


# The command line


@pytest.mark.slow
def test_categories_on_the_command_line(tmp_path):
    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, result.output
        return result.output

    def rows(output: str) -> list[str]:
        return [line for line in output.splitlines() if not line.startswith("Notice")]

    file, model = tmp_path / "icu.csv", tmp_path / "model"
    FRAME.to_csv(file, index=False)
    chosen = ("--modality", "history=age,sex,stage=II", "--modality", "lab=crp")
    output = run(
        *("train", file, "--label", "died", *chosen),
        *("--output", model, "--epochs", 1),
    )
    assert "history: [N, 3] vector" in output
    new = tmp_path / "new.csv"
    FRAME.assign(sex="Female").to_csv(new, index=False)
    output = run("predict", model, new)
    assert output.count("Notice: ") == 1
    assert "categories that the training data lack: sex=Female" in output
    FRAME.drop(columns="stage").to_csv(new, index=False)
    output = run("predict", model, new)
    assert output.count("Notice: Modality 'history' lacks columns of the ") == 1
    assert "training data: stage. Their cells are missing." in output
    FRAME[["stage", "crp"]][:3].to_csv(new, index=False)
    assert "lacks columns of the training data: age, sex." in run("predict", model, new)
    held_out = tmp_path / "held_out.csv"
    FRAME[1:].to_csv(held_out, index=False)
    assert "Notice" not in run("evaluate", model, held_out)
    (folder := tmp_path / "folder").mkdir()
    FRAME[:7].to_parquet(folder / "a.parquet")
    FRAME[7:].drop(columns=["note", "crp"]).to_parquet(folder / "b.parquet")
    FRAME.assign(crp=FRAME["crp"].where(FRAME.index < 7)).to_csv(new, index=False)
    assert rows(run("predict", model, folder)) == rows(run("predict", model, new))
    trained = run(
        *("train", folder, "--label", "died", *chosen, "--modality", "s=sex"),
        *("--output", tmp_path / "other", "--epochs", 1),
    )
    assert "history: vector, single, 4 channels" in trained
    assert "s: vector, single, 2 channels" in trained
    assert len(run("predict", tmp_path / "other", folder).splitlines()) >= 41


@pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
def test_concatenated_frames_are_read_like_one(dtype):
    parts = [
        pd.DataFrame({"age": [1.0, 2.0], "sex": pd.Series(sexes, dtype=dtype)})
        for sexes in (["f", "m"], ["m", None])
    ]
    frame = pd.concat(parts, ignore_index=True)
    data = MultimodalData.from_pandas(frame, {"history": ["age", "sex"]})
    assert data.columns["history"].categories == (None, ("f", "m"))
    expected = [[1, 0], [2, 1], [1, 1], [2, np.nan]]
    np.testing.assert_array_equal(data.columns["history"].values, expected)
