"""Summary of the benchmark over all settings, as sentences and tables."""

import math
from collections.abc import Sequence

from mmgraph.benchmark.summary import (
    REFERENCE_MODEL,
    Difference,
    SettingSummary,
    mean_ranks,
    reference_of,
)
from mmgraph.benchmark.tables import (
    AREA,
    AREA_NOTE,
    cell,
    describe_difference,
    name_of,
    p_cell,
    rank_table,
)
from mmgraph.evaluation.table import Table, interval, number, signed
from mmgraph.metrics.scores import metric_title

LEVEL = 0.05  # of significance, after correction


def summary_sentence(blocks: Sequence[SettingSummary]) -> str:
    """Return the result in one to three sentences."""
    blocks = [block for block in blocks if block.rows]
    if not blocks:
        return "No results yet."
    return _one_set(blocks[0]) if len(blocks) == 1 else _many_sets(blocks)


def overview(blocks: Sequence[SettingSummary]) -> list[Table]:
    """Return the tables over all settings; none for a single one."""
    if len(blocks) < 2:
        return []
    tables = rank_table(blocks), best_baseline_table(blocks)
    return [table for table in tables if table is not None]


def best_baseline_table(blocks: Sequence[SettingSummary]) -> Table | None:
    """Return the best baseline of each setting and its difference to mmgraph.

    A control, whose name begins with that of mmgraph, is not a baseline. None where no
    setting has results of both.
    """
    rows = []
    for block in blocks:
        rival = _rival(block)
        if rival is None or block.reference != REFERENCE_MODEL:
            continue
        areas = {row.model: row.aurc for row in block.rows}
        cells = cell(areas[block.reference]), rival.model, cell(areas[rival.model])
        difference = signed(rival.mean), interval(rival.low, rival.high)
        metric = metric_title(block.metric)
        rows.append((name_of(block), metric, *cells, *difference, p_cell(rival.p)))
    if not rows:
        return None
    columns = ("setting", "metric", REFERENCE_MODEL, "best baseline", "its score")
    return Table(
        f"{REFERENCE_MODEL} and the best baseline of each setting, {AREA}",
        (*columns, "difference", "95% CI", "p (Holm)"),
        tuple(rows),
        (frozenset(),) * 8,
        (
            f"{AREA_NOTE}. The baseline was chosen as the best of each setting on the "
            "same splits. Intervals: each comparison on its own. p: corrected for all "
            "models of the setting (Holm).",
        ),
        frozenset({0, 1, 3}),
    )


def is_better(difference: Difference) -> bool:
    """Return whether the reference is better after correction."""
    return difference.p <= LEVEL and difference.mean > 0


def is_worse(difference: Difference) -> bool:
    """Return whether the reference is worse after correction."""
    return difference.p <= LEVEL and difference.mean < 0


def _one_set(block: SettingSummary) -> str:
    names = [row.model for row in block.rows]
    if not block.rates:
        return f"On {block.dataset}, the models have no test missing rate in common."
    reference = next(row for row in block.rows if row.model == block.reference)
    place = names.index(reference.model) + 1
    text = (
        f"On {block.dataset}, {reference.model} has a mean "
        f"{metric_title(block.metric)} of {cell(reference.aurc)} over missing rates "
        f"{block.rates[0]:g} to {block.rates[-1]:g}: {_ordinal(place)} of {len(names)}."
    )
    rival = _rival(block)
    return f"{text} {_verdict(block, rival)}" if rival else text


def _rival(block: SettingSummary) -> Difference | None:
    """Return the difference to the best other model, controls of mmgraph excluded."""
    by_name = {d.model: d for d in block.differences}
    order = [row.model for row in block.rows if row.model in by_name]
    others = [name for name in order if not name.startswith(REFERENCE_MODEL)]
    return by_name[others[0]] if others else None


def _verdict(block: SettingSummary, difference: Difference) -> str:
    is_ours = block.reference == REFERENCE_MODEL
    role = "the best baseline" if is_ours else "the next best model"
    text = describe_difference(difference)
    if math.isnan(difference.low):
        return f"Its difference to {role}, {difference.model}, is {text}."
    relation = "is not distinguishable from"
    if is_better(difference):
        relation = "is better than"
    elif is_worse(difference):
        relation = "is worse than"
    count = len(block.differences)
    correction = f" after correction for {count} comparisons" if count > 1 else ""
    return f"It {relation} {role}, {difference.model} ({text}{correction})."


def _many_sets(blocks: Sequence[SettingSummary]) -> str:
    ranks = mean_ranks(blocks)
    if not ranks:
        return f"{len(blocks)} settings; no model has results in all of them."
    reference = reference_of(list(ranks))
    place = list(ranks).index(reference) + 1
    text = (
        f"Over {len(blocks)} settings {reference} has mean rank "
        f"{number(ranks[reference], 2)}: {_ordinal(place)} of {len(ranks)}."
    )
    if reference != REFERENCE_MODEL:
        return text
    rivals = [rival for block in blocks if (rival := _rival(block))]
    better, worse = sum(map(is_better, rivals)), sum(map(is_worse, rivals))
    return (
        f"{text} Compared with the best baseline of each setting it is better in "
        f"{better}, worse in {worse} and not distinguishable in "
        f"{len(rivals) - better - worse} (p ≤ {LEVEL:g} after Holm correction within "
        "each setting)."
    )


def _ordinal(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"number {place}")
