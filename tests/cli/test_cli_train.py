"""`mmgraph train` of a retriever and a matcher, from the shell to the answer."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import FusionMatcher, FusionRetriever, MultimodalData
from mmgraph.checkpoint import MANIFEST
from mmgraph.cli import app
from mmgraph.config import TrainConfig, build_config
from mmgraph.errors import ConfigError
from mmgraph.workflows.saved_model import Columns
from mmgraph.workflows.train import train_file

COLORS = ("red", "green", "blue", "white")


def run(*arguments, code=0) -> str:
    """Run the command line; return what it said."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output if code == 0 else result.stderr


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pictures(here):
    """24 pictures of four colours, named by a text beside all but four."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = here / "pictures"
    folder.mkdir()
    for i in range(24):
        color = COLORS[i % 4]
        image.new("RGB", (20 + i, 30), color).save(folder / f"{i}.png")
        if i >= 4:
            (folder / f"{i}.txt").write_text(f"a {color} thing", encoding="utf-8")
    return folder


@pytest.fixture
def table(here):
    """40 samples of two views of one number, in columns of a user's own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shape = np.random.default_rng(0).normal(size=(40, 3))
    columns = {f"a{i}": shape[:, i] for i in range(3)}
    columns |= {f"b{i}": -2 * shape[:, i] for i in range(3)}
    columns["a0"][::8] = columns["a1"][::8] = columns["a2"][::8] = np.nan
    names = [f"s{i}" for i in range(40)]
    pq.write_table(pa.table({**columns, "name": names}), here / "table.parquet")
    return here / "table.parquet"


MODALITIES = ("--modality", "a=a0,a1,a2", "--modality", "b=b0,b1,b2", "--id", "name")


@pytest.mark.slow
def test_pictures_are_trained_on_indexed_and_found_by_words(pictures):
    said = run("train", "pictures", "--task", "retrieval", "--output", "retriever")
    assert "text: [N] text, 17% missing" in said
    assert said.splitlines()[-1] == "Model: retriever"
    run("index", "pictures", "--model", "retriever", "--output", "found")
    said = run("search", "a blue thing", "--index", "found", "--top", "6")
    found = [int(line.split()[1]) for line in said.splitlines()[2:8]]
    assert {COLORS[i % 4] for i in found} == {"blue"}
    assert 2 in found  # which has no text


@pytest.mark.slow
def test_a_matcher_of_a_table_says_what_belongs_together(table, here):
    sides = ("--task", "matching", "--left", "a", "--right", "b")
    run("train", table, *sides, *MODALITIES, "--output", "matcher")
    assert isinstance(FusionMatcher.from_pretrained("matcher"), FusionMatcher)
    lines = run("predict", "matcher", table).splitlines()
    assert lines[0] == "id,match,probability"
    said = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in said] == [f"s{i}" for i in range(40)]
    match = np.array([row[1] == "true" for row in said])
    probability = np.array([float(row[2]) for row in said])
    assert np.array_equal(match, probability > 0.5)
    both = np.arange(40) % 8 > 0
    assert (probability[~both] == 0.5).all()
    assert match[both].mean() > 0.9
    random = run("evaluate", "matcher", table).splitlines()[2].split()
    assert random[:3] == ["0", "random", "70"]
    assert float(random[3]) > 0.9


@pytest.mark.slow
def test_a_folder_of_tables_trains_the_same_retriever(table, here):
    kinds = {"a": ["a0"], "b": ["b0", "b1"]}
    (here / "parts").mkdir()
    (here / "parts" / "0.parquet").write_bytes(table.read_bytes())
    found = []
    for file, output in ((table, here / "one"), (here / "parts", here / "two")):
        asked = {"task": "retrieval", "modalities": kinds, "output": output}
        trained = train_file(build_config(TrainConfig, asked | {"file": file}))
        assert trained.resumed == 0
        assert Columns.load(output).label is None
        ret = FusionRetriever.from_pretrained(output)
        data = MultimodalData.from_parquet(table, y=None, modalities=kinds)
        found.append(ret.embed(data))
    assert np.array_equal(found[0], found[1], equal_nan=True)
    assert "got retrieval" in run("predict", "one", table, code=2)


@pytest.mark.slow
def test_level_of_fusion_is_an_option(table, here, few_trees):
    options = ("--level", "data", "--modality", "b=b0,b1,b2", "--output", "m")
    run("train", table, "--label", "a0", *options)
    text = (here / "m" / MANIFEST).read_text("utf-8")
    assert json.loads(text)["params"]["level"] == "data"


@pytest.fixture
def labeled(here, monkeypatch):
    """Files of 60 and 40 samples with labels, of five and four groups."""
    monkeypatch.setattr("mmgraph.evaluation.scoring.RESAMPLES", 20)
    for name, num in (("a", 60), ("b", 40)):
        y = np.arange(num) % 2
        x = np.random.default_rng(num).normal(size=(2, num)) + y
        lines = [f"{x[0, i]},{x[1, i]},{y[i]},{i // 12}" for i in range(num)]
        text = "\n".join(["p,q,died,site", *lines])
        (here / f"{name}.csv").write_text(text, encoding="utf-8")
    return here


TRAIN = ("train", "a.csv", "--label", "died", "--output", "m", "--epochs", "1")
COLUMNS = ("--modality", "p=p", "--modality", "q=q")


def test_scores_of_another_file_are_those_of_evaluate(labeled, few_trees):
    told = run(*TRAIN, *COLUMNS, "--test", "b.csv")
    assert "MultimodalData: 60 samples" in told
    assert "Scores on 40 samples that were held out" in told
    scores = run("evaluate", "m", "b.csv", "--intervals", "--missing", 0)
    assert scores.count("95% CI") > 1
    assert told.splitlines()[-2:] == scores.splitlines()[-2:]


def test_a_share_is_held_out_with_whole_groups(labeled, few_trees):
    told = run(*TRAIN, *COLUMNS, "--group", "site", "--test", 0.2)
    assert "MultimodalData: 48 samples" in told
    assert "Scores on 12 samples that were held out" in told


def test_a_test_file_that_cannot_be_scored_leaves_the_model(labeled, few_trees):
    text = (labeled / "b.csv").read_text("utf-8").replace(",1,", ",2,")
    (labeled / "c.csv").write_text(text, encoding="utf-8")
    told = run(*TRAIN, *COLUMNS, "--test", "c.csv", code=2)
    assert "must be classes of the training data, [0, 1], got 2" in told
    run("evaluate", "m", "b.csv")


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (1.5, "test must be a share between 0 and 1, or a file, got 1.5"),
        (0, "test must be a share between 0 and 1"),
        ("a.csv", "--test must be samples that are not trained on, got the training f"),
        ("c.csv", "file must exist, got 'c.csv'"),
    ],
)
def test_samples_to_test_are_checked_before_the_training(labeled, test, message):
    assert message in run(*TRAIN, *COLUMNS, "--test", test, code=2)
    assert not (labeled / "m").exists()


@pytest.mark.slow
def test_aligned_modalities_are_those_that_were_named(table, here):
    halves = ("--modality", "a=b0", "--modality", "b=b1")
    for names in ("a,b", ""):
        asked = ("--task", "retrieval", "--aligned", names, "--output", "ret")
        run("train", table, *asked, *halves)
        space = FusionRetriever.from_pretrained(here / "ret").model_.space
        assert space.aligned.aligned == (bool(names), bool(names))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "retrieval", "--modality", "a=a0"), "samples with two modalities"),
        (("--task", "matching", *MODALITIES), "left and right are required"),
        (
            ("--task", "matching", "--left", "a", "--right", "c", *MODALITIES),
            r"must name known modalities (a, b), got 'c'",
        ),
        (
            ("--task", "matching", "--left", "a", "--right", "a", *MODALITIES),
            "no modality in common, got 'a' on both",
        ),
        (("--task", "retrieval", "--left", "a", *MODALITIES), "are sides of matching"),
        (
            ("--task", "retrieval", "--aligned", "a,c", *MODALITIES),
            "--aligned must name none or at least two different modalities, of a, b",
        ),
        (
            ("--label", "y", "--aligned", "a,b", *MODALITIES),
            "are compared by retrieval and matching, got task 'auto'",
        ),
        (
            ("--task", "retrieval", "--level", "model", *MODALITIES),
            "level must be all for task 'retrieval', got 'model'",
        ),
        (
            ("--label", "y", "--level", "late", *MODALITIES),
            "level must be 'all', 'data', 'feature' or 'model'",
        ),
        (("--task", "search", *MODALITIES), "task must be 'auto', 'classification'"),
        (MODALITIES, "label is required, got nothing; only --task retrieval"),
    ],
)
def test_a_mistake_is_told_in_one_line(table, here, options, message):
    said = run("train", table, *options, "--output", "out", code=2)
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (here / "out").exists()


@pytest.mark.parametrize("option", ["--label", "--group", "--id"])
def test_a_folder_of_pictures_has_no_columns(here, option):
    (here / "pictures").mkdir()
    (here / "pictures" / "a.txt").write_text("a")
    options = ("--task", "retrieval", "--output", "out", option, "y")
    said = run("train", "pictures", *options, code=2)
    assert f"must hold Parquet files to have columns, got {option}" in said


def test_pairs_are_learned_in_one_process(table, monkeypatch):
    from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup

    class Two(ProcessGroup):
        def run_on_all(self, action):
            return action()

    monkeypatch.setattr(
        "mmgraph.workflows.train.init_process_group",
        lambda: Two(SINGLE_PROCESS.rank, 2),
    )
    config = build_config(
        TrainConfig, {"file": table, "task": "retrieval", "output": table.parent}
    )
    with pytest.raises(ConfigError, match=r"in one process, got 2\. Start it"):
        train_file(config)


@pytest.fixture
def cohort(here):
    """60 patients with an event and its time, and two modalities of two columns."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(60, 4))
    time = rng.exponential(np.exp(-cells[:, 0] - cells[:, 2])) + 0.01
    died = (rng.random(60) < 0.7).astype(float)
    table = np.column_stack([cells, died, time])
    names = "crp,wbc,rate,qt,died,days"
    np.savetxt(here / "cohort.csv", table, delimiter=",", header=names, comments="")
    return here / "cohort.csv"


COHORT = ("--modality", "labs=crp,wbc", "--modality", "ecg=rate,qt")
SURVIVAL = ("--label", "died", "--time", "days", *COHORT)


@pytest.mark.slow
def test_survival_is_trained_scored_and_predicted(cohort):
    options = (*SURVIVAL, "--level", "model", "--test", 0.3, "--output", "out")
    printed = run("train", cohort, *options)
    assert "Task: survival\nOut-of-fold concordance index: 0." in printed
    assert "Scores on 18 samples that were held out" in printed
    assert "concordance index  integrated brier score" in printed
    assert Columns.load(cohort.parent / "out").target == ("died", "days")
    assert "integrated brier score" in run("evaluate", "out", cohort)
    message = run("evaluate", "out", cohort, "--threshold", 0.5, code=2)
    assert "--threshold must go with a classifier of two classes, got Fusion" in message
    assert "log score" in run("contributions", "out", cohort)
    lines = run("predict", "out", cohort).splitlines()
    assert lines[0] == "id,prediction"
    assert len(lines) == 61
    message = run("predict", "out", cohort, "--conformal", cohort, code=2)
    assert "--conformal must go with a classifier or regressor, got a Fus" in message
    replaced = ("--label", "died", *COHORT, "--output", "out")
    assert "a model of survival with another task" in run(
        "train", cohort, *replaced, code=2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--label", "died", "--time", "years", *COHORT),
            "must hold the time column 'years'",
        ),
        (
            (*SURVIVAL, "--task", "regression"),
            "time must go with survival, got task 'regression'",
        ),
        (
            ("--label", "died", "--time", "crp", *COHORT),
            "time must not be the label or in a modality, got 'crp'",
        ),
        (
            ("--label", "days", "--time", "died", *COHORT),
            "event must be 0 (censored) or 1 (observed), got",
        ),
        (
            ("--label", "died", "--task", "survival", *COHORT),
            "Name two columns by --label EVENT --time TIME.",
        ),
    ],
)
def test_a_mistake_in_survival_is_one_line(cohort, here, options, message):
    printed = run("train", cohort, *options, "--output", "out", code=2)
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_the_help_names_the_number_of_classes():
    from mmgraph.data.targets import MAX_WHOLE_CLASSES

    help_text = " ".join(CliRunner().invoke(app, ["train", "--help"]).output.split())
    assert f"more than {MAX_WHOLE_CLASSES} whole" in help_text
