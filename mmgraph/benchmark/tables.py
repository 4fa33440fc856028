"""Tables of the benchmark.

Numbers are a mean and, after it, the standard error over splits.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mmgraph.benchmark.pairs import METRICS, PAIR_TASKS
from mmgraph.benchmark.summary import (
    SHORTCUT_LIMIT,
    Estimate,
    ModelSummary,
    SettingSummary,
    mean_ranks,
)
from mmgraph.evaluation.pairs import NUM_HARD_NEGATIVES
from mmgraph.evaluation.table import Table, number, signed
from mmgraph.metrics.scores import HEADINGS, metric_title


def cell(estimate: Estimate, digits: int = 3) -> str:
    """Return mean and standard error; the mean alone where there is no spread."""
    if math.isnan(estimate.mean) or math.isnan(estimate.error):
        return number(estimate.mean, digits)
    return f"{number(estimate.mean, digits)} ± {number(estimate.error, digits)}"


def block_title(block: SettingSummary) -> str:
    """Return the heading of a block."""
    return (
        f"{block.dataset}: {metric_title(block.metric)}, {block.facts['scheme']}"
        f"{_train_note(block)}"
    )


def _train_note(block: SettingSummary) -> str:
    if not block.train_missing:
        return ""
    return f", {block.train_missing:g} of training modalities removed"


def result_table(block: SettingSummary) -> Table:
    """Return one row per model, best area first."""
    rate_columns = tuple(f"{rate:g}" if rate else "as is" for rate in block.rates)
    columns = ("model", *rate_columns, "AURC", "worst without", "ECE", "log loss")
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
    """Return what the first table leaves out; None where nothing is classified."""
    if block.task != "classification":
        return None
    columns = ("model", "equity", "violations", "predict s", "fit MB")
    values = [
        (row.equity, row.violations, row.predict_s.mean, row.fit_mb.mean)
        for row in block.rows
    ]
    rows = tuple(
        (
            row.model,
            number(equity, 2),
            number(violations, 2),
            number(seconds, 2),
            number(mb, 0),
        )
        for row, (equity, violations, seconds, mb) in zip(
            block.rows, values, strict=True
        )
    )
    best = [
        _best([v[i] for v in values], higher) for i, higher in ((0, True), (1, False))
    ]
    return Table(
        f"{block.dataset}: how evenly modalities are used, and what it costs",
        columns,
        rows,
        (frozenset(), *best, frozenset(), frozenset()),
        (
            "Equity: the smallest loss without one modality over the mean one. "
            f"Violations: share of {_scored(block)} combinations of modalities that "
            "one modality more makes worse. Seconds to predict the test part once; "
            "megabytes that fitting takes at its peak, on one thread.",
        ),
    )


def _scored(block: SettingSummary) -> int:
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
    """Return every score of retrieval or matching, one table for each direction."""
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
            (row.model, *(cell(found[name]) for name in names))
            for row, found in zip(block.rows, scores, strict=True)
        ),
        (frozenset(), *(_best([s[name].mean for s in scores], True) for name in names)),
    )


def _row(row: ModelSummary, cells: list[Estimate]) -> tuple[str, ...]:
    *scores, fit = cells
    texts = [cell(estimate) for estimate in scores]
    worst, _ = row.worst
    texts[-3] = f"{texts[-3]} ({worst})" if worst else texts[-3]
    return (row.model, *texts, cell(fit, 1))


def _best(values: list[float], higher: bool) -> frozenset[int]:
    known = [round(v, 3) for v in values if not math.isnan(v)]
    if not known:
        return frozenset()
    top = max(known) if higher else min(known)
    return frozenset(i for i, value in enumerate(values) if round(value, 3) == top)


def _notes(block: SettingSummary) -> list[str]:
    notes = [
        f"Mean ± standard error over {block.num_splits} splits. "
        "AURC: area under the metric over the test missing rates, divided by their "
        "range."
    ]
    if block.task == "classification":
        notes[0] += " ECE and log loss: mean height over the same rates."
    else:
        notes += [_pair_note(block)]
    if block.has_shortcut:
        notes.append(shortcut_note(block))
    failures = Counter((f["model"], f["error"]) for f in block.failures)
    notes += [
        f"Failed: {model} on {count} split{'s' * (count > 1)}: {error}"
        for (model, error), count in failures.items()
    ]
    return notes


def _pair_note(block: SettingSummary) -> str:
    """Return what was asked in retrieval or matching."""
    how = (
        "Ties count against the model."
        if block.task == "retrieval"
        else f"Hard: one of the {NUM_HARD_NEGATIVES} wrong sides most like the right one in features."
    )
    return (
        f"{block.facts['note']} {how} Mean over the directions below; modalities are "
        "removed from queries only, and a query that lost all of them is not asked."
    )


def shortcut_note(block: SettingSummary) -> str:
    """Return the warning that missingness itself predicts the label."""
    return (
        "Shortcut: which modalities are present predicts the label by itself "
        f"(AUROC {number(block.facts['shortcut_auroc'], 2)} > "
        f"{number(SHORTCUT_LIMIT, 1)}); models may profit from it."
    )


def difference_table(block: SettingSummary) -> Table | None:
    """Return the paired differences in AURC; None for a single model."""
    if not block.differences:
        return None
    rows = tuple(
        (
            d.model,
            signed(d.mean),
            f"{signed(d.low)} to {signed(d.high)}",
            number(d.p),
        )
        for d in block.differences
    )
    return Table(
        f"{block.dataset}: {block.reference} minus the other, in AURC",
        ("other model", "difference", "95 % interval", "p (Holm)"),
        rows,
        (frozenset(),) * 4,
        (
            "Paired by split; interval of the corrected resampled t-test (Nadeau "
            "and Bengio), p-values corrected for all rows (Holm).",
        ),
    )


def name_of(block: SettingSummary) -> str:
    """Return the set, and the train rate where something was removed."""
    rate = f" @{block.train_missing:g}" if block.train_missing else ""
    return f"{block.dataset}{rate}"


def rank_table(blocks: Sequence[SettingSummary]) -> Table | None:
    """Return mean ranks over all blocks; None for a single block."""
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
        f"Mean rank by AURC over {len(blocks)} settings",
        ("model", "mean rank", *columns),
        rows,
        (frozenset(), lowest, *best),
        ("Rank 1 is best. Only models with results everywhere are ranked.",),
    )
