"""Any PyTorch Geometric convolution in the place of relational attention."""

from torch_geometric.nn import GATv2Conv

import mmgraph as mg

data = mg.load_dataset("heart")
model = mg.FusionModel(
    data.schema,
    task=mg.Classification(num_classes=2),
    hidden_channels=16,
    conv=lambda: GATv2Conv((16, 16), 16, add_self_loops=False),
)
batch = data[:32].batch()
model.fit_scaling(batch)
print("logits:", tuple(model(batch).logits.shape))
print("as a PyG graph:", batch.to_hetero_data().node_types)
