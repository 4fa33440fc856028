"""Execution of the benchmark: data set x model x train rate x split, in a process pool.

One unit of work fits one model once and scores it in every test condition. Its results
are appended to `results.jsonl` in one write, one line per condition, so that an
interrupted run can be resumed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mmgraph.benchmark.corruptions import check_corruption
from mmgraph.benchmark.datasets import FEW_SHOT, open_bench_data
from mmgraph.benchmark.executor import in_pool, in_process, one_line
from mmgraph.benchmark.models import model_names
from mmgraph.benchmark.pairs import METRICS, PAIR_TASKS
from mmgraph.benchmark.protocol import (
    BenchData,
    TestCondition,
    Unit,
    make_splits,
    scored_patterns,
)
from mmgraph.benchmark.provenance import describe_run
from mmgraph.benchmark.results import Record, Results
from mmgraph.benchmark.unit import unit_key
from mmgraph.config import BenchConfig
from mmgraph.errors import ConfigError, MMGraphError
from mmgraph.evaluation.registry import is_local
from mmgraph.metrics.shortcut import presence_auroc


@dataclass(frozen=True)
class Progress:
    """Progress after one unit.

    Attributes:
        text: The finished unit, in one line.
        done: Number of units finished in this run.
        total: Number of units of this run.
        error: One line if the unit failed, else None.
    """

    text: str
    done: int
    total: int
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run of the benchmark.

    Attributes:
        finished: Number of units that finished in this run.
        resumed: Number of units with results from earlier runs.
        failed: One line per failed unit.
        skipped: One line per data set that is not on this machine.
    """

    finished: int
    resumed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ConfigError for an unknown name, with the closest known one."""
    from difflib import get_close_matches

    known = tuple(known)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = (
                f"Did you mean '{close[0]}'?"
                if close
                else f"Known names: {', '.join(known)}."
            )
            raise ConfigError(f"{what} must be a known name, got '{name}'. {hint}")


def run_bench(
    config: BenchConfig,
    *,
    command: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Run all units without results and append their results to `config.output`.

    The failure of a model is recorded and does not stop the other units.

    Args:
        config: Data sets, models, rates and splits.
        command: The command line, for the record.
        on_progress: Function called in this process after each unit.

    Raises:
        ConfigError: If a model or data set has an unknown name, or none is given.
        DataError: If a data set given by name or path cannot be used.
    """
    kinds = [PAIR_TASKS.get(name) for name in config.dataset_names]
    for text in config.corrupt:
        check_corruption(text)
    known = dict.fromkeys(
        name for kind in kinds for name in model_names(kind, optional=True)
    )
    check_names(config.models, known or model_names(optional=True), "Model")
    results = Results(config.output)
    if config.fresh:
        results.clear()
    sets, skipped = _open_sets(config)
    results.add_run(describe_run(command, config))
    units: list[Unit] = []
    for name, bench in sets.items():
        results.add_dataset(_facts(name, bench, config.metric))
        units += _units(bench, config)
    todo = _missing_units(units, sets, results)
    failed = _run_units(todo, config, results, on_progress)
    return Outcome(len(todo) - len(failed), len(units) - len(todo), failed, skipped)


def _open_sets(
    config: BenchConfig,
) -> tuple[dict[str, BenchData], tuple[str, ...]]:
    """Open every data set; unavailable ones of a suite are skipped."""
    from mmgraph.datasets.load import dataset_names

    if not config.dataset_names:
        raise ConfigError(
            "bench must be given a data set or --suite, got none. List the data sets "
            "with mmgraph datasets."
        )
    named = [name for name in config.datasets if name not in config.files]
    check_names(named, (*dataset_names(), *FEW_SHOT, *PAIR_TASKS), "Data set")
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
        return None, one_line(error)


def choose_metric(bench: BenchData, metric: str) -> str:
    """Return the score that is shown first; "auto" is that of the card.

    Without a card it is AUROC for two classes, else accuracy.

    Raises:
        ConfigError: If the metric is not one of the task.
    """
    kind = bench.pairs.kind if bench.pairs else "classification"
    if metric != "auto" and metric not in METRICS[kind]:
        raise ConfigError(
            f"metric must be one of {', '.join(METRICS[kind])} for '{bench.name}', got "
            f"'{metric}'.",
            parameter="metric",
        )
    if metric != "auto":
        return metric
    fallback = "auroc" if len(bench.classes) == 2 else "accuracy"
    return str(bench.card.get("metric") or fallback)


def _facts(name: str, bench: BenchData, metric: str) -> Record:
    present = bench.data.present
    shortcut = 0.5 if bench.pairs else presence_auroc(present, bench.codes)[0]
    return {
        "dataset": name,
        "title": bench.card.get("title", name),
        "license": bench.card.get("license", ""),
        "origin": bench.card.get("origin", ""),
        "num_samples": len(bench.data),
        "num_classes": len(bench.classes),
        "classes": [
            [str(label), int(count)]
            for label, count in zip(
                bench.classes, np.bincount(bench.codes), strict=True
            )
        ],
        "group": bench.card.get("group"),
        "missing": [
            [name, float(share)]
            for name, share in zip(
                bench.data.modalities, 1 - present.mean(0), strict=True
            )
        ],
        "scheme": str(bench.scheme),
        "metric": choose_metric(bench, metric),
        "task": bench.pairs.kind if bench.pairs else "classification",
        "note": bench.card.get("note", ""),
        "shortcut_auroc": shortcut,
        "data_hash": bench.digest,
    }


def _units(bench: BenchData, config: BenchConfig) -> Iterator[Unit]:
    known = model_names(bench.pairs, optional=True)
    models = [name for name in config.models if name in known]
    models = models or list(model_names(bench.pairs))
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
                    config.mask_seeds or config.seeds,
                    config.corrupt,
                )


def _missing_units(
    units: list[Unit], sets: dict[str, BenchData], results: Results
) -> list[Unit]:
    """Return the units that lack a line, and save the random mask plans."""
    existing = results.identities()
    expected: dict[tuple[str, int], list[TestCondition]] = {}
    splits = {name: make_splits(bench) for name, bench in sets.items()}
    todo = []
    for unit in units:
        bench, split = sets[unit.dataset], splits[unit.dataset][unit.split]
        key = (unit.dataset, unit.split)
        if key not in expected:
            test = bench.data[split.test]
            how = unit.rates, unit.mask_seeds, split, bench.pairs, unit.corruptions
            patterns = scored_patterns(test, *how)
            expected[key] = list(patterns)
            drawn = (p.plan for p in patterns if p.test_missing is not None)
            results.keep_plans(drawn)
        head = unit_key(unit, bench, split)
        if not all((head, *p.identity) in existing for p in expected[key]):
            todo.append(unit)
    return todo


def _run_units(
    units: list[Unit],
    config: BenchConfig,
    results: Results,
    on_progress: Callable[[Progress], None],
) -> tuple[str, ...]:
    failed = []
    shared = not any(is_local(unit.model) for unit in units)
    is_pool = shared and config.jobs > 1 and len(units) > 1
    finished = in_pool if is_pool else in_process
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
