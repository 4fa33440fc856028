"""
PyTorch Geometric convolutions
==============================

Replace the relational attention of a fusion model with convolutions of PyTorch
Geometric, train each variant on handwritten digits with missing feature sets, and
compare them on held-out digits.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch_geometric.nn import GATv2Conv, HGTConv, SAGEConv

import mmgraph as mg

# %%
# Data
# ----
#
# Each digit is described by several feature sets, of which four are used here. Half of
# them are removed completely at random from training and test digits.

data = mg.load_dataset("mfeat").select(["fou", "kar", "zer", "mor"])
data = mg.missing.mcar(0.5).plan(data, seed=0).apply(data)
train, test = data.split(test_size=0.3, seed=0)
schema = mg.Schema.complete(data.schema.modalities)

# %%
# Convolutions
# ------------
#
# ``conv`` is a function that builds one convolution. A bipartite convolution is built
# once per relation and its results are summed by target node; a heterogeneous
# convolution such as HGTConv gets all node types at once. Self-loops must be off,
# because source and target are nodes of different types.

width = 32
metadata = list(schema.node_types), list(schema.edge_types)
convolutions = {
    "relational attention (default)": None,
    "GATv2Conv": lambda: GATv2Conv((width, width), width, add_self_loops=False),
    "SAGEConv": lambda: SAGEConv((width, width), width),
    "HGTConv": lambda: HGTConv(width, width, metadata, heads=4),
}

# %%
# Train and evaluate
# ------------------
#
# All variants use the same encoders, readout, head and order of the batches. After
# these few epochs they differ by a few points only.


def fit(conv, epochs=5):
    """Return the held-out accuracy after each epoch."""
    torch.manual_seed(0)  # PyTorch Geometric draws its parameters from the global state
    task, order = mg.Classification(num_classes=10), np.random.default_rng(0)
    model = mg.FusionModel(schema, task, hidden_channels=width, conv=conv, seed=0)
    model.fit_scaling(train.batch())
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    held_out, curve = test.batch(), []
    for _ in range(epochs):
        for rows in np.array_split(order.permutation(len(train)), len(train) // 64):
            batch = train.batch(rows)
            loss = task.loss(model(batch).logits, batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            correct = model(held_out).logits.argmax(dim=1) == held_out.y
        curve.append(correct.float().mean().item())
    return curve


fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, conv in convolutions.items():
    curve = fit(conv)
    print(f"held-out accuracy, {name}: {curve[-1]:.3f}")
    ax.plot(range(1, len(curve) + 1), curve, marker="o", label=name)
ax.set(
    xlabel="epoch", ylabel="held-out accuracy", title="Half of the feature sets missing"
)
ax.legend()

# %%
# The graph as a PyTorch Geometric object
# ---------------------------------------
#
# A batch converts to ``HeteroData`` for use with other PyTorch Geometric tools. Missing
# modalities have no nodes.

print(test[:8].batch().to_hetero_data())
plt.show()
