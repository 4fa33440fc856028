"""Run the benchmark: data set x model x train rate x split, in a process pool.

One unit of work fits one model once and scores it on every test pattern. Its
results go to `results.jsonl` as one line per pattern, written in one piece, so
that an interrupted run resumes where it stopped. Letters: `N` samples, `K` classes.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np

from mmgraph.config import BenchConfig
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, MMGraphError
from mmgraph.protocol import (
    FEW,
    BenchData,
    Pattern,
    Split,
    Unit,
    make_splits,
    mask_shortcut,
    open_bench_data,
    scored_patterns,
    train_plan,
)
from mmgraph.provenance import describe_run, read_commit, read_versions
from mmgraph.records import Record, Results

OURS = ("mmgraph", "mmgraph_no_edges")
NUM_BINS = 15


@runtime_checkable
class Fitted(Protocol):
    """What the benchmark asks of a fitted model."""

    classes_: np.ndarray

    def predict_proba(self, data: MultimodalData, /) -> np.ndarray:
        """Return class probabilities [N, K]."""
        ...


@runtime_checkable
class Model(Protocol):
    """What the benchmark asks of a model before it is fitted."""

    def fit(self, data: MultimodalData, /) -> Fitted:
        """Learn from samples with labels."""
        ...


@dataclass(frozen=True)
class Progress:
    """What is told after each unit, or each data set that was skipped.

    Attributes:
        text: What finished, in one line.
        done: Units finished in this run.
        total: Units to run.
        error: One line if it failed, else None.
    """

    text: str
    done: int
    total: int
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run of the benchmark ended.

    Attributes:
        finished: Units that ran now.
        resumed: Units that were already there.
        failed: One line for each unit that failed.
        skipped: One line for each data set that is not on this machine.
    """

    finished: int
    resumed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]


def model_names() -> tuple[str, ...]:
    """Return the names of all models that the benchmark knows, ours first."""
    from mmgraph.baselines import BASELINES

    return (*OURS, *BASELINES)


def make_model(name: str, data: MultimodalData, seed: int) -> Model:
    """Return an unfitted model with its defaults.

    Args:
        name: One of `model_names()`.
        data: Training samples, for the control that needs their schema.
        seed: Seed of everything random in it.
    """
    if name == "mmgraph":
        from mmgraph.estimators import FusionClassifier

        return cast(Model, FusionClassifier(seed=seed))
    if name == "mmgraph_no_edges":
        from mmgraph.estimators import FusionClassifier
        from mmgraph.schema import Schema

        control = Schema.late(data.schema.modalities)
        return cast(Model, FusionClassifier(schema=control, seed=seed))
    from mmgraph.baselines import BASELINES

    return cast(Model, BASELINES[name](seed=seed))


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ConfigError for a name that is not known, with the nearest one."""
    from difflib import get_close_matches

    known = tuple(known)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = (
                f"did you mean '{close[0]}'?"
                if close
                else f"known: {', '.join(known)}."
            )
            raise ConfigError(f"{what} must be a known name, got '{name}'; {hint}")


def run_bench(
    config: BenchConfig,
    *,
    command: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Run what is not there yet and append the results to `config.output`.

    A model that fails on a data set is recorded as failed and the others go on.

    Args:
        config: What to run.
        command: How it was called, for the record.
        on_progress: Called in this process after each unit.

    Raises:
        ConfigError: If a model or data set has an unknown name, or none is given.
        DataError: If a data set that was named cannot be used.
    """
    models = config.models or model_names()
    check_names(models, model_names(), "Model")
    results = Results(config.output)
    if config.fresh:
        results.clear()
    sets, skipped = _open_sets(config)
    results.add_run(describe_run(command, config))
    units: list[Unit] = []
    for name, bench in sets.items():
        results.add_dataset(_facts(name, bench, config.metric))
        units += _units(bench, models, config)
    todo = _missing_units(units, sets, results)
    failed = _run_units(todo, config, results, on_progress)
    return Outcome(len(todo) - len(failed), len(units) - len(todo), failed, skipped)


def _open_sets(
    config: BenchConfig,
) -> tuple[dict[str, BenchData], tuple[str, ...]]:
    """Open every data set; only those of a suite may be lacking here."""
    from mmgraph.datasets import dataset_names

    if not config.dataset_names:
        raise ConfigError("bench must be given a data set or --suite, got none.")
    files = [name for name in config.dataset_names if name.endswith(".parquet")]
    named = [name for name in config.datasets if name not in files]
    check_names(named, (*dataset_names(), *FEW), "Data set")
    sets, skipped = {}, []
    for name in config.dataset_names:
        bench, reason = _try_open(name, config)
        if bench is None:
            skipped.append(f"{name}: {reason}")
        else:
            sets[name] = bench
    return sets, tuple(skipped)


def _try_open(name: str, config: BenchConfig) -> tuple[BenchData | None, str]:
    try:
        return open_bench_data(name, config), ""
    except MMGraphError as error:
        if name in config.datasets:
            raise
        return None, _one_line(error)


def choose_metric(bench: BenchData, metric: str) -> str:
    """Return the score that is shown first; "auto" is what the card says.

    A set without a card is scored by AUROC for two classes, else by accuracy.
    """
    if metric != "auto":
        return metric
    fallback = "auroc" if len(bench.classes) == 2 else "accuracy"
    return str(bench.card.get("metric") or fallback)


def _facts(name: str, bench: BenchData, metric: str) -> Record:
    present = bench.data.present
    return {
        "dataset": name,
        "title": bench.card.get("title", name),
        "license": bench.card.get("license", ""),
        "origin": bench.card.get("origin", ""),
        "num_samples": len(bench.data),
        "num_classes": len(bench.classes),
        "missing": [
            [name, float(share)]
            for name, share in zip(
                bench.data.modalities, 1 - present.mean(0), strict=True
            )
        ],
        "scheme": str(bench.scheme),
        "metric": choose_metric(bench, metric),
        "shortcut_auroc": mask_shortcut(bench),
        "data_hash": bench.digest,
    }


def _units(
    bench: BenchData, models: Iterable[str], config: BenchConfig
) -> Iterator[Unit]:
    for rate in config.train_missing:
        for split in range(bench.scheme.folds * bench.scheme.repeats):
            for model in models:
                yield Unit(
                    bench.name,
                    model,
                    rate,
                    bench.scheme,
                    split,
                    config.missing,
                    config.seeds,
                )


def _missing_units(
    units: list[Unit], sets: dict[str, BenchData], results: Results
) -> list[Unit]:
    """Return the units of which a line is missing, and keep all mask plans."""
    there = results.identities()
    expected: dict[tuple[str, int], list[Pattern]] = {}
    splits = {name: make_splits(bench) for name, bench in sets.items()}
    todo = []
    for unit in units:
        bench, split = sets[unit.dataset], splits[unit.dataset][unit.split]
        key = (unit.dataset, unit.split)
        if key not in expected:
            test = bench.data[split.test]
            patterns = scored_patterns(test, unit.rates, unit.mask_seeds, split)
            expected[key] = list(patterns)
            results.keep_plans(pattern.plan for pattern in patterns)
        head = unit_key(unit, bench, split)
        if not all((head, *p.identity) in there for p in expected[key]):
            todo.append(unit)
    return todo


def unit_key(unit: Unit, bench: BenchData, split: Split) -> str:
    """Return what names the unit in the results: another fit, another key."""
    parts = (unit.dataset, unit.model, f"{unit.train_missing:g}", str(unit.scheme))
    return "|".join((*parts, split.name, bench.digest[:12]))


def _run_units(
    units: list[Unit],
    config: BenchConfig,
    results: Results,
    on_progress: Callable[[Progress], None],
) -> tuple[str, ...]:
    failed = []
    finished = _in_pool if config.jobs > 1 and len(units) > 1 else _in_process
    for done, (unit, lines, error) in enumerate(finished(units, config), start=1):
        if error is None:
            results.add_unit(lines)
        else:
            failed.append(f"{unit}: {error}")
            results.add_failure(_failure(unit, error))
        on_progress(Progress(str(unit), done, len(units), error))
    return tuple(failed)


def _failure(unit: Unit, error: str) -> Record:
    return {
        "dataset": unit.dataset,
        "model": unit.model,
        "train_missing": unit.train_missing,
        "split": unit.split_name,
        "error": error,
    }


Finished = tuple[Unit, list[Record], str | None]


def _in_process(units: list[Unit], config: BenchConfig) -> Iterator[Finished]:
    with _one_thread():
        for unit in units:
            yield try_unit(unit, config)


def _in_pool(units: list[Unit], config: BenchConfig) -> Iterator[Finished]:
    import multiprocessing

    with _single_threaded_children():
        pool = ProcessPoolExecutor(
            min(config.jobs, len(units)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        )
        try:
            futures = {pool.submit(try_unit, unit, config): unit for unit in units}
            for future in as_completed(futures):
                yield _result(future, futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        pool.shutdown()


def _result(future: "Future[Finished]", unit: Unit) -> Finished:
    try:
        return future.result()
    except BrokenProcessPool:
        return unit, [], "the worker process died (out of memory?)"


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Let processes started here use one thread each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    import signal

    import torch

    torch.set_num_threads(1)
    # Ctrl-C reaches the whole group; only the parent answers it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def try_unit(unit: Unit, config: BenchConfig) -> Finished:
    """Run a unit; an error of the model becomes one line instead."""
    try:
        return unit, run_unit(unit, config), None
    except Exception as error:  # any model may fail in any way; it is recorded
        return unit, [], f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@functools.lru_cache(maxsize=2)
def _opened(name: str, config: BenchConfig) -> tuple[BenchData, tuple[Split, ...]]:
    bench = open_bench_data(name, config)
    return bench, make_splits(bench)


def run_unit(unit: Unit, config: BenchConfig) -> list[Record]:
    """Fit one model once and score it on every test pattern.

    Returns:
        One record per pattern, as PROTOCOL asks for them.
    """
    bench, splits = _opened(unit.dataset, config)
    split = splits[unit.split]
    plan = train_plan(bench.data[split.train], unit.train_missing, split)
    train = plan.apply(bench.data[split.train])
    model = make_model(unit.model, train, split.number)
    start = time.perf_counter()
    fitted = model.fit(train)
    fit_s = time.perf_counter() - start
    head = {
        "dataset": unit.dataset,
        "model": unit.model,
        "train_missing": unit.train_missing,
        "scheme": str(unit.scheme),
        "split": split.name,
        "unit": unit_key(unit, bench, split),
        "num_train": len(split.train),
        "num_test": len(split.test),
        "num_classes": len(bench.classes),
        "train_plan_hash": plan.hash,
        "fit_s": round(fit_s, 4),
        "commit": read_commit(),
        "versions": read_versions(),
    }
    test = bench.data[split.test]
    codes = bench.codes[split.test]
    patterns = scored_patterns(test, unit.rates, unit.mask_seeds, split)
    return [
        head | _score(fitted, test, codes, bench.classes, pattern)
        for pattern in patterns
    ]


def _score(
    model: Fitted,
    test: MultimodalData,
    codes: np.ndarray,
    classes: np.ndarray,
    pattern: Pattern,
) -> Record:
    from mmgraph.metrics import classification_scores

    masked = pattern.plan.apply(test)
    start = time.perf_counter()
    proba = align_proba(model.predict_proba(masked), model.classes_, classes)
    predict_s = time.perf_counter() - start
    return {
        "pattern": pattern.plan.pattern,
        "test_missing": pattern.test_missing,
        "left_out": pattern.left_out,
        "realised_rate": round(pattern.plan.realised_rate, 6),
        "seed": pattern.plan.seed,
        "plan_hash": pattern.plan.hash,
        "metrics": {
            name: round(float(value), 6)
            for name, value in classification_scores(codes, proba).items()
        },
        "reliability": reliability_counts(codes, proba),
        "predict_s": round(predict_s, 4),
    }


def align_proba(
    proba: np.ndarray, known: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return probabilities over all `classes`; 0 for one never seen in training.

    Args:
        proba: Probabilities over the classes a model knows, [N, K_known].
        known: Those classes.
        classes: All classes of the data set, sorted, [K].

    Raises:
        ValueError: If a probability is not finite.
    """
    proba = np.asarray(proba, dtype=np.float64)
    if not np.isfinite(proba).all():
        raise ValueError("predict_proba must be finite, got NaN or infinity.")
    full = np.zeros((len(proba), len(classes)))
    full[:, np.searchsorted(classes, known)] = proba
    return full


def reliability_counts(codes: np.ndarray, proba: np.ndarray) -> dict[str, list[float]]:
    """Return what a reliability curve is drawn from, per bin of confidence.

    Args:
        codes: True classes, int [N].
        proba: Probabilities [N, K]; the largest is the confidence.

    Returns:
        For 15 equal bins: `count`, and the sums `confidence` and `correct`.
        All zero for no samples.
    """
    from mmgraph.metrics import reliability_curve

    confidence, share, count = reliability_curve(codes, proba, NUM_BINS)
    filled = count > 0
    return {
        "count": count.astype(float).tolist(),
        "confidence": np.where(filled, confidence * count, 0.0).round(4).tolist(),
        "correct": np.where(filled, share * count, 0.0).round(4).tolist(),
    }
