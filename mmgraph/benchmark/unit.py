"""One unit of work: fit a model once and score it in every test condition.

Letters: `N` samples, `K` classes.
"""

import functools
import time
from typing import Any

import numpy as np

from mmgraph.benchmark.class_curves import class_counts
from mmgraph.benchmark.cost import Cost
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.models import Fitted, Model, make_model, make_pair_model
from mmgraph.benchmark.pairs import PairModel, PairTask, score_pairs
from mmgraph.benchmark.protocol import (
    BenchData,
    Split,
    TestCondition,
    Unit,
    make_splits,
    scored_patterns,
    train_plan,
)
from mmgraph.benchmark.provenance import read_commit, read_versions
from mmgraph.benchmark.results import Record, short_hash
from mmgraph.config import BenchConfig
from mmgraph.data import MultimodalData
from mmgraph.estimators.input_spec import removing_modalities
from mmgraph.metrics.scores import mean_scores


def unit_key(unit: Unit, bench: BenchData, split: Split) -> str:
    """Return the key of a unit in the results; different fits have different keys."""
    parts = (unit.dataset, unit.model, f"{unit.train_missing:g}", str(unit.scheme))
    return "|".join((*parts, split.name, short_hash(bench.digest)))


@functools.lru_cache(maxsize=2)
def _opened(name: str, config: BenchConfig) -> tuple[BenchData, tuple[Split, ...]]:
    bench = open_bench_data(name, config)
    return bench, make_splits(bench)


def run_unit(unit: Unit, config: BenchConfig) -> list[Record]:
    """Fit one model once and score it in every test condition.

    In stratified folds groups are removed from the training data, so that all models
    are compared on exchangeable samples; see `mmgraph.benchmark.tables.split_note`.

    Returns:
        One record per condition.
    """
    bench, splits = _opened(unit.dataset, config)
    split = splits[unit.split]
    whole = bench.data
    if bench.scheme.kind == "stratified":  # folds ignore groups, so models do, too
        whole = whole.replace(groups=None)
    plan = train_plan(whole[split.train], unit.train_missing, split)
    train = plan.apply(whole[split.train])
    model: Model | PairModel = (
        make_model(unit.model, train, split.number)
        if bench.pairs is None
        else make_pair_model(unit.model, bench.pairs, split.number)
    )
    with Cost() as cost:
        fitted: Any = model.fit(train)
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
        "fit_s": round(cost.seconds, 6),
        "fit_mb": None if cost.peak_mb is None else round(cost.peak_mb, 1),
        "commit": read_commit(),
        "versions": read_versions(),
    }
    test = bench.data[split.test]
    codes = bench.codes[split.test]
    how = unit.rates, unit.mask_seeds, split, bench.pairs, unit.corruptions
    patterns = scored_patterns(test, *how)
    if bench.pairs is not None:
        return [head | _score_pairs(fitted, bench.pairs, test, p) for p in patterns]
    return [head | _score(fitted, test, codes, bench.classes, p) for p in patterns]


def _score_pairs(
    model: PairModel, task: PairTask, test: MultimodalData, pattern: TestCondition
) -> Record:
    masked = pattern.plan.apply(test)
    start = time.perf_counter()
    scores = score_pairs(model, task, test, masked, pattern.plan.seed)
    predict_s = time.perf_counter() - start
    return _condition_record(pattern, predict_s) | {
        "metrics": _rounded(mean_scores(scores)),
        "directions": {name: _rounded(each) for name, each in scores.items()},
    }


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in scores.items()}


def _condition_record(pattern: TestCondition, predict_s: float) -> Record:
    return {
        "pattern": pattern.pattern,
        "test_missing": pattern.test_missing,
        "kept": None if pattern.kept is None else list(pattern.kept),
        "realised_rate": round(pattern.plan.realised_rate, 6),
        "seed": pattern.plan.seed,
        "plan_hash": pattern.plan.hash,
        "predict_s": round(predict_s, 6),
    }


def _score(
    model: Fitted,
    test: MultimodalData,
    codes: np.ndarray,
    classes: np.ndarray,
    pattern: TestCondition,
) -> Record:
    from mmgraph.metrics import classification_scores

    masked = pattern.apply(test)
    start = time.perf_counter()
    with removing_modalities():
        predicted = model.predict_proba(masked)
    proba = align_proba(predicted, model.classes_, classes)
    predict_s = time.perf_counter() - start
    record = _condition_record(pattern, predict_s) | {
        "metrics": _rounded(classification_scores(codes, proba))
    }
    if pattern.corrupted is not None:
        record["corrupted"] = list(pattern.corrupted)
    if pattern.test_missing is not None:
        record |= class_counts(codes, proba)
    return record


def align_proba(
    proba: np.ndarray, known: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return probabilities over all `classes`; 0 for classes absent from training.

    Args:
        proba: Probabilities over the classes of a model, [N, K_known].
        known: The classes of the model.
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
