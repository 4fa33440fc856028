"""What the benchmark found over all sets, in words and tables."""

import math
from collections.abc import Sequence

from mmgraph.benchmark.summary import (
    Difference,
    SettingSummary,
    mean_ranks,
    reference_of,
)
from mmgraph.benchmark.tables import (
    cell,
    name_of,
    rank_table,
)
from mmgraph.evaluation.table import DASH, Table, number, signed
from mmgraph.metrics.scores import metric_title


def summary_sentence(blocks: Sequence[SettingSummary]) -> str:
    """Return what was found, in one or two sentences."""
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
    """Return, of each setting, mmgraph beside the baseline that is best there.

    A control, whose name begins with that of mmgraph, is no baseline. None where no
    setting has both.
    """
    rows = []
    for block in blocks:
        rival = _rival(block)
        if rival is None:
            continue
        areas = {row.model: row.aurc for row in block.rows}
        interval = f"{signed(rival.low)} to {signed(rival.high)}"
        cells = cell(areas[block.reference]), rival.model, cell(areas[rival.model])
        difference = signed(rival.mean), DASH if math.isnan(rival.low) else interval
        rows.append((name_of(block), metric_title(block.metric), *cells, *difference))
    if not rows:
        return None
    reference = reference_of([row.model for block in blocks for row in block.rows])
    columns = ("setting", "AURC of", reference, "best baseline", "its AURC")
    return Table(
        f"{reference} beside the best baseline of each setting",
        (*columns, "difference", "95 % interval"),
        tuple(rows),
        (frozenset(),) * 7,
        ("Intervals of each comparison by itself; the baseline was chosen as best.",),
        frozenset({0, 1, 3}),
    )


def _one_set(block: SettingSummary) -> str:
    names = [row.model for row in block.rows]
    if not block.rates:
        return f"On {block.dataset}, no test missing rate is common to all models."
    ours = next(row for row in block.rows if row.model == block.reference)
    place = names.index(ours.model) + 1
    text = (
        f"On {block.dataset}, {ours.model} has a mean {metric_title(block.metric)} of "
        f"{cell(ours.aurc)} over missing rates {block.rates[0]:g} to "
        f"{block.rates[-1]:g}: {_ordinal(place)} of {len(names)}."
    )
    rival = _rival(block)
    return f"{text} {_against(rival)}" if rival else text


def _rival(block: SettingSummary) -> Difference | None:
    """Return the difference to the best model that is not mmgraph itself."""
    by_name = {d.model: d for d in block.differences}
    order = [row.model for row in block.rows if row.model in by_name]
    outside = [name for name in order if not name.startswith("mmgraph")]
    return by_name[outside[0]] if outside else None


def _against(difference: Difference) -> str:
    interval = f"95 % interval {signed(difference.low)} to {signed(difference.high)}"
    if math.isnan(difference.low):
        return f"The difference to {difference.model} is {signed(difference.mean)}."
    verdict = "is not distinguishable from"
    if difference.low > 0:
        verdict = "is better than"
    elif difference.high < 0:
        verdict = "is worse than"
    return (
        f"It {verdict} the best baseline, {difference.model} "
        f"({signed(difference.mean)}, {interval})."
    )


def _many_sets(blocks: Sequence[SettingSummary]) -> str:
    ranks = mean_ranks(blocks)
    if not ranks:
        return f"{len(blocks)} settings; no model has results in all of them."
    ours = reference_of(list(ranks))
    place = list(ranks).index(ours) + 1
    rivals = [rival for block in blocks if (rival := _rival(block))]
    better = sum(rival.low > 0 for rival in rivals)
    worse = sum(rival.high < 0 for rival in rivals)
    return (
        f"Over {len(blocks)} settings {ours} has mean rank {number(ranks[ours], 2)}: "
        f"{_ordinal(place)} of {len(ranks)}. Against the best baseline of each it is "
        f"better on {better}, worse on {worse} and not distinguishable on "
        f"{len(rivals) - better - worse} (95 % intervals)."
    )


def _ordinal(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"number {place}")
