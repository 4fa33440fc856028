"""A graph of one's own: two clocks, edges within half a second, a bottleneck."""

import numpy as np
import torch

import mmgraph as mg

rng = np.random.default_rng(0)
lengths = rng.integers(5, 12, size=64)
watch = [rng.normal(size=(n, 3)) for n in lengths]
labs = rng.normal(size=(64, 4))
labs[::3] = np.nan  # every third record has no laboratory values
y = np.array([int(w.mean() > 0) for w in watch])

data = mg.MultimodalData.from_arrays(
    {"watch": watch, "labs": labs},
    y=y,
    times={"watch": [np.arange(n) * 0.25 for n in lengths]},
)
schema = mg.Schema(
    modalities=[
        mg.Modality("watch", channels=3, tokens="ragged", time=True),
        mg.Modality("labs", channels=4),
    ],
    latents=[mg.Latent("bottleneck", num_nodes=2)],
    relations=[
        mg.Relation("watch", "watch", "near", mg.TimeWindow(0.5)),
        mg.Relation("*", "bottleneck"),
        mg.Relation("bottleneck", "*"),
    ],
)
data = data.with_schema(schema)
print(data.schema.edge_types)

model = mg.FusionModel(schema, task=mg.Classification(num_classes=2), seed=0)
batch = data.batch()
model.fit_scaling(batch)
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(30):
    loss = model.task.loss(model(batch).logits, batch.y)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"training loss after 30 steps: {loss.item():.3f}")
