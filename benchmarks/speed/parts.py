"""The comparisons of the benchmark."""

import time
from dataclasses import replace

import torch

from speed import latency
from speed.contenders import BARE, COMPILED, FLOOR, OURS, Arena, Contender
from speed.memory import peak_bytes
from speed.pairing import QUICK, Effort, Ratio, run_interleaved
from speed.pipeline import LIKE_PYG, PYG, Task, our_epoch, pyg_epoch
from speed.report import Report, as_facts
from speed.scaling import BASE, MOST_GB, Point, sweep
from speed.workloads import LIMIT_GB, Workload

SIZES = tuple((m, t) for m in (2, 4, 8) for t in (1, 8, 32))
RATES = (0.0, 0.5)
COMPILED_SIZES = ((4, 1), (4, 8))
EPOCH_MODALITIES = (4, 8)
IMPORT_PAIRS = 9


class Plan:
    """Sizes and effort of a run.

    Args:
        quick: Tiny sizes, two blocks: does it run?
        only: Names of workloads begin with one of these; empty means all.
        limit_gb: Batches shrink until HGTConv is expected to need less.
    """

    def __init__(
        self, *, quick: bool, only: tuple[str, ...] = (), limit_gb: float = LIMIT_GB
    ) -> None:
        self.quick, self.only, self.limit_gb = quick, only, limit_gb
        self.effort = QUICK if quick else Effort()
        # what is short or has many points
        self.short = QUICK if quick else Effort(seconds=1.5, max_blocks=11)

    def workload(self, modalities: int, tokens: int, missing: float) -> Workload:
        """Return a workload at the size of this run."""
        full = self.sized(Workload(modalities, tokens, missing))
        return full.within(self.limit_gb)

    def sized(self, workload: Workload) -> Workload:
        """Return a tiny version of the workload where it has to be quick."""
        return replace(workload, batch=8, width=16) if self.quick else workload

    def workloads(self) -> list[Workload]:
        """Return the workloads of the layers."""
        sizes = ((2, 1), (4, 8)) if self.quick else SIZES
        every = [self.workload(m, t, rate) for m, t in sizes for rate in RATES]
        return [w for w in every if w.name.startswith(self.only or ("",))]

    def task(self, modalities: int) -> Task:
        """Return a training task at the size of this run."""
        task = Task(modalities)
        return replace(task, samples=32, batch=8, width=16) if self.quick else task


def layers(plan: Plan, report: Report) -> None:
    """Forward, loss and backward of one layer; and ours without feed-forward."""
    for workload in plan.workloads():
        arena = Arena(workload)
        subjects = [arena.ours(), arena.ours(feed_forward=False), arena.same_function()]
        others = [arena.hgt(), arena.gatv2(), arena.transformer()]
        bound = arena.products()
        steps = {c.name: c.step for c in (*subjects, bound, *others)}
        blocks = run_interleaved(steps, plan.effort)
        facts = as_facts(workload) | {
            "nodes": arena.num_nodes,
            "edges": arena.num_edges,
        }
        ours, bare, same = (c.name for c in subjects)
        hgt, *_ = (c.name for c in others)
        pairs = [(c.name, ours) for c in others] + [
            (hgt, bare),
            (hgt, same),
            (hgt, bound.name),
        ]
        for over, under in pairs:
            ratio = blocks.ratio(over, under)
            report.compare("layer", workload.name, over, under, ratio, **facts)


def floors(plan: Plan, report: Report) -> None:
    """Forward without feed-forward, over a matrix product of equal multiply-adds."""
    for workload in plan.workloads():
        arena = Arena(workload)
        ours, floor = arena.ours(feed_forward=False), arena.floor()
        with torch.no_grad():
            steps = {BARE: ours.forward, FLOOR: floor.forward}
            ratio = run_interleaved(steps, plan.short).ratio(BARE, FLOOR)
        facts = as_facts(workload) | {"multiply_adds": arena.multiply_adds}
        report.compare("floor", workload.name, BARE, FLOOR, ratio, **facts)


def compiled(plan: Plan, report: Report) -> None:
    """Our layer as it is, over the same layer after ``torch.compile``.

    Also the seconds that it takes to compile both directions.
    """
    for modalities, tokens in COMPILED_SIZES[: 1 if plan.quick else None]:
        for rate in RATES:
            workload = plan.workload(modalities, tokens, rate)
            arena = Arena(workload)
            torch.compiler.reset()
            ours, other = arena.ours(), arena.ours(compiled=True)
            begin = time.perf_counter()
            other.step()
            facts = as_facts(workload) | {"compile_s": time.perf_counter() - begin}
            steps = {OURS: ours.step, COMPILED: other.step}
            ratio = run_interleaved(steps, plan.short).ratio(OURS, COMPILED)
            report.compare("compile", workload.name, OURS, COMPILED, ratio, **facts)


def half_missing(plan: Plan, report: Report) -> None:
    """A step with half of the modalities missing, over the complete one."""
    half, complete = plan.workload(4, 8, 0.5), plan.workload(4, 8, 0.0)
    names = "half missing", "complete"
    steps = {
        name: Arena(w).ours().step
        for name, w in zip(names, (half, complete), strict=True)
    }
    ratio = run_interleaved(steps, plan.effort).ratio(*names)
    report.compare("half", half.name, *names, ratio, **as_facts(half))


def epochs(plan: Plan, report: Report) -> None:
    """A whole training epoch, at full width and at that of the estimators."""
    for modalities in EPOCH_MODALITIES:
        task = plan.task(modalities)
        for each in (task,) if plan.quick else (task, task.by_default):
            data = each.make_data()
            steps = {
                OURS: our_epoch(each, data),
                LIKE_PYG: our_epoch(each, data, like_pyg=True),
                PYG: pyg_epoch(each, data),
            }
            blocks = run_interleaved(steps, plan.effort)
            for under in (OURS, LIKE_PYG):
                ratio = blocks.ratio(PYG, under)
                report.compare("epoch", each.name, PYG, under, ratio, **as_facts(each))


def single_sample(plan: Plan, report: Report) -> None:
    """One sample of four modalities, on one thread, in milliseconds."""
    task = replace(plan.task(4), samples=64 if plan.quick else 512)
    data = task.make_data()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = latency.whole_classifiers(data, quick=plan.quick)
    bare = latency.bare_networks(task, data)
    blocks = run_interleaved({**whole, **bare}, plan.effort)
    torch.set_num_threads(threads)
    for name, seconds in blocks.seconds.items():
        row = {
            "part": "latency",
            "name": name,
            "ours": name.startswith(OURS),
            "whole": name in whole,
            "threads": 1,
            "milliseconds": latency.milliseconds(seconds),
            "quartiles": (1000 * Ratio.of(seconds).low, 1000 * Ratio.of(seconds).high),
            "blocks": len(seconds),
        }
        report.add(row, f"{name}: {row['milliseconds']:.2f} ms a sample")


def imports(plan: Plan, report: Report) -> None:
    """CPU-seconds that ``import mmgraph`` adds to ``import torch``."""
    added = Ratio.of(latency.import_seconds(1 if plan.quick else IMPORT_PAIRS))
    row = {
        "part": "import",
        "seconds": added.median,
        "quartiles": [added.low, added.high],
        "blocks": added.blocks,
    }
    report.add(row, f"import mmgraph adds {added.median:.3f} CPU-s to import torch")


def memory(plan: Plan, report: Report) -> None:
    """Peak memory of one step, over that of ours."""
    for workload in plan.workloads():
        arena = Arena(workload)
        peaks = {}
        for build in (arena.ours, arena.hgt, arena.gatv2, arena.transformer):
            contender = build()
            peaks[contender.name] = peak_bytes(contender.step)
        for name, peak in peaks.items():
            if name == OURS:
                continue
            ratio = Ratio.of([peak / peaks[OURS]])
            facts = as_facts(workload) | {
                "over_mb": peak / 1e6,
                "under_mb": peaks[OURS] / 1e6,
            }
            report.compare("memory", workload.name, name, OURS, ratio, **facts)


def costs(plan: Plan, report: Report) -> None:
    """Steps along every axis, over our step at the base."""
    base = plan.sized(BASE)
    step = Arena(base).ours().step
    under = f"{OURS} {base.name}"
    for point in sweep(base, quick=plan.quick):
        contenders = _affordable(point)
        steps = {under: step} | {c.name: c.step for c in contenders}
        blocks = run_interleaved(steps, plan.short)
        facts = as_facts(point.workload) | {"axis": point.axis, "value": point.value}
        for contender in contenders:
            ratio = blocks.ratio(contender.name, under)
            name = point.workload.name
            report.compare("cost", name, contender.name, under, ratio, **facts)


def _affordable(point: Point) -> list[Contender]:
    arena = Arena(point.workload)
    some = [arena.ours(), arena.transformer()]
    if point.workload.reference_gb() <= MOST_GB:
        some.append(arena.hgt())
    return some


THREADED = {
    "layer": layers,
    "floor": floors,
    "half": half_missing,
    "epoch": epochs,
}
ONCE = {
    "compile": compiled,
    "latency": single_sample,
    "import": imports,
    "memory": memory,
    "cost": costs,
}
