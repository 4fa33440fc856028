"""
Train on Parquet files larger than memory
=========================================

Write a data set as Parquet shards, train on them as a stream within a memory budget, and
compare with training in memory.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg
from mmgraph import MultimodalData, MultimodalStream

# %%
# Shards
# ------
#
# The label depends on a product of a feature of ``a`` and one of ``b``, and 20% of the
# modalities are missing. Each shard is generated and written on its own, as a pipeline
# would do that never holds all samples.


def make_samples(num_samples, seed):
    """Return samples of two modalities with a cross-modal interaction."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, num_samples, 8))
    logit = 3 * a[:, 0] * b[:, 0] + a[:, 1] + b[:, 1]
    y = (rng.random(num_samples) < 1 / (1 + np.exp(-logit))).astype(int)
    data = MultimodalData.from_arrays({"a": a, "b": b}, y=y)
    return mg.missing.mcar(0.2).plan(data, seed=seed).apply(data)


folder = tempfile.TemporaryDirectory()
for shard in range(8):
    make_samples(3000, shard).to_parquet(Path(folder.name) / f"shard-{shard}.parquet")
test = make_samples(3000, seed=99)

# %%
# Stream
# ------
#
# ``memory`` bounds, in bytes, what reading and fitting may use for samples. It is far
# below the size of this data set, so that the stream is not loaded. A random sample of it
# trains the base learners, and the graph networks learn from all samples, in shuffled
# order.

stream = MultimodalStream.from_parquet(folder.name, memory=2**20)
print(stream)
for chunk in stream.chunks(size=1000, shuffle=True, seed=0):
    print("first chunk:", chunk.shape, "share of class 1:", chunk.y.mean().round(3))
    break

options = {"seed": 0, "members": 2, "epochs": 1, "experts": ("linear",)}
streamed = mg.FusionClassifier(**options).fit(stream)

# %%
# More samples help
# -----------------
#
# For comparison, the same model is trained in memory on the first samples of the stream.

auroc = {"all, streamed": mg.evaluate(streamed, test, [0]).rows[0]["auroc"]}
