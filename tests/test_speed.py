"""The benchmark of speed: do all compute on the same graph, and does it end in JSON?"""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from speed.contenders import BARE, HGT, OURS, Arena
from speed.memory import peak_bytes
from speed.pairing import Effort, Ratio, run_interleaved
from speed.pipeline import (
    LIKE_PYG,
    PYG,
    HGTClassifier,
    Task,
    make_graphs,
    our_model,
)
from speed.report import Report
from speed.scaling import AXES, sweep
from speed.workloads import Workload

ROOT = Path(__file__).resolve().parent.parent
SUMMARY = {
    "layer_vs_hgtconv_geomean",
    "layer_vs_hgtconv_min",
    "layer_with_feed_forward_vs_hgtconv_geomean",
    "epoch_vs_pyg_4",
    "epoch_vs_pyg_8",
    "epoch_default_vs_pyg_4",
    "epoch_default_vs_pyg_8",
    "forward_vs_floor_geomean",
    "layer_vs_transformer_half_missing",
    "half_missing_step_share",
    "single_sample_ms",
    "import_cpu_s",
}
TINY = Workload(3, 2, 0.5, batch=5, width=16)


def pairs_of(workload):
    """Edges counted sample by sample."""
    nodes = workload.present().sum(1) * workload.tokens
    return int((nodes**2 + nodes).sum())


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_layers_get_the_same_nodes_and_edges(missing):
    workload = Workload(3, 2, missing, batch=6, width=16)
    arena = Arena(workload)
    assert arena.num_edges == pairs_of(workload)
    assert arena.num_nodes == int(workload.present().sum()) * 2 + 6
    ours, theirs = arena.same_function().forward(), arena.hgt().forward()
    assert ours.shape == (arena.num_nodes, 16)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_transformer_slots_hold_every_node_in_the_slots_of_its_sample():
    arena = Arena(TINY)
    place = arena.slot_of_nodes()
    sample = torch.cat([*arena.batch.sample.values(), torch.arange(TINY.batch)])
    assert len(place.unique()) == len(place) == arena.num_nodes
    assert torch.equal(place // 7, sample)


@pytest.mark.parametrize("name", ["ours", "same_function", "hgt", "gatv2"])
def test_a_step_reaches_every_node_state(name):
    arena = Arena(TINY)
    loss = getattr(arena, name)().step()
    assert loss.isfinite()
    found = [x.grad for m, x in arena.x_dict.items() if m != "fuse"]
    assert all(g is not None and bool(g.ne(0).any(1).all()) for g in found)


def test_share_of_missing_modalities_is_exact():
    assert float(Workload(4, 1, 0.5, batch=64).present().float().mean()) == 0.5


def test_batch_shrinks_until_the_reference_fits_and_says_so():
    full = Workload(8, 32, 0.0)
    fitting = full.within(12)
    assert fitting.reference_gb() <= 12 < full.reference_gb()
    assert "PyG would need" in fitting.note
    assert Workload(2, 1, 0.0).within(12).note == ""


def test_multiply_adds_are_those_of_the_products():
    arena = Arena(Workload(2, 1, 0.0, batch=3, width=8))
    # 9 nodes: queries and outputs; 6 senders: keys and values; 4 + 2 edges a sample
    assert arena.multiply_adds == (2 * 9 + 2 * 6) * 64 + 2 * 3 * 6 * 8


def test_epochs_train_on_the_same_samples():
    task = Task(3, samples=12, batch=4, channels=2, width=16)
    data = task.make_data()
    graphs = make_graphs(task, data)
    present = np.array([[len(g[m].x) for m in data.modalities] for g in graphs])
    assert np.array_equal(present.astype(bool), data.present)
    edges = [sum(e.shape[1] for e in g.edge_index_dict.values()) for g in graphs]
    count = data.present.sum(1)
    assert np.array_equal(edges, count * (count - 1))


def test_peak_memory_is_what_a_step_holds_at_once():
    def step():
        for _ in range(3):  # released before the next one is made
            _ = torch.zeros(1000, 1000) + 1

    # a sum and its zeros; the last sum until it is replaced
    assert 8e6 <= peak_bytes(step) <= 12.1e6


def test_sweeps_change_one_thing_at_a_time():
    points = list(sweep(TINY, quick=False))
    assert {p.axis for p in points} == set(AXES)
    for point in points:
        changed = point.workload
        field = "missing" if point.axis == "present share" else point.axis
        value = 1 - point.value if field == "missing" else point.value
        assert changed == replace(TINY, **{field: value})


def test_ratio_is_the_median_of_blocks():
    assert Ratio.of([1.0, 2.0, 9.0]) == Ratio(2.0, 1.5, 5.5, 3)


def test_every_block_runs_the_first_step_before_and_after_the_others():
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "abc"}
    effort = Effort(seconds=0.0, min_blocks=2, max_blocks=2, slice_seconds=0.0)
    blocks = run_interleaved(steps, effort)
    assert "".join(calls[-8:]) == "abca" + "acba"
    assert {len(s) for s in blocks.seconds.values()} == {2}


def run_quick(*arguments):
    program = ROOT / "benchmarks" / "speed.py"
    done = subprocess.run(
        [sys.executable, program, "--quick", "--threads", "1", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_headline_compares_layers_without_feed_forward():
    report = Report(threads=torch.get_num_threads())
    for under, ratio in ((OURS, 2.0), (BARE, 3.0)):
        report.compare("layer", "M2 T1", HGT, under, Ratio.of([ratio]))
    summary = report.summary()
    assert summary["layer_vs_hgtconv_geomean"] == pytest.approx(3)
    assert summary["layer_vs_hgtconv_min"] == pytest.approx(3)
    assert summary["layer_with_feed_forward_vs_hgtconv_geomean"] == pytest.approx(2)


def test_headline_compares_epochs_of_models_with_equal_parts():
    report = Report(threads=torch.get_num_threads())
    facts = {"modalities": 4, "setting": "full"}
    for under, ratio in ((OURS, 2.0), (LIKE_PYG, 3.0)):
        report.compare("epoch", "M4", PYG, under, Ratio.of([ratio]), **facts)
    summary = report.summary()
    assert summary["epoch_vs_pyg_4"] == pytest.approx(3)
    assert summary["epoch_default_vs_pyg_4"] == pytest.approx(2)
    assert summary["epoch_vs_pyg_8"] is None


def test_a_model_like_that_of_pyg_has_its_parts():
    task = Task(2, samples=12, batch=4, channels=2, width=16)
    model = our_model(task, task.make_data(), like_pyg=True)
    peer = HGTClassifier(task)
    for name, encoder in model.encoders.items():
        ours = {tuple(p.shape[-2:]) for p in encoder.linear.parameters()}
        theirs = peer.encoders[name].weight
        assert ours == {tuple(theirs.T.shape), (1, task.width)}
    assert model.layers[0].feed_forward is None


@pytest.mark.long
def test_quick_run_ends_in_a_summary_of_all_rows(tmp_path):
    path = tmp_path / "speed.json"
    plot = tmp_path / "costs.svg"
    tables = tmp_path / "tables.md"
    printed = run_quick(
        *("--json", str(path), "--plot", str(plot), "--tables", str(tables))
    )
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document)[-2:] == ["summary", "rows"]
    assert set(document["summary"]) == SUMMARY
    assert all(math.isfinite(value) for value in document["summary"].values())
    assert {"commit", "versions", "machine", "time"} <= set(document)
    ratios = [row for row in document["rows"] if "ratio" in row]
    assert {row["part"] for row in ratios} == {
        *("layer", "floor", "half", "epoch", "compile", "memory", "cost")
    }
    for row in ratios:
        low, high = row["quartiles"]
        assert 0 < low <= row["ratio"] <= high
        assert row["threads"] == 1
    assert "layer_vs_hgtconv_geomean" in printed
    shown = tables.read_text(encoding="utf-8")
    assert document["commit"][:12] in shown
    assert "| M4 T8 0.5 B8 |" in shown
    assert plot.read_text(encoding="utf-8").rstrip().endswith("</svg>")


@pytest.mark.slow
def test_what_was_not_run_is_null(tmp_path):
    path = tmp_path / "speed.json"
    run_quick("--parts", "half", "--json", str(path))
    summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    assert summary["half_missing_step_share"] > 0
    assert summary["epoch_vs_pyg_4"] is None
