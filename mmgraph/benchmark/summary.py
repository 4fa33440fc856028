"""From lines of results to figures: means, spreads, areas, ranks, differences.

Everything is computed per split first (the mean over mask seeds), then over splits,
so that a standard error counts splits and not masks.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmgraph.benchmark.results import Record, Results

REFERENCE_MODELS = "mmgraph"
SHORTCUT_LIMIT = 0.6

Cells = dict[str, list[Record]]  # lines of one model by split


class Estimate(NamedTuple):
    """A mean over splits and its standard error.

    Attributes:
        mean: nan where there is no value.
        error: nan for a single split.
    """

    mean: float
    error: float


@dataclass(frozen=True)
class Difference:
    """By how much the reference model beats another in AURC, paired by split.

    Attributes:
        model: The other model.
        mean: Reference minus other.
        low: Lower end of the corrected 95 % interval; nan for one split.
        high: Upper end.
        p: Holm-corrected over the models of the data set; nan for one split.
    """

    model: str
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class ModelSummary:
    """Figures of one model on one data set.

    Attributes:
        model: Its name.
        at: The metric by test missing rate.
        aurc: Area under the metric over the test missing rate, by range.
        aurc_by_split: The same of each split.
        modality_subsets: Mean metric of each combination of modalities that was kept alone,
            and of all of them (as is).
        left_out: The metric without each modality in turn.
        equity: Smallest over mean drop when one modality is left out.
        violations: Share of combinations that one more modality makes worse.
        ece: Expected calibration error, mean height over the rates.
        log_loss: In nats, mean height over the rates.
        fit_s: Seconds to fit.
        fit_mb: Megabytes that fitting takes at its peak; nan where it is not known.
        predict_s: Seconds to predict the test part once.
        reliability: By rate: count, summed confidence and correct, [3, bins]; empty
            where nothing is classified.
        directions: Of retrieval and matching: every score by direction, at the lowest
            rate.
    """

    model: str
    at: dict[float, Estimate]
    aurc: Estimate
    aurc_by_split: dict[str, float]
    modality_subsets: dict[frozenset[str], float]
    left_out: dict[str, Estimate]
    equity: float
    violations: float
    ece: Estimate
    log_loss: Estimate
    fit_s: Estimate
    fit_mb: Estimate
    predict_s: Estimate
    reliability: dict[float, np.ndarray]
    directions: dict[str, dict[str, Estimate]]

    @property
    def worst(self) -> tuple[str, Estimate]:
        """The modality that is missed most, and the metric without it."""
        if not self.left_out:
            return "", Estimate(math.nan, math.nan)
        return min(self.left_out.items(), key=lambda item: item[1].mean)


@dataclass(frozen=True)
class SettingSummary:
    """All models on one data set at one train rate.

    Attributes:
        facts: What is known about the data set.
        train_missing: Train missing rate.
        metric: Name of the score that is shown.
        rates: Test rates that every model was scored at, rising.
        num_splits: Splits that every model was fitted on.
        rows: Models, best AURC first.
        differences: mmgraph (else the best model) against each other one.
        failures: Failed units.
    """

    facts: Record
    train_missing: float
    metric: str
    rates: tuple[float, ...]
    num_splits: int
    rows: tuple[ModelSummary, ...]
    differences: tuple[Difference, ...]
    failures: tuple[Record, ...]

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.facts["dataset"])

    @property
    def reference(self) -> str:
        """The model that the differences are taken from."""
        return reference_of([row.model for row in self.rows])

    @property
    def task(self) -> str:
        """What was asked: classification, retrieval or matching."""
        return str(self.facts.get("task", "classification"))

    @property
    def has_shortcut(self) -> bool:
        """Whether the presence mask alone predicts the label."""
        return bool(self.facts["shortcut_auroc"] > SHORTCUT_LIMIT)


def reference_of(models: list[str]) -> str:
    """Return mmgraph where it is among the models, else the first of them."""
    return REFERENCE_MODELS if REFERENCE_MODELS in models else models[0]


def summarise(results: Results) -> tuple[SettingSummary, ...]:
    """Summarise a folder of results.

    Returns:
        A block for each data set and train rate, in the order of the lines; none
        for an empty folder. Splits, rates and models that are incomplete are left
        out of the comparison: all figures of a block are over the same splits.
    """
    found = results.lines()
    facts = results.datasets(found)
    failures = results.failures()
    grouped: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for line in found:
        grouped[line["dataset"], line["train_missing"]].append(line)
    return tuple(
        _block(facts[name], rate, lines, failures)
        for (name, rate), lines in grouped.items()
    )


def _block(
    facts: Record, train_missing: float, lines: list[Record], failures: list[Record]
) -> SettingSummary:
    cells: dict[str, Cells] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        cells[line["model"]][line["split"]].append(line)
    splits = sorted(set.intersection(*(set(cell) for cell in cells.values())))
    cells = {m: {s: cell[s] for s in splits} for m, cell in cells.items()}
    rates = _shared_rates(cells)
    metric = str(facts["metric"])
    rows = [_summary(model, cell, rates, metric) for model, cell in cells.items()]
    rows.sort(key=lambda row: -row.aurc.mean)
    ratio = float(np.mean([x["num_test"] / x["num_train"] for x in lines]))
    return SettingSummary(
        facts,
        train_missing,
        metric,
        rates,
        len(splits),
        tuple(rows),
        _differences(rows, ratio),
        tuple(
            f
            for f in failures
            if f["dataset"] == facts["dataset"] and f["train_missing"] == train_missing
        ),
    )


def _shared_rates(cells: dict[str, Cells]) -> tuple[float, ...]:
    found = [
        {line["test_missing"] for line in lines} - {None}
        for cell in cells.values()
        for lines in cell.values()
    ]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _summary(
    model: str, cell: Cells, rates: tuple[float, ...], metric: str
) -> ModelSummary:
    at = {rate: [_mean(c, rate, metric) for c in cell.values()] for rate in rates}
    areas = {split: _area(lines, rates, metric) for split, lines in cell.items()}
    combinations = _combinations(cell, metric)
    left_out = _left_out(combinations)
    full = at[rates[0]] if rates else []
    drops = estimate(full).mean - np.array([e.mean for e in left_out.values()])
    modality_subsets = _with_all({k: e.mean for k, e in combinations.items()}, full)
    return ModelSummary(
        model=model,
        at={rate: estimate(values) for rate, values in at.items()},
        aurc=estimate(areas.values()),
        aurc_by_split=areas,
        modality_subsets=modality_subsets,
        left_out=left_out,
        equity=_equity(drops),
        violations=_violations(modality_subsets),
        ece=estimate(
            _area(c, rates, "expected_calibration_error") for c in cell.values()
        ),
        log_loss=estimate(_area(c, rates, "log_loss") for c in cell.values()),
        fit_s=estimate(lines[0]["fit_s"] for lines in cell.values()),
        fit_mb=estimate(_known(lines[0]["fit_mb"]) for lines in cell.values()),
        predict_s=estimate(lines[0]["predict_s"] for lines in cell.values()),
        reliability={
            rate: _reliability(cell, rate) for rate in _classified(cell, rates)
        },
        directions=_directions(cell, rates),
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _equity(drops: np.ndarray) -> float:
    from mmgraph.metrics import equity

    return equity(drops) if len(drops) else math.nan


def _mean(lines: list[Record], rate: float, metric: str) -> float:
    """Return the mean of a metric over the mask seeds of a rate; nan for another's."""
    values = [
        x["metrics"].get(metric, math.nan) for x in lines if x["test_missing"] == rate
    ]
    return float(np.mean(values))


def _classified(cell: Cells, rates: tuple[float, ...]) -> tuple[float, ...]:
    lines = (line for lines in cell.values() for line in lines)
    at = (line for line in lines if line["test_missing"] is not None)
    return rates if all("reliability" in line for line in at) else ()


def _directions(
    cell: Cells, rates: tuple[float, ...]
) -> dict[str, dict[str, Estimate]]:
    """Return the scores of each direction at the lowest rate, over splits."""
    found: dict[str, dict[str, list[float]]] = {}
    for lines in cell.values():
        at = [x.get("directions", {}) for x in lines if x["test_missing"] in rates[:1]]
        for direction, scores in at[0].items() if at else ():
            for name in scores:
                mean = float(np.mean([x[direction][name] for x in at]))
                found.setdefault(direction, {}).setdefault(name, []).append(mean)
    return {
        direction: {name: estimate(values) for name, values in scores.items()}
        for direction, scores in found.items()
    }


def _area(lines: list[Record], rates: tuple[float, ...], metric: str) -> float:
    from mmgraph.metrics import aurc

    if not rates:
        return math.nan
    return aurc(np.array(rates), np.array([_mean(lines, r, metric) for r in rates]))


def _combinations(cell: Cells, metric: str) -> dict[frozenset[str], Estimate]:
    """Return the metric of every combination of modalities that was kept alone."""
    values: dict[frozenset[str], list[float]] = defaultdict(list)
    for lines in cell.values():
        for line in lines:
            if line["kept"] is not None:
                values[frozenset(line["kept"])].append(line["metrics"][metric])
    return {kept: estimate(found) for kept, found in values.items()}


def _left_out(combinations: dict[frozenset[str], Estimate]) -> dict[str, Estimate]:
    """Return those that lack one modality, by its name."""
    every = _modalities(combinations)
    return {
        next(iter(every - kept)): found
        for kept, found in combinations.items()
        if len(kept) == len(every) - 1
    }


def _modalities(combinations: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*combinations)


def _with_all(
    combinations: dict[frozenset[str], float], full: list[float]
) -> dict[frozenset[str], float]:
    if not combinations or not full:
        return combinations
    return combinations | {_modalities(combinations): float(np.mean(full))}


def _violations(scores: dict[frozenset[str], float]) -> float:
    from mmgraph.metrics import monotonicity_violations

    return monotonicity_violations(scores)


def _reliability(cell: Cells, rate: float) -> np.ndarray:
    counts = [
        [line["reliability"][key] for key in ("count", "confidence", "correct")]
        for lines in cell.values()
        for line in lines
        if line["test_missing"] == rate
    ]
    return np.asarray(np.sum(counts, axis=0))


def estimate(values: Iterable[float]) -> Estimate:
    """Return mean and standard error; nan for what cannot be known."""
    array = np.array(list(values), dtype=float)
    if not len(array):
        return Estimate(math.nan, math.nan)
    if len(array) == 1:
        return Estimate(float(array[0]), math.nan)
    error = array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(float(array.mean()), float(error))


def _differences(rows: list[ModelSummary], ratio: float) -> tuple[Difference, ...]:
    from mmgraph.metrics import holm, paired_difference

    by_name = {row.model: row for row in rows}
    if len(rows) < 2 or not rows[0].aurc_by_split:
        return ()
    ours = by_name.pop(reference_of(list(by_name)))
    a = np.array(list(ours.aurc_by_split.values()))
    found = [
        paired_difference(a, np.array(list(row.aurc_by_split.values())), ratio)
        for row in by_name.values()
    ]
    p = np.array([difference.p for difference in found])
    corrected = p if np.isnan(p).any() else holm(p)
    return tuple(
        Difference(name, d.mean, d.low, d.high, float(p_value))
        for name, d, p_value in zip(by_name, found, corrected, strict=True)
    )


def mean_ranks(blocks: Iterable[SettingSummary]) -> dict[str, float]:
    """Return the mean rank by AURC of each model, best first.

    Only models that are in every block are ranked, among each other; equal areas
    share a rank. Blocks whose models have no missing rate in common do not count.
    """
    from scipy.stats import rankdata

    areas = [
        {row.model: row.aurc.mean for row in block.rows}
        for block in blocks
        if block.rates
    ]
    if not areas:
        return {}
    models = [m for m in areas[0] if all(m in area for area in areas)]
    table = [[-area[model] for model in models] for area in areas]
    means = rankdata(table, axis=1).mean(axis=0) if models else []
    ranks = dict(zip(models, map(float, means), strict=True))
    return dict(sorted(ranks.items(), key=lambda item: item[1]))
