"""Which columns of a file of one's own a command reads, and what it lacks."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmgraph import (
    DataError,
    FusionClassifier,
    FusionRetriever,
    MultimodalData,
    MultimodalStream,
)
from mmgraph.cli import app
from mmgraph.workflows.saved_model import Columns

KINDS = {"labs": ["wbc", "crp"], "ecg": ["rate"]}
SUBSETS = "Samples have subsets of modalities"  # of another test
LABS, ECG = ("--modality", "labs=wbc,crp"), ("--modality", "ecg=rate")


def run(*arguments, code=0):
    """Run the command line; return what it printed, and what it told."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines(keepends=True)
    return result.stdout, "".join(line for line in lines if SUBSETS not in line)


@pytest.fixture(scope="module")
def frame():
    """A table of a user: 60 patients of six hospitals, two modalities, a label."""
    died = np.arange(60) % 2
    wbc, crp, rate = np.random.default_rng(0).normal(size=(3, 60)) + 2 * died
    plain = {"died": died, "who": [f"patient {i}" for i in range(60)]}
    measured = {"wbc": wbc, "crp": crp, "rate": rate}
    return pd.DataFrame({**measured, **plain, "place": np.arange(60) // 10})


@pytest.fixture(scope="module")
def here(frame, tmp_path_factory):
    """A folder with that table, one without labs, and models fitted in Python."""
    folder = tmp_path_factory.mktemp("reading")
    frame.to_parquet(folder / "icu.parquet")
    less = frame.drop(columns=["wbc", "crp"])
    less.to_parquet(folder / "less.parquet")
    frame.rename(columns={"wbc": "leuko", "crp": "c"}).to_parquet(
        folder / "new.parquet"
    )
    (folder / "parts").mkdir()
    less[:40].to_parquet(folder / "parts" / "0.parquet")
    less[40:].to_parquet(folder / "parts" / "1.parquet")
    arrays = {
        "labs": frame[["wbc", "crp"]].to_numpy(),
        "ecg": frame[["rate"]].to_numpy(),
    }
    data = MultimodalData.from_arrays(arrays, y=frame["died"].to_numpy())
    model = FusionClassifier(epochs=1, experts=("linear",)).fit(data)
    model.save_pretrained(folder / "python")
    kinds = {name: tuple(columns) for name, columns in KINDS.items()}
    columns = Columns("classification", "died", kinds, None, "who")
    columns.save(model, folder / "trained")
    pairs = FusionRetriever(epochs=1, members=1, hidden_channels=4, num_heads=1)
    pairs.fit(data.replace(y=None)).save_pretrained(folder / "retriever")
    return folder


NO_LABS = (
    "Notice: No column found for modality 'labs'; it is treated as missing. Map "
    "columns with --modality labs=COLUMN,...\n"
)
EMPTY_LABS = (
    "Modality 'labs' has no observed value in any sample; it is treated as missing."
)


def test_ids_are_optional_where_none_are_written(here, frame, tmp_path):
    frame.drop(columns="who").to_parquet(tmp_path / "icu.parquet")
    scores = [
        run("evaluate", here / "trained", folder / "icu.parquet")[0].splitlines()[1:]
        for folder in (tmp_path, here)
    ]
    assert scores[0] == scores[1]
    _, told = run("predict", here / "trained", tmp_path / "icu.parquet", code=2)
    assert "must hold the id column 'who'" in told


def test_a_modality_that_a_whole_file_lacks_is_told(here, tmp_path):
    model, z = here / "trained", tmp_path / "z.parquet"
    for file in (here / "less.parquet", here / "parts"):
        for words in (
            ["predict", model, file],
            ["evaluate", model, file],
            ["embed", file, "--model", model, "--output", z],
        ):
            _, told = run(*words)
            assert len(told.splitlines()) == 1
            assert told == NO_LABS
    two = (here / "retriever", here / "less.parquet", *ECG)
    _, told = run("evaluate", *two, code=2)
    assert told.startswith("Error: ")  # which says it all
    assert run("predict", model, here / "icu.parquet")[1] == ""
    _, told = run("evaluate", model, here / "icu.parquet")
    assert told.startswith("Notice: evaluate must get samples that were not used in")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_without_a_modality_changes_no_other_file(here, frame, tmp_path, order):
    parts = [frame[:40].drop(columns=["wbc", "crp"]), frame[40:]]
    for number, i in enumerate(order):
        parts[i].to_parquet(tmp_path / f"{number}.parquet")
    whole = frame.copy()
    whole.loc[:39, ["wbc", "crp"]] = np.nan
    whole.to_parquet(file := tmp_path.with_suffix(".parquet"))
    for words in (["predict"], ["evaluate"]):
        expected, notice = run(*words, here / "trained", file)
        found, same = run(*words, here / "trained", tmp_path)
        found = found.replace(str(tmp_path), str(file))
        assert sorted(found.splitlines()) == sorted(expected.splitlines())
        assert "'labs'" not in notice + same


def test_a_column_that_is_empty_throughout_is_told(here, frame, tmp_path):
    model, z = here / "trained", tmp_path / "z.parquet"
    empty = frame.assign(wbc=np.nan, crp=None)
    empty.to_parquet(tmp_path / "icu.parquet")
    parts = tmp_path / "parts"
    parts.mkdir()
    empty[:40].to_parquet(parts / "0.parquet")
    empty[40:].to_parquet(parts / "1.parquet")
    for file in (tmp_path / "icu.parquet", parts):
        line = f"Notice: {EMPTY_LABS}\n"
        for words in (
            ["predict", model, file],
            ["evaluate", model, file, "--missing", 0, 0.5],
            ["embed", file, "--model", model, "--output", z],
        ):
            assert run(*words)[1] == line
    frame[40:].to_parquet(parts / "1.parquet")  # some have it
    assert run("predict", model, parts)[1] == ""
    frame[:0].to_parquet(file := tmp_path / "none.parquet")  # nobody lacks it
    assert run("predict", model, file)[1] == ""
    wide = (here / "retriever", tmp_path / "icu.parquet", *LABS, *ECG)
    assert EMPTY_LABS in run("evaluate", *wide)[1]
    told = run("embed", wide[1], "--model", wide[0], *LABS, *ECG, "--output", z)[1]
    assert EMPTY_LABS in told


def test_a_retriever_that_lacks_a_modality_is_told(here, tmp_path):
    words = ("embed", here / "icu.parquet", "--model", here / "retriever")
    words = (*words, "--output", tmp_path / "z.npy")
    assert run(*words, *LABS)[1] == NO_LABS.replace("labs", "ecg")
    assert run(*words, *LABS, *ECG, "--only", "labs")[1] == ""  # as was asked for


def test_columns_are_given_to_a_model_that_was_fitted_in_python(here):
    asked = (here / "python", here / "icu.parquet")
    _, told = run("predict", *asked, code=2)
    assert "Give --modality labs=wbc,crp" in told
    stored = run("predict", here / "trained", here / "icu.parquet")
    assert run("predict", *asked, *LABS, *ECG, "--id", "who") == stored
    assert run("predict", *asked, *LABS, *ECG)[0].splitlines()[1].startswith("0,")
    scores, _ = run("evaluate", here / "trained", here / "icu.parquet")
    given, _ = run("evaluate", *asked, *LABS, *ECG, "--label", "died")
    assert given.splitlines()[1:] == scores.splitlines()[1:]
    _, told = run("evaluate", *asked, *LABS, *ECG, code=2)
    assert "must hold the label column 'y'" in told
    assert "by --label" in told
    said, told = run("evaluate", here / "retriever", here / "icu.parquet", *LABS, *ECG)
    assert "labs to ecg" in said
    assert told == ""


def test_columns_that_are_given_win_over_those_of_the_training(here):
    model, file = here / "trained", here / "new.parquet"
    expected = run("predict", model, here / "icu.parquet")
    assert run("predict", model, file)[1] == NO_LABS
    # the names of channels are those of the training; here the model has none
    assert run("predict", model, file, "--modality", "labs=leuko,c") == expected
    _, told = run("predict", model, file, *LABS, code=2)
    assert "must hold the modality column 'wbc', got leuko" in told
    for words in (["predict", model, file], ["evaluate", here / "retriever", file]):
        _, told = run(*words, "--modality", "lab=leuko,c", code=2)
        assert "--modality must name known modalities (labs, ecg), got 'lab'" in told


def test_a_folder_of_files_has_no_columns_to_give(here, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for words in (["predict", here / "python"], ["evaluate", here / "retriever"]):
        _, told = run(*words, tmp_path, *LABS, code=2)
        assert "must hold Parquet files to have columns, got --modality" in told


def test_a_table_in_csv_is_the_same_table(here, frame, tmp_path):
    file = tmp_path / "icu.csv"
    frame.to_csv(file, index=False)
    model = here / "trained"
    assert run("predict", model, file) == run("predict", model, here / "icu.parquet")
    less = tmp_path / "less.csv"
    frame.drop(columns=["wbc", "crp"]).to_csv(less, index=False)
    assert run("predict", model, less)[1] == NO_LABS
    said, _ = run("schema", file, *LABS, *ECG)
    assert "labs: vector, single, 2 channels" in said
    data = MultimodalData.from_parquet(file, modalities=KINDS, y="died", ids="who")
    assert data.ids[3] == "patient 3"


def test_the_case_of_an_ending_does_not_matter(here, frame, tmp_path):
    expected = run("predict", here / "trained", here / "icu.parquet")
    frame.to_csv(tmp_path / "A.CSV", index=False)
    frame.to_csv(tmp_path / "b.csv.gz", index=False)
    frame.to_csv(tmp_path / "B.CSV.GZ", index=False, compression="gzip")
    frame.to_parquet(tmp_path / "C.PARQUET")
    for name in ("A.CSV", "b.csv.gz", "B.CSV.GZ", "C.PARQUET"):
        assert run("predict", here / "trained", tmp_path / name) == expected
    parts = tmp_path / "parts" / "part.parquet"  # as Spark names folders
    parts.mkdir(parents=True)
    frame[:40].to_parquet(parts / "0.PARQUET")
    frame[40:].to_parquet(parts / "1.parquet")
    assert run("predict", here / "trained", parts.parent) == expected


def test_what_is_no_table_names_the_endings_of_tables(frame, tmp_path):
    frame.to_csv(tmp_path / "icu.tsv", sep="\t")
    with pytest.raises(DataError, match=r"Write it as \.parquet, \.csv, \.csv\.gz\."):
        MultimodalData.from_parquet(tmp_path / "icu.tsv", modalities=KINDS)
    (tmp_path / "icu.csv").write_text("x;who\n1;2;3\n")
    with pytest.raises(DataError, match=r"again, in UTF-8 .* with one separator"):
        MultimodalData.from_parquet(tmp_path / "icu.csv", modalities=KINDS)
    (tmp_path / "icu.csv").write_text("x,who\n1,José\n", encoding="latin-1")
    with pytest.raises(
        DataError,
        match=r"UTF-8 in line 2, after '1,Jos'\. Write.*'CSV UTF-8'",
    ):
        MultimodalData.from_parquet(tmp_path / "icu.csv", modalities={"a": ["x"]})
    (tmp_path / "icu.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"must be a readable CSV file, got .*again"):
        MultimodalData.from_parquet(tmp_path / "icu.csv.gz", modalities=KINDS)


def test_csv_is_not_streamed(here, frame, tmp_path):
    frame.to_csv(tmp_path / "a.csv", index=False)
    remedy = "into one CSV or Parquet file."
    asked = [
        ("predict", here / "trained", tmp_path),
        ("predict", here / "python", tmp_path, *LABS),
        ("train", tmp_path, *LABS, "--label", "died", "--output", tmp_path / "m"),
        ("evaluate", here / "trained", tmp_path),
        ("schema", tmp_path),
    ]
    for words in asked:
        assert run(*words, code=2)[1].rstrip().endswith(remedy)
    with pytest.raises(DataError, match=remedy):
        MultimodalStream.from_parquet(tmp_path, modalities=KINDS)
    with pytest.raises(DataError, match="must be Parquet to be streamed, got CSV"):
        MultimodalStream.from_parquet(tmp_path / "a.csv", modalities=KINDS)


def test_empty_cells_of_csv_are_missing_and_damage_is_told(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("x,note,y\n1.5,words,0\n,,1\n")
    kinds = {"a": ["x"], "note": "note"}
    data = MultimodalData.from_parquet(file, modalities=kinds, y="y")
    assert data.present.tolist() == [[True, True], [False, False]]
    many = "\n".join(f"{i},words words,1" for i in range(200_000))
    file.write_text(f"x,note,y\n{many}\n1.5,words,0\n")  # fractional at the end alone
    data = MultimodalData.from_parquet(file, modalities=kinds, y="y")
    assert float(data.columns["a"].values[-1, 0]) == 1.5
    file.write_text("x,y\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match="must be a readable CSV file, got CSV parse"):
        MultimodalData.from_parquet(file, modalities=kinds, y="y")
    file.write_text("")
    _, told = run("train", file, "--label", "y", "--output", tmp_path / "m", code=2)
    assert "a.csv must be a readable CSV file" in told


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_classes_with_unknown_labels_stay_integers(frame, tmp_path, ending):
    unknown = frame["died"].astype("Int64").mask(frame["place"] == 2)
    table, file = frame.assign(died=unknown), tmp_path / f"icu.{ending}"
    table.to_csv(file) if ending == "csv" else table.to_parquet(file)
    model, said = tmp_path / "model", tmp_path / f"said.{ending}"
    asked = ("train", file, *LABS, *ECG, "--label", "died", "--output", model)
    run(*asked, "--epochs", 1)
    run("predict", model, file, "--output", said)
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    answers = read(said)
    assert answers["prediction"].dtype == np.int64
    assert {"probability_0", "probability_1"} <= set(answers.columns)
    data = MultimodalData.from_pandas(table, KINDS, y="died")
    train, test = data.split(0.3, seed=0)
    fitted = FusionClassifier(epochs=1, experts=("linear",)).fit(train)
    assert fitted.classes_.dtype == fitted.predict(test).dtype == np.int64


@pytest.mark.slow
def test_a_folder_whose_labels_begin_late_is_fitted_to_what_they_are(frame, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    wide = pd.concat([frame] * 40, ignore_index=True).drop(columns="who")
    wide.assign(died=np.nan).to_parquet(parts / "0.parquet")
    wide.assign(died=wide["wbc"]).to_parquet(parts / "1.parquet")
    asked = ("train", parts, *LABS, *ECG, "--label", "died", "--epochs", 1)
    run(*asked, "--output", tmp_path / "model")
    assert Columns.load(tmp_path / "model").task == "regression"


BENCH = ("--models", "late_logistic", "--folds", 2, "--jobs", 1, "--missing", 0)


def test_a_table_of_a_user_is_benchmarked(here, tmp_path):
    asked = ("bench", here / "icu.parquet", *LABS, *ECG, "--label", "died")
    said, _ = run(*asked, *BENCH, "--output", tmp_path)
    assert "AUROC, 2 stratified folds" in said
    assert "(labs)" in said or "(ecg)" in said  # without which it is worst
    said, told = run(*asked, *BENCH, "--output", tmp_path)
    assert told == "2 units were already there.\n"
    said, told = run(*asked, "--group", "place", *BENCH, "--output", tmp_path)
    assert "AUROC, 2 grouped folds" in said
    assert "[2/2]" in told


def test_a_run_file_names_the_columns_of_a_bench(here, tmp_path):
    options = {"datasets": [str(here / "icu.parquet")], "label": "died"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**options, "modalities": KINDS}))
    run("bench", "--config", path, *BENCH, "--output", tmp_path / "out")
    line = json.loads((tmp_path / "out" / "runs.jsonl").read_text())
    assert line["options"]["modalities"] == KINDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "must hold the label column 'y', got wbc, crp, rate, died"),
        (("--label", "died"), "Give --modality labs=wbc,crp."),
        (("--label", "dead", *LABS), "rate, died, who, place. Did you mean 'died'? N"),
        (("--label", "died", "--modality", "a=x"), "must hold the modality column 'x'"),
        (("--label", "died", *LABS, "--group", "x"), "must hold the group column 'x'"),
        (("--label", "rate", *ECG), "'ecg' must not contain the label 'rate'"),
        (
            ("--label", "place", *LABS, "--modality", "where=place=2"),
            "'where' must not contain the label 'place'",
        ),
    ],
)
def test_columns_that_a_bench_cannot_use_are_told(here, tmp_path, options, message):
    asked = ("bench", here / "icu.parquet", *options, *BENCH)
    _, told = run(*asked, "--output", tmp_path, code=2)
    assert len(told.splitlines()) == 1
    assert message in told
    assert list(tmp_path.iterdir()) == []


def test_columns_go_with_a_file(tmp_path):
    _, told = run("bench", "heart", *LABS, "--output", tmp_path, code=2)
    assert "--modality must go with a Parquet or CSV file, got heart" in told


def test_a_folder_has_a_schema(here, tmp_path):
    said, _ = run("schema", here / "parts", *ECG)
    assert "ecg: vector, single, 1 channel" in said
    _, told = run("schema", here / "parts", code=2)
    assert "Give --modality labs=wbc,crp." in told
    (tmp_path / "a.txt").write_text("a")
    assert "text" in run("schema", tmp_path)[0]
    _, told = run("schema", here / "nowhere", code=2)
    assert "name must be one of" in told
