"""
A custom layer in the benchmark
===============================

Register a graph layer as a model and compare it with baselines on the same splits and
masks, by the same scores and tests.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch_geometric.nn import MessagePassing

import mmgraph as mg
from mmgraph.config import BenchConfig
from mmgraph.workflows.bench import report_benchmark, run_benchmark

# %%
# Layer and model
# ---------------
#
# The layer multiplies each message by a gate that depends on both nodes. ``conv``
# replaces relational attention by it, and ``graph="only"`` leaves out the base
# learners, so that the scores are those of the layer.


class Gated(MessagePassing):
    """Mean of gated messages."""

    def __init__(self, channels):
        super().__init__(aggr="mean")
        self.value = torch.nn.Linear(channels, channels)
        self.gate = torch.nn.Linear(2 * channels, channels)

    def forward(self, x, edge_index):
        """Return messages to the target nodes."""
        return self.propagate(edge_index, x=x, size=(len(x[0]), len(x[1])))

    def message(self, x_i, x_j):
        """Return the message of each edge."""
        return self.gate(torch.cat([x_i, x_j], 1)).sigmoid() * self.value(x_j)


def gated(data, seed):
    """Graph networks with gated mean aggregation."""
    options = {"members": 1, "num_layers": 1, "epochs": 2, "seed": seed}
    return mg.FusionClassifier(conv=lambda: Gated(32), graph="only", **options)


# %%
# Benchmark
# ---------
#
# A registered name is valid wherever ``mmgraph bench --models`` takes one. Models of an
# installed package are found by the entry points ``mmgraph.models``, also on the
# command line. Three of the modalities of the heart data are used here, as a file.

folder = Path(tempfile.mkdtemp())
heart = mg.load_dataset("heart").select(["history", "rest_exam", "exercise_ecg"])
heart.replace(groups=None).to_parquet(folder / "heart.parquet")
mg.register_model("gated", gated)
settings = BenchConfig(
    datasets=(str(folder / "heart.parquet"),),
    models=("gated", "mean_logistic", "late_logistic"),
    missing=(0.0, 0.3, 0.5, 0.7),
    folds=2,
    seeds=1,
    jobs=1,
    output=folder / "bench",
)
run_benchmark(settings)
report = report_benchmark(settings.output)
for row in report.tables[0].rows:
    print(f"{row[0]:<15}", *(f"{cell:<15}" for cell in row[1:5]))

# %%
# Curves
# ------
#
# ``report.html`` in the output folder shows the same curves with intervals and tests;
# ``results.jsonl`` has one line per model, split and scenario.

lines = (settings.output / "results.jsonl").read_text(encoding="utf-8").splitlines()
records = [json.loads(line) for line in lines]
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name in settings.models:
    curve = [
        np.mean(
            [
                record["metrics"]["auroc"]
                for record in records
                if record["model"] == name and record["test_missing"] == rate
            ]
        )
        for rate in settings.missing
    ]
    ax.plot(settings.missing, curve, marker="o", label=name)
ax.set(xlabel="share of modalities removed", ylabel="AUROC", title="Heart disease")
ax.legend()
plt.show()
