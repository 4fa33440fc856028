"""Tables of the benchmark.

Numbers are a mean over splits and, after it, the standard error.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmgraph.benchmark.pairs import METRICS, PAIR_TASKS
from mmgraph.benchmark.summary import (
    CONTROL,
    SHORTCUT_LIMIT,
    Difference,
    Estimate,
    ModelSummary,
    SettingSummary,
    mean_ranks,
)
from mmgraph.evaluation.pairs import NUM_HARD_NEGATIVES
from mmgraph.evaluation.table import DASH, Table, amount, interval, number, signed
from mmgraph.metrics.scores import HEADINGS, metric_title

AREA = "mean over rates"
AREA_NOTE = (
    "The mean over rates is the area under the robustness curve, divided by the range "
    "of the missing rates"
)
WORST = "worst leave-one-modality-out"
NO_REMOVAL = "no extra removal"


def cell(estimate: Estimate, digits: int = 3) -> str:
    """Format mean and standard error; the mean alone without a standard error."""
    if math.isnan(estimate.mean) or math.isnan(estimate.error):
        return number(estimate.mean, digits)
    return f"{number(estimate.mean, digits)} ± {amount(estimate.error, digits)}"


def cost_cell(estimate: Estimate, digits: int) -> str:
    """Format a cost, such as seconds; "<0.1" where it is below the precision."""
    text = amount(estimate.mean, digits)
    if text.startswith("<") or text == DASH or math.isnan(estimate.error):
        return text
    return f"{text} ± {amount(estimate.error, digits)}"


def p_cell(p: float) -> str:
    """Format a p-value; "<0.001" where it is below the precision."""
    return amount(p, 3)


def block_title(block: SettingSummary) -> str:
    """Return the heading of a setting."""
    return (
        f"{block.dataset}: {metric_title(block.metric)}, {block.facts['scheme']}"
        f"{_train_note(block)}"
    )


def _train_note(block: SettingSummary) -> str:
    if not block.train_missing:
        return ""
    return f", {block.train_missing:g} of training modalities removed"


def result_table(block: SettingSummary) -> Table:
    """Return one row per model, best mean over missing rates first."""
    rate_columns = tuple(f"{rate:g}" if rate else NO_REMOVAL for rate in block.rates)
    columns = ("model", *rate_columns, AREA, WORST, "ECE", "log loss")
    estimates = [
        (*row.at.values(), row.aurc, row.worst[1], row.ece, row.log_loss, row.fit_s)
        for row in block.rows
    ]
    rows = tuple(map(_row, block.rows, map(list, estimates)))
    higher = [True] * (len(block.rates) + 2) + [False] * 2  # all but seconds
    best = [_best([e[i].mean for e in estimates], up) for i, up in enumerate(higher)]
    table = Table(
        block_title(block),
        (*columns, "fit s"),
        rows,
        (frozenset(), *best, frozenset()),
        tuple(_notes(block)),
    )
    return table if block.task == "classification" else _without(table, columns[-3:])


def detail_table(block: SettingSummary) -> Table | None:
    """Return balance, monotonicity and cost; None for retrieval and matching."""
    if block.task != "classification":
        return None
    columns = ("modality-balance ratio", "monotonicity violations")
    rows = tuple(
        (
            row.model,
            number(row.equity, 2),
            number(row.violations, 2),
            amount(row.predict_s.mean, 2),
            amount(row.fit_mb.mean, 0),
        )
        for row in block.rows
    )
    best = [
        _best([row.equity for row in block.rows], True),
        _best([row.violations for row in block.rows], False),
    ]
    return Table(
        f"{block.dataset}: balance of modalities and cost",
        ("model", *columns, "predict s", "fit MB"),
        rows,
        (frozenset(), *best, frozenset(), frozenset()),
        (
            "Modality-balance ratio: smallest over mean decrease of the score when one "
            "modality is left out; 1 if the model depends equally on all of them. "
            f"Monotonicity violations: share of the {_num_subsets(block)} subsets of "
            "modalities whose score decreases when one modality is added. Predict s: "
            "seconds for one pass over the test part. Fit MB: peak memory of fitting. "
            "All costs on one thread.",
        ),
    )


def contribution_table(block: SettingSummary) -> Table | None:
    """Return the contributions of the modalities of the reference model, or None."""
    reference = next((r for r in block.rows if r.model == block.reference), None)
    if reference is None or not reference.contributions:
        return None
    rows = sorted(
        reference.contributions.items(), key=lambda item: -_order(item[1].share)
    )
    return Table(
        f"{block.dataset}: contributions of the modalities to {reference.model}"
        f"{_train_note(block)}",
        ("modality", "share", "alone", "last"),
        tuple((name, *map(_signed_cell, each)) for name, each in rows),
        (frozenset(),) * 4,
        (
            "Gains of the mean log score in nats on the test parts. Share: Shapley "
            "value, of up to 6 modalities. Alone: gain over the class frequencies. "
            "Last: gain over all other modalities.",
        ),
    )


def _order(estimate: Estimate) -> float:
    return -math.inf if math.isnan(estimate.mean) else estimate.mean


def _signed_cell(estimate: Estimate) -> str:
    text = cell(estimate)
    return text if math.isnan(estimate.mean) or estimate.mean < 0 else f"+{text}"


def corruption_table(block: SettingSummary) -> Table | None:
    """Return the scores on corrupted test samples; None without corruptions."""
    rows = [row for row in block.rows if row.corrupted]
    if not rows:
        return None
    names = list(rows[0].corrupted)
    lines, means = [], []
    for row in rows:
        each = [_corruption_cell(row.corrupted[name]) for name in names]
        full = next(iter(row.at.values())) if row.at else Estimate(math.nan, math.nan)
        lines.append((row.model, cell(full), *(text for text, _ in each)))
        means.append([full.mean, *(mean for _, mean in each)])
    best = [_best([m[i] for m in means], True) for i in range(len(names) + 1)]
    return Table(
        f"{block.dataset}: {metric_title(block.metric)} on corrupted test samples"
        f"{_train_note(block)}",
        ("model", "not corrupted", *names),
        tuple(lines),
        (frozenset(), *best),
        (
            "Each modality is corrupted in turn, without extra removal: mean over the "
            "modalities, and the lowest score with its modality in parentheses. noise: "
            "Gaussian noise in standard deviations; scale: factor; shuffle: content of "
            "another sample; swap: content of a sample of another class.",
        ),
    )


def _corruption_cell(by_modality: dict[str, Estimate]) -> tuple[str, float]:
    """Return the mean over modalities with the lowest score, and the mean."""
    mean = float(np.mean([each.mean for each in by_modality.values()]))
    modality, lowest = min(by_modality.items(), key=lambda item: item[1].mean)
    return f"{number(mean)} ({number(lowest.mean)} {modality})", mean


def _num_subsets(block: SettingSummary) -> int:
    return len(block.rows[0].modality_subsets) if block.rows else 0


def _without(table: Table, columns: Sequence[str]) -> Table:
    """Return the table without some columns."""
    kept = [i for i, name in enumerate(table.columns) if name not in columns]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
        best=tuple(table.best[i] for i in kept),
    )


def direction_tables(block: SettingSummary) -> list[Table]:
    """Return all scores of retrieval or matching, one table per direction."""
    task = PAIR_TASKS.get(block.dataset)
    if task is None or not block.rows:
        return []
    names = [str(direction) for direction in task.directions]
    return [_direction_table(block, n) for n in names if n in block.rows[0].directions]


def _direction_table(block: SettingSummary, direction: str) -> Table:
    scores = [row.directions[direction] for row in block.rows]
    names = METRICS[block.task]
    headings = (HEADINGS.get(name, metric_title(name)) for name in names)
    rate = f", {block.rates[0]:g} removed" if any(block.rates[:1]) else ""
    return Table(
        f"{block.dataset}: {direction}{rate}{_train_note(block)}",
        ("model", *headings),
        tuple(
            (row.model, *(cell(by_name[name]) for name in names))
            for row, by_name in zip(block.rows, scores, strict=True)
        ),
        (frozenset(), *(_best([s[name].mean for s in scores], True) for name in names)),
    )


def _row(row: ModelSummary, cells: list[Estimate]) -> tuple[str, ...]:
    *scores, fit = cells
    texts = [cell(estimate) for estimate in scores]
    worst, _ = row.worst
    texts[-3] = f"{texts[-3]} ({worst})" if worst else texts[-3]
    return (row.model, *texts, cost_cell(fit, 1))


def _best(values: list[float], higher: bool) -> frozenset[int]:
    known = [round(v, 3) for v in values if not math.isnan(v)]
    if not known:
        return frozenset()
    top = max(known) if higher else min(known)
    return frozenset(i for i, value in enumerate(values) if round(value, 3) == top)


def _notes(block: SettingSummary) -> list[str]:
    notes = [
        f"Mean ± standard error over {block.num_splits} splits. Columns of numbers: "
        f"share of observed modalities removed at test time. {AREA_NOTE}."
    ]
    if block.task == "classification":
        notes[0] += (
            " ECE (expected calibration error) and log loss: means over the same rates."
            f" {WORST.capitalize()}: lowest score with one modality (in parentheses) "
            "removed from all test samples."
        )
    else:
        notes += [_pair_note(block)]
    notes += [split_note(block)]
    if block.task == "classification":
        notes += [class_note(block)]
    if block.has_shortcut:
        notes.append(shortcut_note(block))
    failures = Counter((f["model"], f["error"]) for f in block.failures)
    notes += [
        f"Failed: {model} on {count} split{'s' * (count > 1)}: {error}"
        for (model, error), count in failures.items()
    ]
    return notes


def _pair_note(block: SettingSummary) -> str:
    """Return the definition of relevance and of the negatives."""
    how = (
        "Ties count against the model."
        if block.task == "retrieval"
        else f"Hard pairs: negatives drawn from the {NUM_HARD_NEGATIVES} wrong sides "
        "most similar to the right one in features."
    )
    note = PAIR_TASKS[block.dataset].note if block.dataset in PAIR_TASKS else ""
    note = note or block.facts["note"]
    return (
        f"{note} {how} Mean over the directions below; modalities are removed from "
        "queries only, and empty queries are skipped."
    )


def split_note(block: SettingSummary) -> str:
    """Return how training and test parts were made, and the role of groups."""
    scheme, unit = str(block.facts["scheme"]), _group_unit(block)
    group = unit or "group"
    if "stratified" in scheme:
        text = f"Splits: {scheme}, drawn at random within each class."
        if unit:
            text += (
                f" Groups are ignored: samples of one {unit} are in the training and "
                f"in the test part, so that scores are within the known {unit}s and "
                f"not those on a new {unit}."
            )
        return text
    if "grouped" in scheme:
        return f"Splits: {scheme}; all samples of one {group} are in the same fold."
    if "held out" in scheme:
        return f"Splits: {scheme}; all samples of one {group} are in the same part."
    return f"Splits: {scheme}; models are trained with several seeds."


def _group_unit(block: SettingSummary) -> str | None:
    """Return what a group of the data set is, such as a hospital; None if unknown."""
    from mmgraph.datasets.load import dataset_card, dataset_names

    if "group" in block.facts:
        return block.facts["group"] or None
    task = PAIR_TASKS.get(block.dataset)
    name = task.dataset if task else block.dataset
    return dataset_card(name).group if name in dataset_names() else None


def class_note(block: SettingSummary) -> str:
    """Return class balance and the chance level of the metric."""
    counts = [count for _, count in block.facts.get("classes", ())]
    title = metric_title(block.metric)
    level = chance_level(block.metric, counts, block.facts["num_classes"])
    chance = "" if level is None else f"Chance level of {title}: {number(level, 3)}."
    if not counts:
        return chance or f"{block.facts['num_classes']} classes."
    share = 100 * max(counts) / sum(counts)
    shown = block.facts["classes"][:6]
    more = f" and {len(counts) - 6} others" if len(counts) > 6 else ""
    listed = ", ".join(f"{label}: {count}" for label, count in shown)
    text = f"Classes: {listed}{more}; the largest is {share:.1f}% of the samples."
    return f"{text} {chance}".strip()


def chance_level(metric: str, counts: Sequence[int], num_classes: int) -> float | None:
    """Return the score of a constant prediction of the most frequent class.

    Args:
        metric: Name of a metric of classification.
        counts: Samples of each class; empty where they are not recorded.
        num_classes: Number of classes.

    Returns:
        The expected score; None where it depends on counts that are not recorded.

    Example:
        >>> from mmgraph.benchmark.tables import chance_level
        >>> chance_level("accuracy", [30, 10], 2), chance_level("auroc", [], 2)
        (0.75, 0.5)
    """
    if metric == "auroc":
        return 0.5
    if metric == "balanced_accuracy":
        return 1 / num_classes
    if not counts:
        return None
    share = max(counts) / sum(counts)
    return share if metric == "accuracy" else 2 * share / (1 + share) / num_classes


def shortcut_note(block: SettingSummary) -> str:
    """Return the warning that missingness by itself predicts the label."""
    return (
        "Warning: informative missingness. The presence mask alone reaches AUROC "
        f"{number(block.facts['shortcut_auroc'], 2)} (threshold "
        f"{number(SHORTCUT_LIMIT, 2)}); models can exploit which modalities are "
        "present."
    )


def confusion_table(block: SettingSummary) -> Table | None:
    """Return shares of predicted classes by true class, at the lowest rate.

    None if the results lack counts, as those of many classes and older ones do.
    """
    reference = next(row for row in block.rows if row.model == block.reference)
    if not reference.confusion:
        return None
    counts = reference.confusion[block.rates[0]]
    labels = [str(label) for label, _ in block.facts["classes"]]
    totals = counts.sum(1)
    rows = tuple(
        (label, *(f"{100 * n / max(total, 1):.1f}%" for n in row))
        for label, row, total in zip(labels, counts, totals, strict=True)
    )
    return Table(
        f"{block.dataset}: confusion matrix of {block.reference}",
        ("true class", *(f"predicted {label}" for label in labels)),
        rows,
        (frozenset(),) * (1 + len(labels)),
        (
            "Share of the test samples of a true class that have each predicted class, "
            f"over {block.num_splits} splits, {_rate_text(block.rates[0])}. The "
            "predicted class is the most probable one.",
        ),
    )


def _rate_text(rate: float) -> str:
    return f"{rate:g} of the modalities removed" if rate else NO_REMOVAL


def difference_table(block: SettingSummary) -> Table | None:
    """Return the paired differences of means over rates; None for a single model."""
    if not block.differences:
        return None
    rows = tuple(
        (d.model, signed(d.mean), interval(d.low, d.high), p_cell(d.p))
        for d in block.differences
    )
    notes = [
        "Paired by split. Intervals: corrected resampled t-test (Nadeau and Bengio), "
        f"each comparison on its own. p: corrected for {len(rows)} comparisons (Holm)."
    ]
    notes += [note] if (note := edge_note(block)) else []
    return Table(
        f"{block.dataset}: {block.reference} minus the other model, "
        f"{metric_title(block.metric)} {AREA}",
        ("other model", "difference", "95% CI", "p (Holm)"),
        rows,
        (frozenset(),) * 4,
        tuple(notes),
    )


def edge_note(block: SettingSummary) -> str | None:
    """Return what edges between modalities gain; None without both models."""
    found = [d for d in block.differences if d.model == CONTROL]
    if not found or block.reference == CONTROL:
        return None
    return (
        f"Gain of edges between modalities ({block.reference} minus {CONTROL}): "
        f"{describe_difference(found[0])}."
    )


def describe_difference(difference: Difference) -> str:
    """Return a difference with its interval and p-value as text.

    Example:
        >>> from mmgraph.benchmark.summary import Difference
        >>> from mmgraph.benchmark.tables import describe_difference
        >>> describe_difference(Difference("other", 0.012, 0.002, 0.021, 0.158))
        '+0.012, 95% CI [0.002, 0.021], p = 0.158'
    """
    if math.isnan(difference.low):
        return signed(difference.mean)
    p = p_cell(difference.p)
    shown = p.replace("<", "< ") if p.startswith("<") else f"= {p}"
    bounds = interval(difference.low, difference.high)
    return f"{signed(difference.mean)}, 95% CI {bounds}, p {shown}"


def name_of(block: SettingSummary) -> str:
    """Return the data set, and the train rate where something was removed."""
    rate = f" @{block.train_missing:g}" if block.train_missing else ""
    return f"{block.dataset}{rate}"


def rank_table(blocks: Sequence[SettingSummary]) -> Table | None:
    """Return mean ranks over all settings; None for a single setting."""
    ranks = mean_ranks(blocks)
    if len(blocks) < 2 or not ranks:
        return None
    areas = [{row.model: row.aurc for row in block.rows} for block in blocks]
    columns = tuple(map(name_of, blocks))
    rows = tuple(
        (model, number(rank, 2), *(number(area[model].mean) for area in areas))
        for model, rank in ranks.items()
    )
    best = [_best([area[model].mean for model in ranks], True) for area in areas]
    lowest = _best(list(ranks.values()), False)
    return Table(
        f"Mean rank by {AREA}, {len(blocks)} settings",
        ("model", "mean rank", *columns),
        rows,
        (frozenset(), lowest, *best),
        (
            f"Rank 1 is best. Only models with results in all settings are ranked. "
            f"{AREA_NOTE}.",
        ),
    )
