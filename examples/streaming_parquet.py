"""
Train on Parquet files larger than memory
=========================================

Write a data set as Parquet shards, train on them as a stream within a memory budget,
and compare with a model that is trained on one chunk.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import mmgraph as mg
from mmgraph.datasets import synthetic

# %%
# Shards
# ------
#
# In this synthetic data set, the label depends on a product of two modalities; 20% of
# the modalities are missing. Each shard is generated and written on its own, as a
# pipeline does that never holds all samples. The data are small here to keep the page
# fast.

folder = tempfile.TemporaryDirectory()
for shard in range(10):
    data = synthetic("synergy", num_samples=2000, seed=shard)
    data = mg.missing.mcar(0.2).plan(data, seed=shard).apply(data)
    data.to_parquet(Path(folder.name) / f"shard-{shard}.parquet")
test = synthetic("synergy", num_samples=4000, seed=99)

# %%
# Stream
# ------
#
# ``memory`` bounds the bytes that samples, features and their copies may use during
# reading and fitting, beyond the model. Four MiB are too few for these samples. Chunks
# are ``MultimodalData``, in the order of the files or shuffled.

stream = mg.MultimodalStream.from_parquet(folder.name, memory=4 * 2**20)
print(stream)
chunk = next(iter(stream.chunks(size=500, shuffle=True, seed=0)))
print(f"first chunk: {len(chunk)} samples, {1 - chunk.present.mean():.0%} missing")

# %%
# Fit
# ---
#
# ``fit`` accepts a stream in place of data. Where the samples do not fit into the
# budget, a random sample trains the base learners, and the graph networks learn from
# all samples, chunk by chunk. The comparison is trained in memory on one chunk, for
# more epochs.

options = {"seed": 0, "members": 2, "experts": ("linear",)}
models = {
    "20000 samples, streamed": mg.FusionClassifier(epochs=3, **options).fit(stream),
    "500 samples, in memory": mg.FusionClassifier(epochs=30, **options).fit(chunk),
}

# %%
# Evaluate
# --------
#
# Both models are scored on the same test samples. ``evaluate`` and ``predict_proba``
# also accept streams.

rates = (0, 0.25, 0.5)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, model in models.items():
    auroc = [row["auroc"] for row in mg.evaluate(model, test, rates).rows]
    print(f"AUROC, {name}: {auroc[0]:.3f}")
    ax.plot(rates, auroc, marker="o", lw=2, label=name)
ax.set(xlabel="share of modalities removed", ylabel="AUROC on test samples")
ax.legend()
folder.cleanup()
plt.show()
