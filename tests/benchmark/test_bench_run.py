"""The benchmark: same data for all, complete lines, resuming, failures."""

import json
import lzma
import mmap
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmgraph.benchmark.class_curves import (
    confusion_counts,
    reliability_counts,
    roc_values,
)
from mmgraph.benchmark.corruptions import check_corruption, corruptions_of
from mmgraph.benchmark.cost import Cost
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.executor import in_pool
from mmgraph.benchmark.models import model_names
from mmgraph.benchmark.protocol import (
    Scheme,
    Unit,
    make_splits,
    modality_subsets,
)
from mmgraph.benchmark.provenance import read_commit, read_versions
from mmgraph.benchmark.results import Results, append_lines, read_lines
from mmgraph.benchmark.run import check_names, choose_metric, run_bench
from mmgraph.benchmark.summary import summarise
from mmgraph.benchmark.tables import contribution_table, corruption_table
from mmgraph.benchmark.unit import align_proba
from mmgraph.config import BenchConfig, build_config
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, DataError
from mmgraph.metrics.shortcut import presence_auroc


@dataclass
class Prior:
    """A model that predicts the class frequencies; counts its fits."""

    seed: int
    fits = 0

    def fit(self, data):
        type(self).fits += 1
        self.classes_, counts = np.unique(data.y, return_counts=True)
        self.prior = counts / counts.sum()
        return self

    def predict_proba(self, data):
        return np.tile(self.prior, (len(data), 1))


@dataclass
class Present(Prior):
    """A model that looks at the mask, so that other masks give other scores."""

    def predict_proba(self, data):
        tilt = 0.3 * (data.present.mean(1) - 0.5)
        return np.stack([0.5 - tilt, 0.5 + tilt], axis=1)


MODELS = {"mmgraph": Present, "late_logistic": Prior}


@pytest.fixture
def fast(monkeypatch):
    """Replace the models by stand-ins that cost nothing, and count from zero."""
    Prior.fits = Present.fits = 0
    monkeypatch.setattr(
        "mmgraph.benchmark.unit.make_model",
        lambda name, data, seed: MODELS[name](seed),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """60 samples, 2 classes, 2 modalities of which one lacks a quarter."""
    return write_file(tmp_path_factory.mktemp("data") / "small.parquet")


def write_file(path, *, groups=None, num_samples=60, y=None):
    rng = np.random.default_rng(0)
    y = np.arange(num_samples) % 2 if y is None else y
    a, b = rng.normal(size=(2, num_samples, 3)) + y[:, None]
    b[::4] = np.nan
    data = MultimodalData.from_arrays({"a": a, "b": b}, y=y, groups=groups)
    data.to_parquet(path)
    return path


def settings(file, output, **changes):
    values = {
        "datasets": (str(file),),
        "models": tuple(MODELS),
        "missing": (0.0, 0.5),
        "seeds": 2,
        "folds": 3,
        "jobs": 1,
        "output": output,
    }
    return build_config(BenchConfig, values | changes)


KEYS = {
    "dataset",
    "model",
    "train_missing",
    "pattern",
    "test_missing",
    "kept",
    "realised_rate",
    "scheme",
    "split",
    "seed",
    "unit",
    "num_train",
    "num_test",
    "num_classes",
    "metrics",
    "fit_s",
    "fit_mb",
    "predict_s",
    "commit",
    "versions",
    "plan_hash",
    "train_plan_hash",
}


@pytest.mark.usefixtures("fast")
def test_one_line_per_model_split_and_pattern(file, tmp_path):
    outcome = run_bench(settings(file, tmp_path))
    lines = read_lines(tmp_path / "results.jsonl")
    assert (outcome.finished, outcome.failed) == (6, ())
    # as is, two masks of .5, a alone, b alone
    assert len(lines) == 2 * 3 * (1 + 2 + 2)
    for line in lines:
        curves = {"reliability", "roc", "confusion"}
        assert set(line) - curves == KEYS
        assert (curves <= set(line)) == (line["test_missing"] is not None)
        assert line["fit_s"] > 0
        assert line["fit_mb"] is None or line["fit_mb"] >= 0
    scores = {"auroc", "log_loss", "accuracy", "balanced_accuracy", "macro_f1"}
    assert scores <= set(lines[0]["metrics"])
    assert {line["commit"] for line in lines} == {read_commit()}


@pytest.mark.usefixtures("fast")
def test_all_models_get_the_same_masks_and_the_plans_are_kept(file, tmp_path):
    run_bench(settings(file, tmp_path, train_missing=(0.0, 0.3)))
    hashes = {}
    for line in read_lines(tmp_path / "results.jsonl"):
        key = (line["train_missing"], line["split"], line["pattern"], line["seed"])
        plans = (line["plan_hash"], line["train_plan_hash"])
        hashes.setdefault(key, set()).add(plans)
        plan = tmp_path / "plans" / f"{line['plan_hash'][:16]}.json"
        assert plan.is_file() or line["kept"] is not None
    assert {len(found) for found in hashes.values()} == {1}
    both = {key[1:]: set() for key in hashes}
    for key, found in hashes.items():
        both[key[1:]] |= {plan for plan, _ in found}
    assert {len(found) for found in both.values()} == {1}  # same test at each rate


@pytest.mark.usefixtures("fast")
def test_masks_differ_between_seeds_and_remove_what_they_say(file, tmp_path):
    run_bench(settings(file, tmp_path))
    half = [
        line
        for line in read_lines(tmp_path / "results.jsonl")
        if line["test_missing"] == 0.5 and line["model"] == "mmgraph"
    ]
    assert len({line["plan_hash"] for line in half}) == len(half)
    assert 0.1 < np.mean([line["realised_rate"] for line in half]) < 0.5


def test_an_interrupted_run_goes_on_where_it_stopped(file, tmp_path, fast):
    config = settings(file, tmp_path)

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bench(config, on_progress=stop)
    lines = read_lines(tmp_path / "results.jsonl")
    assert len(lines) == 2 * 5
    Prior.fits = Present.fits = 0
    outcome = run_bench(config)
    assert (outcome.finished, outcome.resumed) == (4, 2)
    assert Prior.fits + Present.fits == 4
    assert len(read_lines(tmp_path / "results.jsonl")) == 6 * 5
    assert run_bench(config).finished == 0


@pytest.mark.usefixtures("fast")
def test_packed_lines_count_like_the_others(file, tmp_path):
    run_bench(settings(file, tmp_path))
    path = tmp_path / "results.jsonl"
    packed = tmp_path / "results.jsonl.xz"
    packed.write_bytes(lzma.compress(path.read_bytes()))
    path.unlink()
    outcome = run_bench(settings(file, tmp_path, repeats=2))
    assert (outcome.finished, outcome.resumed) == (6, 6)
    assert len(Results(tmp_path).lines()) == 2 * 6 * 5
    packed.write_bytes(b"not packed")
    with pytest.raises(ConfigError, match=r"xz must be a file compressed with xz"):
        Results(tmp_path).lines()
    assert run_bench(settings(file, tmp_path, fresh=True)).resumed == 0


def test_what_was_cut_off_is_run_again(file, tmp_path, fast):
    config = settings(file, tmp_path)
    run_bench(config)
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    Prior.fits = Present.fits = 0
    assert run_bench(config).finished == 1
    assert Prior.fits + Present.fits == 1
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert len(Results(tmp_path).lines()) == 6 * 5


@pytest.mark.usefixtures("fast")
def test_another_rate_runs_again_and_a_line_counts_once(file, tmp_path):
    run_bench(settings(file, tmp_path))
    assert run_bench(settings(file, tmp_path, missing=(0.0, 0.5, 0.7))).finished == 6
    assert len(Results(tmp_path).lines()) == 6 * 7
    assert run_bench(settings(file, tmp_path, train_missing=(0.3,))).resumed == 0


@pytest.mark.usefixtures("fast")
def test_other_splits_replace_the_earlier_ones_in_the_summary(file, tmp_path):
    run_bench(settings(file, tmp_path))
    run_bench(settings(file, tmp_path, folds=2))
    assert {line["scheme"] for line in Results(tmp_path).lines()} == {
        "2 stratified folds"
    }


@pytest.mark.usefixtures("fast")
def test_a_run_that_was_there_is_shown_when_it_is_asked_for_again(file, tmp_path):
    for folds in (3, 2, 3):
        run_bench(settings(file, tmp_path, folds=folds))
    lines = Results(tmp_path).lines()
    assert {line["scheme"] for line in lines} == {"3 stratified folds"}
    (block,) = summarise(Results(tmp_path))
    assert (block.facts["scheme"], block.num_splits) == ("3 stratified folds", 3)


@pytest.mark.usefixtures("fast")
def test_the_metric_that_was_asked_for_last_is_shown(file, tmp_path):
    for metric in ("auroc", "accuracy", "auroc"):
        run_bench(settings(file, tmp_path, metric=metric))
        assert summarise(Results(tmp_path))[0].metric == metric


@pytest.mark.usefixtures("fast")
def test_a_run_without_any_line_does_not_hide_the_earlier_one(file, tmp_path):
    run_bench(settings(file, tmp_path))
    (known,) = read_lines(tmp_path / "datasets.jsonl")
    Results(tmp_path).add_dataset(known | {"scheme": "2 stratified folds"})
    (block,) = summarise(Results(tmp_path))
    assert (block.facts["scheme"], block.num_splits) == ("3 stratified folds", 3)


@pytest.mark.usefixtures("fast")
def test_other_content_under_the_same_name_runs_again(tmp_path):
    file = write_file(tmp_path / "x.parquet")
    run_bench(settings(file, tmp_path / "out"))
    write_file(file, num_samples=66)
    assert run_bench(settings(file, tmp_path / "out")).resumed == 0


@pytest.mark.usefixtures("fast")
def test_more_repeats_add_to_what_is_there(file, tmp_path):
    run_bench(settings(file, tmp_path))
    outcome = run_bench(settings(file, tmp_path, repeats=2))
    assert (outcome.finished, outcome.resumed) == (6, 6)
    assert len({line["split"] for line in Results(tmp_path).lines()}) == 6
    assert len(read_lines(tmp_path / "datasets.jsonl")) == 1


@pytest.mark.parametrize(("total", "count"), [(1, 0), (2, 2), (6, 62), (7, 14)])
def test_every_combination_of_few_modalities_is_scored_alone(total, count):
    names = tuple("abcdefg"[:total])
    found = modality_subsets(names)
    assert len(set(found)) == len(found) == count
    assert all(0 < len(kept) < total for kept in found)


def touch(megabytes: int) -> None:
    """Take memory of the system's, not what was freed before, and give it back."""
    with mmap.mmap(-1, megabytes * 2**20) as block:
        for _ in range(megabytes):
            block.write(b"1" * 2**20)


def test_the_peak_of_memory_is_that_of_the_block():
    touch(40)  # a peak before it
    with Cost() as cost:
        touch(20)
    if cost.peak_mb is None:
        pytest.skip("the system does not tell peaks")
    assert 15 < cost.peak_mb < 30
    assert cost.seconds > 0


@pytest.mark.usefixtures("fast")
def test_fresh_forgets_earlier_results(file, tmp_path):
    run_bench(settings(file, tmp_path))
    assert run_bench(settings(file, tmp_path, fresh=True)).finished == 6
    assert len(read_lines(tmp_path / "results.jsonl")) == 6 * 5


def test_a_failing_model_is_recorded_and_the_others_go_on(file, tmp_path, monkeypatch):
    def make(name, data, seed):
        if name == "mmgraph":
            raise RuntimeError("no luck\nsecond line")
        return Prior(seed)

    monkeypatch.setattr("mmgraph.benchmark.unit.make_model", make)
    outcome = run_bench(settings(file, tmp_path))
    assert outcome.finished == 3
    assert len(outcome.failed) == 3
    assert outcome.failed[0].endswith("mmgraph r0f0: RuntimeError: no luck")
    failures = Results(tmp_path).failures([])
    assert [f["error"] for f in failures] == ["RuntimeError: no luck"] * 3
    monkeypatch.setattr("mmgraph.benchmark.unit.make_model", lambda *_: Prior(0))
    assert run_bench(settings(file, tmp_path)).finished == 3
    results = Results(tmp_path)
    assert results.failures(results.lines()) == []


def test_probabilities_that_are_not_finite_are_a_failure(file, tmp_path, monkeypatch):
    class Broken(Prior):
        def predict_proba(self, data):
            return np.full((len(data), 2), np.nan)

    monkeypatch.setattr("mmgraph.benchmark.unit.make_model", lambda *_: Broken(0))
    outcome = run_bench(settings(file, tmp_path, models=("mmgraph",)))
    assert "predict_proba must be finite" in outcome.failed[0]


def test_unknown_names_are_told_with_the_nearest_one(file, tmp_path):
    with pytest.raises(ConfigError, match=r"'lat_logistic'\. Did you mean 'late_log"):
        run_bench(settings(file, tmp_path, models=("lat_logistic",)))
    with pytest.raises(ConfigError, match=r"'hart'\. Did you mean 'heart'"):
        run_bench(settings("hart", tmp_path))
    with pytest.raises(ConfigError, match="Known names: a, b"):
        check_names(["zzz"], ["a", "b"], "Model")


def test_nothing_to_run_is_an_error(tmp_path):
    config = build_config(BenchConfig, {"output": tmp_path})
    with pytest.raises(ConfigError, match="must be given a data set or --suite"):
        run_bench(config)


def test_ours_come_first_among_the_models():
    assert model_names()[:2] == ("mmgraph", "mmgraph_no_edges")
    assert "late_logistic" in model_names()


def test_a_file_must_exist(tmp_path):
    with pytest.raises(DataError, match=r"Parquet or CSV file must exist, got .*none"):
        run_bench(settings(tmp_path / "none.parquet", tmp_path))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.r_[np.zeros(58), 1, 1], "at least 3 samples of each class for 3 folds"),
        (np.zeros(60), "at least 2 classes, got 1"),
        (np.linspace(0, 1, 60), "one class per sample"),
    ],
)
def test_labels_that_cannot_be_benchmarked(tmp_path, y, message):
    file = write_file(tmp_path / "x.parquet", y=y)
    with pytest.raises(DataError, match=message):
        run_bench(settings(file, tmp_path))


def test_a_set_without_labels_cannot_be_benchmarked(tmp_path):
    path = tmp_path / "x.parquet"
    MultimodalData.from_arrays({"a": np.eye(5)}).to_parquet(path)
    with pytest.raises(DataError, match="must have labels, got none"):
        run_bench(settings(path, tmp_path))


def test_groups_of_a_file_stay_whole(tmp_path):
    groups = np.repeat(np.arange(12), 5)
    file = write_file(tmp_path / "x.parquet", groups=groups)
    bench = open_bench_data(str(file), settings(file, tmp_path))
    assert bench.scheme.kind == "grouped"
    for split in make_splits(bench):
        assert not set(groups[split.train]) & set(groups[split.test])
    few = write_file(tmp_path / "y.parquet", groups=np.repeat([0, 1], 30))
    with pytest.raises(DataError, match="at least 3 groups for 3 folds, got 2"):
        open_bench_data(str(few), settings(few, tmp_path))


def test_hospitals_of_heart_are_not_kept_apart(tmp_path):
    bench = open_bench_data("heart", settings("heart", tmp_path))
    assert (bench.scheme.kind, bench.scheme.folds) == ("stratified", 3)
    assert choose_metric(bench, "auto") == "auroc"
    assert choose_metric(bench, "accuracy") == "accuracy"


def test_few_training_samples_are_the_same_number_of_each_class(tmp_path):
    bench = open_bench_data("mfeat20", settings("mfeat20", tmp_path))
    split = make_splits(bench)[0]
    assert np.bincount(bench.codes[split.train]).tolist() == [20] * 10
    assert not set(split.train) & set(split.test)
    assert "20 training samples a class" in str(bench.scheme)


def test_repeats_shuffle_anew_and_splits_are_the_same_each_time(file, tmp_path):
    bench = open_bench_data(str(file), settings(file, tmp_path, repeats=2))
    splits = make_splits(bench)
    assert [s.name for s in splits] == ["r0f0", "r0f1", "r0f2", "r1f0", "r1f1", "r1f2"]
    assert not np.array_equal(splits[0].test, splits[3].test)
    again = make_splits(bench)
    assert all(map(np.array_equal, [s.test for s in splits], [s.test for s in again]))


def test_the_mask_alone_is_seen_to_predict_the_label(tmp_path):
    config = settings("shortcut", tmp_path)
    for name, low, high in (("shortcut", 0.7, 0.9), ("redundant", 0.5, 0.5)):
        bench = open_bench_data(name, config)
        assert low <= presence_auroc(bench.data.present, bench.codes)[0] <= high


def test_a_class_never_seen_in_training_has_probability_zero():
    proba = align_proba(np.array([[0.2, 0.8]]), np.array([0, 2]), np.array([0, 1, 2]))
    assert proba.tolist() == [[0.2, 0.0, 0.8]]


def test_roc_values_integrate_to_the_auroc():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 400)
    proba = rng.dirichlet(np.ones(3), 400) + 0.3 * np.eye(3)[codes]
    proba /= proba.sum(1, keepdims=True)
    for columns, expected in (
        (proba, roc_auc_score(codes, proba, multi_class="ovr")),
        (proba[:, :2], roc_auc_score(codes == 1, proba[:, 1])),
    ):
        rows = codes if columns is proba else (codes == 1).astype(int)
        area = np.trapezoid(roc_values(rows, columns), np.linspace(0, 1, 51))
        assert area == pytest.approx(expected, abs=0.005)
    assert roc_values(np.zeros(4, dtype=int), proba[:4]) is None


def test_confusion_counts_have_true_classes_as_rows():
    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    assert confusion_counts(np.array([0, 1, 1]), proba) == [[1, 0], [1, 1]]


def test_reliability_counts_add_up():
    counts = reliability_counts(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    assert sum(counts["count"]) == 2
    assert sum(counts["correct"]) == 1
    assert sum(counts["confidence"]) == pytest.approx(1.6)


def test_a_damaged_line_is_told(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(ConfigError, match="line 2 must be a JSON object"):
        read_lines(path)


def test_a_line_that_was_cut_off_is_dropped_before_the_next(tmp_path):
    path = tmp_path / "x.jsonl"
    append_lines(path, [{"a": 1}])
    path.write_text(path.read_text() + '{"b":')
    append_lines(path, [{"c": 2}])
    assert read_lines(path) == [{"a": 1}, {"c": 2}]


def test_the_version_stands_where_there_is_no_checkout(tmp_path):
    assert read_commit(tmp_path / "package") == read_versions()["mmgraph"]


FAST = ("late_logistic", "mean_logistic")
SLOW = ("late_forest", "mean_forest")  # a unit takes longer than a signal


def command(file, output, *options, names=FAST):
    arguments = ["bench", str(file), "--folds", "3", "--missing", "0", ".5"]
    models = ["--models", *names]
    program = [sys.executable, "-m", "mmgraph", *arguments, *models]
    return [*program, "--output", str(output), *options]


@pytest.mark.long
def test_a_pool_gives_the_same_scores_as_one_process(file, tmp_path):
    found = []
    for jobs in ("1", "2"):
        output = tmp_path / jobs
        subprocess.run(
            command(file, output, "--jobs", jobs), check=True, capture_output=True
        )
        lines = read_lines(output / "results.jsonl")
        found.append(
            {(x["unit"], x["pattern"], x["seed"]): x["metrics"] for x in lines}
        )
    assert len(found[0]) == 6 * (1 + 3 + 2)
    assert found[0] == found[1]


def die_in_the_second(unit, config):
    """Stand in for a unit; that of the second split kills its process."""
    if unit.split == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit, [], None


@pytest.mark.slow
def test_only_the_unit_that_kills_its_process_fails(file, tmp_path, monkeypatch):
    monkeypatch.setattr("mmgraph.benchmark.executor.try_unit", die_in_the_second)
    scheme = Scheme("stratified", 4, 1)
    units = [Unit("x", "prior", 0.0, scheme, i, (0.0,), 1) for i in range(4)]
    finished = list(in_pool(units, settings(file, tmp_path, jobs=2)))
    assert sorted(unit.split for unit, _, _ in finished) == [0, 1, 2, 3]
    failed = {unit.split: error for unit, _, error in finished if error}
    assert failed == {1: "the worker process died (out of memory?)"}


@pytest.fixture
def interruptible():
    """Hear interrupts, which programs started in the background are told to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_a_library_swallows_is_not_a_failed_unit(
    file, tmp_path, fast, monkeypatch
):
    def predict(self, data):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise TypeError("cannot compare") from None

    monkeypatch.setattr(Present, "predict_proba", predict)
    before = signal.getsignal(signal.SIGINT)
    config = settings(file, tmp_path, models=("late_logistic", "mmgraph"))
    with pytest.raises(KeyboardInterrupt):
        run_bench(config)
    assert signal.getsignal(signal.SIGINT) is before
    assert {line["model"] for line in read_lines(tmp_path / "results.jsonl")} == {
        "late_logistic"
    }
    assert not (tmp_path / "failures.jsonl").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_complete_lines_and_the_rest_runs_later(file, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as stream:
        program = subprocess.Popen(
            command(file, tmp_path, "--jobs", "1", names=SLOW),
            stdout=stream,
            stderr=stream,
        )
        path = tmp_path / "results.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if path.exists() and path.stat().st_size:
                break
            time.sleep(0.002)
        os.kill(program.pid, signal.SIGINT)
        code = program.wait(60)
    before = len({line["unit"] for line in read_lines(path)})
    assert path.read_bytes().endswith(b"\n")
    assert code == 130, log.read_text()
    assert before < 6
    again = subprocess.run(
        command(file, tmp_path, "--jobs", "1", names=SLOW),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0
    assert f"{before} units were already there" in again.stderr
    assert len(Results(tmp_path).lines()) == 6 * 6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_benchmark(file, tmp_path):
    program = subprocess.Popen(
        command(file, tmp_path, "--jobs", "2", names=SLOW), stderr=subprocess.DEVNULL
    )
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    _wait_until((tmp_path / "results.jsonl").exists)
    workers = [Path("/proc") / pid for pid in children.read_text().split()]
    program.kill()
    program.wait()
    _wait_until(lambda: not any(map(_is_alive, workers)))
    assert len(workers) >= 2
    assert not any(map(_is_alive, workers))


def _wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(process):
    """Whether a folder of /proc is of a process that is no zombie."""
    status = process / "status"
    return status.is_file() and "(zombie)" not in status.read_text()


# Corruptions and contributions


@pytest.mark.parametrize("text", ["noise", "noise:x", "swap:1", "blur", "scale:inf"])
def test_unknown_corruptions_are_refused(text):
    with pytest.raises(ConfigError, match="corrupt must be noise:SD, scale:FACTOR"):
        check_corruption(text)


def test_numbers_are_corrupted_in_modalities_of_numbers_only():
    data = MultimodalData.from_arrays(
        {"a": [[1.0], [2.0]], "note": ["a b c", "d e f"]}, y=[0, 1]
    )
    assert [name for name, _ in corruptions_of("noise:1", data)] == ["a"]
    assert len(list(corruptions_of("shuffle", data))) == 2


@dataclass
class First(Prior):
    """A model that predicts the sign of the first channel of the first modality."""

    def predict_proba(self, data):
        x = next(iter(data.features().values()))[:, 0]
        p = np.where(np.isnan(x), 0.5, np.where(x > 0, 0.9, 0.1))
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def corrupted(tmp_path, monkeypatch):
    """Results of a model that reads the first of two modalities only."""
    monkeypatch.setattr(
        "mmgraph.benchmark.unit.make_model", lambda name, data, seed: First(seed)
    )
    y = np.arange(80) % 2
    x = 2.0 * y[:, None] - 1
    arrays = {"read": x, "ignored": np.ones((80, 2))}
    MultimodalData.from_arrays(arrays, y=y).to_parquet(tmp_path / "d.parquet")
    config = BenchConfig(
        datasets=(str(tmp_path / "d.parquet"),),
        models=("mmgraph",),
        missing=(0.0,),
        folds=2,
        jobs=1,
        output=tmp_path / "out",
        corrupt=("swap", "scale:-1"),
    )
    return config, run_bench(config)


def test_each_modality_is_corrupted_in_turn(corrupted):
    config, outcome = corrupted
    assert not outcome.failed
    [block] = summarise(Results(config.output))
    [row] = block.rows
    scores = {
        name: {m: e.mean for m, e in each.items()}
        for name, each in row.corrupted.items()
    }
    assert scores == {
        "swap": {"read": 0.0, "ignored": 1.0},
        "scale:-1": {"read": 0.0, "ignored": 1.0},
    }
    table = corruption_table(block)
    assert table.columns == ("model", "not corrupted", "swap", "scale:-1")
    assert table.rows[0][2] == "0.500 (0.000 read)"
    assert run_bench(config).resumed == 2  # lines of corruptions are found again


def test_contributions_follow_from_scores_of_subsets(corrupted):
    config, _ = corrupted
    [block] = summarise(Results(config.output))
    read, ignored = (block.rows[0].contributions[n] for n in ("read", "ignored"))
    gain = np.log(0.9) - np.log(0.5)
    for each in read:
        assert each.mean == pytest.approx(gain, abs=1e-5)
    assert [each.mean for each in ignored] == pytest.approx([0, 0, 0], abs=1e-5)
    table = contribution_table(block)
    assert [row[0] for row in table.rows] == ["read", "ignored"]
