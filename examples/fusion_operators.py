"""
Fusion operators and attention weights
======================================

Compare operators that combine two modalities on a task whose label depends on a product
across them, and draw which image region a question attends to.
"""

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import torch

import mmgraph as mg
from mmgraph.datasets import synthetic

# %%
# One readout per operator
# ------------------------
#
# ``Schema.late`` has no edges: each modality is encoded alone, and the readout of
# ``FusionModel`` combines one state per modality. In the control data set ``synergy``,
# the label depends on the product of a channel of ``a`` and one of ``b``. Training
# drops modalities at random, because any of them may be missing later.


def fit(model, train, epochs):
    """Train a model with modality dropout."""
    generator, order = torch.Generator().manual_seed(0), np.random.default_rng(0)
    model.fit_scaling(train.batch())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(epochs):
        for rows in np.array_split(order.permutation(len(train)), len(train) // 128):
            batch = train.batch(rows)
            kept = mg.missing.modality_dropout(batch.present, 0.15, generator)
            loss = model.task.loss(model(batch.drop(kept)).logits, batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def auroc(model, data):
    """Return the area under the ROC curve."""
    with torch.no_grad():
        proba = model.task.activate(model(data.batch()).logits)
    return mg.metrics.auroc(np.asarray(data.y), proba.numpy())


data = synthetic("synergy", num_samples=1600)
train, test = data[:1100], data[1100:]
incomplete = mg.missing.mcar(0.5).plan(test, seed=0).apply(test)
task, schema = mg.Classification(num_classes=2), mg.Schema.late(data.schema.modalities)
operators = "mean", "sum", "max", "concat", "attention", "gated", "product", "low_rank"
scores = []
for name in operators:
    model = mg.FusionModel(schema, task, num_layers=1, readout=name, seed=0)
    fit(model, train, epochs=6)
    scores.append((auroc(model, test), auroc(model, incomplete)))
    print(f"AUROC complete and half missing, {name}: {scores[-1][0]:.3f}", end=" ")
    print(f"{scores[-1][1]:.3f}")

# %%
# The head is linear: after a mean, a sum or a concatenation, it adds up functions of
# single modalities. The other operators combine the modalities before it.

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
places = np.arange(len(operators))
complete, half = np.transpose(scores)
ax.bar(places - 0.2, complete, 0.38, label="complete")
ax.bar(places + 0.2, half, 0.38, label="half missing")
ax.set_xticks(places, operators)
ax.axhline(0.5, color="gray", ls=":")
ax.set(ylabel="AUROC", ylim=(0.45, 0.95), title="synergy")
ax.legend()

# %%
# Cross-attention
# ---------------
#
# A question names one of four colors. Each image has a region of each color, in any
# order, and every region has a value; the label is the sign of the value of the region
# that the question names. In ``Schema.cross`` the question attends to the regions.

rng, n, colors = np.random.default_rng(0), 1500, ["red", "green", "blue", "gray"]
named, order = rng.integers(4, size=n), np.argsort(rng.random((n, 4)), axis=1)
value = rng.normal(size=(n, 4))  # of the region of each color
y = (value[np.arange(n), named] > 0).astype(int)
shown = np.take_along_axis(value, order, axis=1)
arrays = {"question": 2 * np.eye(4)[named]}
arrays["image"] = np.concatenate([np.eye(4)[order], shown[:, :, None]], axis=2)
question = mg.Modality("question", 4, kind="embedding")
image = mg.Modality("image", 5, kind="embedding", tokens="ragged")
schema = mg.Schema.cross([question, image], query="question", keys=["image"])
data = mg.MultimodalData.from_arrays(arrays, y=y, schema=schema)
train, test, color = data[:1100], data[1100:], order[1100:]
model = fit(mg.FusionModel(schema, task, seed=0), train, epochs=12)
print(f"AUROC, cross-attention: {auroc(model, test):.3f}")

# %%
# ``model.attention`` returns the weights of all edges by relation. ``source`` and
# ``target`` index the nodes of a type, and ``sample`` the samples of the batch.

found = model.attention(test.batch())["image", "to", "question"]
weight = np.zeros((len(test), 4))
weight[found.sample, color.flatten()] = found.weight.mean(dim=-1)  # over heads
right = weight[np.arange(len(test)), named[1100:]]
print(f"attention to the region that the question names: {right.mean():.3f}")
print(f"attention to each of the others: {(weight.sum(1) - right).mean() / 3:.3f}")

fig, (left, ax) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
layout = {"image": (0, 0), "question": (1, 0), "fuse": (2, 0)}
options = {"node_size": 3200, "node_color": "tab:blue", "font_color": "white"}
nx.draw_networkx(schema.to_networkx(), layout, ax=left, font_size=9, **options)
left.set(xlim=(-0.5, 2.5), title="Schema.cross")
left.axis("off")
heat = ax.imshow(weight[:12], vmin=0, vmax=1, cmap="Blues", aspect="auto")
ax.plot(named[1100:1112], np.arange(12), "o", color="tab:red", label="named color")
ax.set(ylabel="sample", title="Attention of the question")
ax.set_xticks(range(4), [f"{name} region" for name in colors])
fig.legend(loc="outside lower right")
fig.colorbar(heat, ax=ax, label="weight, mean over heads")
plt.show()
