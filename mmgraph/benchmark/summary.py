"""Statistics of result lines: means, standard errors, areas, ranks and differences.

Everything is computed per split first (the mean over mask seeds), then over splits,
so that a standard error is over splits and not over masks.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mmgraph.benchmark.results import Record, Results

REFERENCE_MODEL = "mmgraph"
CONTROL = "mmgraph_no_edges"
SHORTCUT_LIMIT = 0.6  # AUROC of the presence mask above which a warning is shown

Cells = dict[str, list[Record]]  # lines of one model by split


class Estimate(NamedTuple):
    """A mean over splits and its standard error.

    Attributes:
        mean: NaN where there is no value.
        error: NaN for a single split.
    """

    mean: float
    error: float


class ContributionSummary(NamedTuple):
    """Contribution of a modality to the mean log score, over splits.

    Attributes:
        share: Shapley value; NaN if not all subsets were scored.
        alone: Gain over class frequencies.
        last: Gain over all other modalities.
    """

    share: Estimate
    alone: Estimate
    last: Estimate


@dataclass(frozen=True)
class Difference:
    """Difference in AURC between the reference model and another, paired by split.

    Attributes:
        model: The other model.
        mean: Reference minus other.
        low: Lower bound of the corrected 95% interval; NaN for one split.
        high: Upper bound.
        p: p-value, Holm-corrected over the models of the setting; NaN for one split.
    """

    model: str
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class ModelSummary:
    """Statistics of one model in one setting.

    Attributes:
        model: Its name.
        at: The metric by test missing rate.
        aurc: Area under the robustness curve: the metric over the test missing rates,
            divided by their range.
        aurc_by_split: The same for each split.
        modality_subsets: Mean metric of each scored subset of modalities, the full set
            included.
        left_out: The metric without each modality in turn.
        equity: Modality-balance ratio: smallest over mean decrease of the metric when
            one modality is left out.
        violations: Monotonicity violations: share of subsets whose metric decreases
            when one modality is added.
        ece: Expected calibration error, mean over the rates.
        log_loss: Log loss in nats, mean over the rates.
        fit_s: Seconds to fit.
        fit_mb: Peak memory of fitting in megabytes; NaN where it is unknown.
        predict_s: Seconds to predict the test part once.
        reliability: By rate: count, sums of confidence and of correct, [3, bins]; empty
            for retrieval and matching.
        roc: By rate: true-positive rates at equally spaced false-positive rates, mean
            over splits; empty if lines lack them, like those of older results.
        confusion: By rate: samples of all splits by true and most probable class,
            [K, K]; empty if lines lack it or there are many classes.
        directions: For retrieval and matching: all scores by direction, at the lowest
            rate.
        corrupted: The metric by corruption and modality, without extra removal.
        contributions: By modality, what it contributes to the log score in nats, see
            :class:`ContributionSummary`; empty for retrieval and matching.
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
    corrupted: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    contributions: dict[str, ContributionSummary] = field(default_factory=dict)
    roc: dict[float, np.ndarray] = field(default_factory=dict)
    confusion: dict[float, np.ndarray] = field(default_factory=dict)

    @property
    def worst(self) -> tuple[str, Estimate]:
        """The modality whose removal gives the lowest metric, and that metric."""
        if not self.left_out:
            return "", Estimate(math.nan, math.nan)
        return min(self.left_out.items(), key=lambda item: item[1].mean)


@dataclass(frozen=True)
class SettingSummary:
    """All models on one data set at one train rate.

    Attributes:
        facts: Description of the data set.
        train_missing: Train missing rate.
        metric: Name of the score that is shown.
        rates: Test missing rates that all models have in common, increasing.
        num_splits: Splits that all models have in common.
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
        """The task: classification, retrieval or matching."""
        return str(self.facts.get("task", "classification"))

    @property
    def has_shortcut(self) -> bool:
        """Whether the presence mask alone predicts the label."""
        return bool(self.facts["shortcut_auroc"] > SHORTCUT_LIMIT)


def reference_of(models: list[str]) -> str:
    """Return mmgraph where it is among the models, else the first of them."""
    return REFERENCE_MODEL if REFERENCE_MODEL in models else models[0]


def summarise(results: Results) -> tuple[SettingSummary, ...]:
    """Summarise a folder of results.

    Returns:
        One summary per data set and train rate, in the order of the lines; none for an
        empty folder. Splits and rates that some model lacks are left out, so that all
        statistics of a setting are over the same splits.
    """
    all_lines = results.lines()
    facts = results.datasets(all_lines)
    failures = results.failures(all_lines)
    grouped: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for line in all_lines:
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
    rows = [
        _summary(model, cell, rates, metric, _class_entropy(facts))
        for model, cell in cells.items()
    ]
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
    by_split = [
        {line["test_missing"] for line in lines} - {None}
        for cell in cells.values()
        for lines in cell.values()
    ]
    return tuple(sorted(set.intersection(*by_split))) if by_split else ()


def _summary(
    model: str, cell: Cells, rates: tuple[float, ...], metric: str, entropy: float
) -> ModelSummary:
    at = {rate: [_mean(c, rate, metric) for c in cell.values()] for rate in rates}
    areas = {split: _area(lines, rates, metric) for split, lines in cell.items()}
    subsets = _subsets(cell, metric)
    left_out = _left_out(subsets)
    full = at[rates[0]] if rates else []
    drops = estimate(full).mean - np.array([e.mean for e in left_out.values()])
    modality_subsets = _with_all({k: e.mean for k, e in subsets.items()}, full)
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
        corrupted=_corrupted(cell, metric),
        contributions=_contributions(cell, rates, entropy),
        roc={r: np.mean(v, axis=0) for r, v in _recorded(cell, rates, "roc").items()},
        confusion={
            r: np.sum(v, axis=0) for r, v in _recorded(cell, rates, "confusion").items()
        },
    )


def _class_entropy(facts: Record) -> float:
    """Return the log loss of the class frequencies; NaN without classes."""
    counts = np.array([count for _, count in facts.get("classes", ())], dtype=float)
    share = counts[counts > 0] / counts.sum() if counts.any() else np.array([math.nan])
    return float(-(share * np.log(share)).sum())


def _corrupted(cell: Cells, metric: str) -> dict[str, dict[str, Estimate]]:
    """Return the metric by corruption and modality."""
    values: dict[str, dict[str, list[float]]] = {}
    for line in (line for lines in cell.values() for line in lines):
        if line.get("corrupted"):
            name, modality = line["corrupted"]
            each = values.setdefault(name, {}).setdefault(modality, [])
            each.append(line["metrics"][metric])
    return {
        name: {modality: estimate(scores) for modality, scores in each.items()}
        for name, each in values.items()
    }


def _contributions(
    cell: Cells, rates: tuple[float, ...], entropy: float
) -> dict[str, ContributionSummary]:
    """Return the contributions of the modalities to the log score over splits."""
    by_split = [_log_scores(lines, rates, entropy) for lines in cell.values()]
    names = sorted(_modalities(by_split[0])) if by_split else []
    if len(names) < 2 or math.isnan(entropy) or not rates or rates[0] > 0:
        return {}
    everyone, nothing = frozenset(names), frozenset[str]()
    parts = [_shares(scores, names) for scores in by_split]
    result = {}
    for m, name in enumerate(names):
        own = frozenset({name})
        alone = [s[own] - s[nothing] for s in by_split if own in s]
        last = [
            s[everyone] - s[everyone - own] for s in by_split if everyone - own in s
        ]
        shares = [part[m] for part in parts if part is not None]
        result[name] = ContributionSummary(
            estimate(shares), estimate(alone), estimate(last)
        )
    return result


def _log_scores(
    lines: list[Record], rates: tuple[float, ...], entropy: float
) -> dict[frozenset[str], float]:
    """Return the mean log score of each scored subset of modalities of a split."""
    scores = {
        frozenset(line["kept"]): -line["metrics"].get("log_loss", math.nan)
        for line in lines
        if line["kept"] is not None
    }
    everyone = _modalities(scores)
    full = -_mean(lines, rates[0], "log_loss") if rates else math.nan
    return scores | {everyone: full, frozenset(): -entropy}


def _shares(scores: dict[frozenset[str], float], names: list[str]) -> np.ndarray | None:
    """Return the Shapley values ``[M]``; None if a subset was not scored."""
    from mmgraph.metrics.coalitions import Coalitions

    game = Coalitions(len(names))
    shapley = game.shapley()  # requests the coalitions
    kept = [frozenset(np.array(names)[row].tolist()) for row in game.keep]
    if any(each not in scores for each in kept):
        return None
    values = np.array([scores[each] for each in kept])
    return np.asarray(shapley(values[None, :, None])[0, :, 0])


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _equity(drops: np.ndarray) -> float:
    from mmgraph.metrics import equity

    return equity(drops) if len(drops) else math.nan


def _mean(lines: list[Record], rate: float, metric: str) -> float:
    """Return the mean of a metric over the mask seeds of a rate; NaN without it."""
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
    values: dict[str, dict[str, list[float]]] = {}
    for lines in cell.values():
        at = [x.get("directions", {}) for x in lines if x["test_missing"] in rates[:1]]
        for direction, scores in at[0].items() if at else ():
            for name in scores:
                mean = float(np.mean([x[direction][name] for x in at]))
                values.setdefault(direction, {}).setdefault(name, []).append(mean)
    return {
        direction: {name: estimate(means) for name, means in scores.items()}
        for direction, scores in values.items()
    }


def _area(lines: list[Record], rates: tuple[float, ...], metric: str) -> float:
    from mmgraph.metrics import aurc

    if not rates:
        return math.nan
    return aurc(np.array(rates), np.array([_mean(lines, r, metric) for r in rates]))


def _subsets(cell: Cells, metric: str) -> dict[frozenset[str], Estimate]:
    """Return the metric of every scored subset of modalities."""
    values: dict[frozenset[str], list[float]] = defaultdict(list)
    for lines in cell.values():
        for line in lines:
            if line["kept"] is not None:
                values[frozenset(line["kept"])].append(line["metrics"][metric])
    return {kept: estimate(scores) for kept, scores in values.items()}


def _left_out(subsets: dict[frozenset[str], Estimate]) -> dict[str, Estimate]:
    """Return the subsets without one modality, by its name."""
    every = _modalities(subsets)
    return {
        next(iter(every - kept)): score
        for kept, score in subsets.items()
        if len(kept) == len(every) - 1
    }


def _modalities(subsets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*subsets)


def _with_all(
    subsets: dict[frozenset[str], float], full: list[float]
) -> dict[frozenset[str], float]:
    if not subsets or not full:
        return subsets
    return subsets | {_modalities(subsets): float(np.mean(full))}


def _violations(scores: dict[frozenset[str], float]) -> float:
    from mmgraph.metrics import monotonicity_violations

    return monotonicity_violations(scores)


def _recorded(
    cell: Cells, rates: tuple[float, ...], key: str
) -> dict[float, list[Any]]:
    """Return the entries of a key by rate; empty unless all lines have it."""
    lines = [line for lines in cell.values() for line in lines]
    by_rate = {r: [x for x in lines if x["test_missing"] == r] for r in rates}
    if not all(key in line for each in by_rate.values() for line in each):
        return {}
    return {rate: [line[key] for line in each] for rate, each in by_rate.items()}


def _reliability(cell: Cells, rate: float) -> np.ndarray:
    counts = [
        [line["reliability"][key] for key in ("count", "confidence", "correct")]
        for lines in cell.values()
        for line in lines
        if line["test_missing"] == rate
    ]
    return np.asarray(np.sum(counts, axis=0))


def estimate(values: Iterable[float]) -> Estimate:
    """Return mean and standard error; NaN where they are undefined."""
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
    reference = by_name.pop(reference_of(list(by_name)))
    a = np.array(list(reference.aurc_by_split.values()))
    differences = [
        paired_difference(a, np.array(list(row.aurc_by_split.values())), ratio)
        for row in by_name.values()
    ]
    p = np.array([difference.p for difference in differences])
    corrected = p if np.isnan(p).any() else holm(p)
    return tuple(
        Difference(name, d.mean, d.low, d.high, float(p_value))
        for name, d, p_value in zip(by_name, differences, corrected, strict=True)
    )


def mean_ranks(blocks: Iterable[SettingSummary]) -> dict[str, float]:
    """Return the mean rank by AURC of each model, best first.

    Only models with results in all settings are ranked; equal areas share a rank.
    Settings whose models have no missing rate in common are left out.
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
