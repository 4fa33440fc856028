"""Retrieval and matching in the benchmark: who is asked, and what counts."""

import json

import numpy as np
import pytest

from mmgraph import ConfigError, MultimodalData
from mmgraph.benchmark import datasets, pairs
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.models import make_pair_model, model_names
from mmgraph.benchmark.pairs import PAIR_TASKS, Direction, PairTask, score_pairs
from mmgraph.benchmark.protocol import Split, make_splits, scored_patterns
from mmgraph.benchmark.report import write_report
from mmgraph.benchmark.results import Results
from mmgraph.benchmark.run import choose_metric, run_bench
from mmgraph.benchmark.summary import summarise
from mmgraph.benchmark.tables import direction_tables, result_table
from mmgraph.config import BenchConfig
from mmgraph.errors import DataError
from mmgraph.metrics.scores import mean_scores

BOTH = (Direction(("image", "sound"), ("text",)), Direction(("text",), ("image",)))


def task(kind="retrieval", key="groups"):
    return PairTask(kind, "stamps", BOTH, key, "recall_at_10", "A note.")


def stamps(num=60) -> MultimodalData:
    """Return samples in pairs of one caption; the text is the same to the bit."""
    rng = np.random.default_rng(0)
    caption = np.arange(num) // 2
    cause = rng.normal(size=(num, 8))
    text = cause[caption]
    image = text + 0.05 * rng.normal(size=(num, 8))
    sound = text[:, :4] + 0.05 * rng.normal(size=(num, 4))
    present = np.ones((num, 3), dtype=bool)
    present[::3, 1] = False
    return MultimodalData.from_arrays(
        {"image": image, "sound": sound, "text": text},
        y=caption % 3,
        groups=np.array([f"caption {c}" for c in caption]),
        present=present,
    )


class Oracle:
    """Compares the columns that all modalities of `stamps` share."""

    def __init__(self, seed=0):
        self.asked = []

    def fit(self, data):
        return self

    def similarity(self, queries, gallery, source, target):
        self.asked.append((len(queries), len(gallery), tuple(source), tuple(target)))
        x, y = self._mean(queries, source), self._mean(gallery, target)
        found = -((x[:, None] - y[None]) ** 2).sum(2)
        return np.where(np.isnan(found), -np.inf, found)

    def _mean(self, data, names):
        rows = np.stack([data.features()[name][:, :4] for name in names])
        known = ~np.isnan(rows)
        total = np.where(known, rows, 0).sum(0)
        return np.where(known.any(0), total, np.nan) / np.maximum(known.sum(0), 1)


def test_right_entries_are_those_of_the_same_caption():
    test, model = stamps(), Oracle()
    found = score_pairs(model, task(), test, test, seed=0)
    assert found["image+sound to text"]["recall_at_1"] == 1
    assert found["text to image"]["map"] == 1
    assert list(found["text to image"]) == list(pairs.METRICS["retrieval"])


def test_equal_entries_count_once_and_the_gallery_stays_whole():
    test, model = stamps(), Oracle()
    removed = np.ones(test.shape, dtype=bool)
    removed[:20] = [True, False, False]
    score_pairs(model, task(), test, test.mask(removed), seed=0)
    assert model.asked == [
        (60, 30, ("image", "sound"), ("text",)),  # 30 texts that differ
        (20, 60, ("text",), ("image",)),  # 10 of 30 texts were removed
    ]


def test_query_that_lost_everything_is_not_asked():
    test, model = stamps(), Oracle()
    nothing = test.mask(np.zeros(test.shape, dtype=bool))
    found = score_pairs(model, task(), test, nothing, seed=0)
    assert model.asked == []
    assert np.isnan(found["text to image"]["recall_at_1"])
    half = {"a": {"x": 0.5, "y": np.nan}, "b": {"x": 0.7, "y": 0.2}}
    assert mean_scores(half) == pytest.approx({"x": 0.6, "y": 0.2})
    assert np.isnan(mean_scores(found)["map"])


def test_matching_tells_pairs_from_strangers():
    test = stamps()
    found = score_pairs(Oracle(), task("matching"), test, test, seed=0)
    for scores in found.values():
        assert scores["auroc_random"] > 0.95
        assert scores["auroc_hard"] > 0.9


def test_hard_pairs_are_harder_and_never_right(monkeypatch):
    test = stamps()
    blind = Oracle()
    noise = {"text": np.random.default_rng(0).normal(size=(60, 4))}
    blind._mean = lambda data, names: (
        data.features()[names[0]][:, :4] + noise.get(names[0], 0)
    )
    found = score_pairs(blind, task("matching"), test, test, seed=0)["text to image"]
    assert found["auroc_hard"] < found["auroc_random"]
    seen = []

    def watch(model, left, right, direction):
        seen.append((left.groups == right.groups).tolist())
        return np.arange(len(left), dtype=float)

    monkeypatch.setattr(pairs, "_scores_of_rows", watch)
    score_pairs(blind, task("matching"), test, test, seed=0)
    assert all(seen[0])
    assert not any(seen[1])
    assert not any(seen[2])


def test_matching_by_class_has_no_negative_of_the_same_class():
    test = stamps().replace(y=np.zeros(60))
    found = score_pairs(Oracle(), task("matching", "y"), test, test, seed=0)
    assert np.isnan(found["text to image"]["auroc_random"])


def test_model_may_judge_rows_itself():
    class Judge(Oracle):
        def match(self, left, right, source, target):
            return (left.groups == right.groups).astype(float)

    test = stamps()
    found = score_pairs(Judge(), task("matching"), test, test, seed=0)
    assert found["text to image"] == {"auroc_random": 1.0, "auroc_hard": 1.0}


def test_rows_are_matched_in_blocks(monkeypatch):
    test = stamps()
    expected = score_pairs(Oracle(), task("matching"), test, test, seed=0)
    monkeypatch.setattr(pairs, "BLOCK", 7)
    found = score_pairs(Oracle(), task("matching"), test, test, seed=0)
    assert found == expected


@pytest.fixture
def bench(monkeypatch):
    """A retrieval task on made-up stamps, with models that cost nothing."""

    facts = {"title": "Stamps", "grouped": True, "official": False}
    monkeypatch.setitem(PAIR_TASKS, "stamps-retrieval", task())
    monkeypatch.setitem(PAIR_TASKS, "stamps-matching", task("matching"))
    monkeypatch.setattr(datasets, "_open_named", lambda name: (stamps(), dict(facts)))
    monkeypatch.setattr(
        "mmgraph.benchmark.unit.make_pair_model", lambda name, task, seed: Oracle()
    )


def settings(tmp_path, *names, **options):
    options = {"missing": (0.0, 0.5), "folds": 2, "seeds": 2, "jobs": 1, **options}
    return BenchConfig(datasets=names, output=tmp_path, **options)


def test_groups_that_are_tested_were_never_seen(bench, tmp_path):
    config = settings(tmp_path, "stamps-retrieval", folds=4)
    opened = open_bench_data("stamps-retrieval", config)
    splits = make_splits(opened)
    assert len(splits) == 4
    for split in splits:
        groups = opened.data.groups
        assert not set(groups[split.train]) & set(groups[split.test])
        assert len(split.test) == pytest.approx(0.3 * 60, abs=2)
    assert {split.name for split in splits} == {"s0", "s1", "s2", "s3"}


def test_run_is_recorded_summarised_and_drawn(bench, tmp_path):
    config = settings(
        tmp_path, "stamps-retrieval", "stamps-matching", models=("cca", "two_tower")
    )
    outcome = run_bench(config)
    assert (outcome.failed, outcome.finished) == ((), 8)
    lines = Results(tmp_path).lines()
    assert {line["pattern"] for line in lines} == {"natural()", "mcar(0.5)"}
    assert all(set(line["directions"]) == set(map(str, BOTH)) for line in lines)
    assert run_bench(config).resumed == 8
    retrieval, matching = summarise(Results(tmp_path))
    assert retrieval.task == "retrieval"
    assert result_table(retrieval).columns == (
        *("model", "no extra removal", "0.5", "mean over rates", "fit s"),
    )
    first, _ = direction_tables(retrieval)
    assert first.title == "stamps-retrieval: image+sound to text"
    assert first.columns == (
        *("model", "Recall@1", "Recall@5", "Recall@10", "MRR", "mAP"),
    )
    assert len(first.rows) == 2
    assert direction_tables(matching)[0].columns[1:] == ("random pairs", "hard pairs")
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "stamps-retrieval: text to image" in page
    assert "from the 10 wrong sides" in page
    assert "AUROC of the presence mask" not in page
    assert "perfect calibration" not in page
    facts = map(json.loads, (tmp_path / "datasets.jsonl").read_text().splitlines())
    assert [f["task"] for f in facts] == ["retrieval", "matching"]


def test_queries_of_one_modality_are_scored_as_they_are(tmp_path):
    test = stamps()
    single = PairTask("retrieval", "s", BOTH[1:], "groups", "map", "")
    split = Split("s0", 0, np.arange(10), np.arange(10))
    patterns = scored_patterns(test, (0.0, 0.5), 3, split, single)
    assert [p.test_missing for p in patterns] == [0.0]
    patterns = scored_patterns(test, (0.0, 0.5), 3, split, task())
    assert [p.test_missing for p in patterns] == [0.0, 0.5, 0.5, 0.5]


def test_metric_must_be_one_of_the_task(bench, tmp_path):
    opened = open_bench_data("stamps-retrieval", settings(tmp_path))
    assert choose_metric(opened, "auto") == "recall_at_10"
    assert choose_metric(opened, "mrr") == "mrr"
    with pytest.raises(ConfigError, match=r"one of recall_at_1.*got 'auroc'"):
        choose_metric(opened, "auroc")


def test_models_of_another_task_are_told(bench, tmp_path):
    with pytest.raises(ConfigError, match="Model must be a known name, got 'late_log"):
        run_bench(settings(tmp_path, "stamps-retrieval", models=("late_logistic",)))


def test_every_task_names_what_its_data_have():
    from mmgraph.datasets import dataset_card

    for name, asked in PAIR_TASKS.items():
        card = dataset_card(asked.dataset)
        known = {modality.name for modality in card.modalities}
        for direction in asked.directions:
            assert {*direction.source, *direction.target} <= known, name
        assert asked.metric in pairs.METRICS[asked.kind]
        assert asked.key == "y" or card.group is not None
    assert model_names(task()) != model_names()
    for name in model_names(task()):
        assert hasattr(make_pair_model(name, task(), seed=0), "similarity")


@pytest.mark.slow
def test_default_estimators_are_asked_like_the_others():
    train, test = stamps(120)[:60], stamps(120)[60:]
    for kind in ("retrieval", "matching"):
        asked = PairTask(kind, "stamps", BOTH[:1], "groups", "map", "")
        model = make_pair_model("mmgraph", asked, seed=0).fit(train)
        [scores] = score_pairs(model, asked, test, test, seed=0).values()
        assert list(scores) == list(pairs.METRICS[kind])
        assert min(scores.values()) > 0.1


def test_whole_stamps_are_the_gallery_of_241_captions(tmp_path):
    try:
        opened = open_bench_data("tuxpaint-retrieval", settings(tmp_path))
    except DataError as error:
        pytest.skip(str(error))
    assert len(opened.data) == 949
    test = opened.data[make_splits(opened)[0].test]
    assert len(pairs.distinct(test, ["text"], opened.pairs)) == 241


def test_shared_content_counts_once_though_it_was_rounded_otherwise():
    test = stamps()
    shared = PairTask("retrieval", "s", BOTH, "groups", "map", "", shared=("text",))
    noise = 1 + 1e-5 * (np.arange(60, dtype=np.float32) % 2)[:, None]
    rounded = test.columns["text"].values * noise
    arrays = {"text": rounded, "image": test.columns["image"].values}
    other = MultimodalData.from_arrays(arrays, groups=test.groups)
    assert len(pairs.distinct(other, ["text"], task())) > 30
    assert pairs.distinct(other, ["text"], shared).tolist() == list(range(0, 60, 2))
    assert len(pairs.distinct(other, ["image"], shared)) == 60
