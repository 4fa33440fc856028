"""
Train with PyTorch Lightning
============================

Train a :class:`mmgraph.FusionModel` in a Lightning loop with modality dropout, early
stopping and TensorBoard logging. Needs ``pip install ".[lightning,track]"``.
"""

import tempfile

import lightning
import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import mmgraph as mg

# %%
# Lightning module
# ----------------
#
# ``model.task.loss`` computes the loss of the task from logits and labels. Modality
# dropout removes a random share of the modalities from each training batch, so that the
# model learns to predict without them.


class FusionModule(lightning.LightningModule):
    """A fusion model with its loss and optimizer."""

    def __init__(self, model, missing_rate=0.3):
        super().__init__()
        self.model, self.missing_rate = model, missing_rate
        self.generator = torch.Generator().manual_seed(0)

    def training_step(self, batch):
        """Return the loss of a batch after modality dropout."""
        present = mg.missing.modality_dropout(
            batch.present, self.missing_rate, self.generator
        )
        return self.log_loss("train_loss", batch.drop(present))

    def validation_step(self, batch):
        """Log the loss of a complete batch."""
        self.log_loss("val_loss", batch)

    def log_loss(self, name, batch):
        """Compute and log the loss."""
        loss = self.model.task.loss(self.model(batch).logits, batch.y)
        self.log(name, loss, batch_size=batch.num_samples, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.05)


# %%
# Data loaders
# ------------
#
# The loader draws sample indices, and ``data.batch`` collates them at once.


def make_loader(data, *, shuffle=False):
    """Return a loader that yields batches of 64 samples."""
    return DataLoader(
        range(len(data)),
        batch_size=64,
        shuffle=shuffle,
        collate_fn=lambda rows: data.batch(np.array(rows)),
    )


lightning.seed_everything(0, verbose=False)
data = mg.load_dataset("mfeat")  # handwritten digits, described by six feature sets
train, test = data.split(test_size=0.2, seed=0)
train, val = train.split(test_size=0.2, seed=0)
model = mg.FusionModel(data.schema, task=mg.Classification(num_classes=10), seed=0)
model.fit_scaling(train.batch())

# %%
# Fit
# ---
#
# The logs go to a temporary folder here. In a project, log to a permanent folder and
# view it with ``tensorboard --logdir runs``.

with tempfile.TemporaryDirectory() as folder:
    logger = TensorBoardLogger(folder, name="mfeat")
    trainer = lightning.Trainer(
        max_epochs=10,
        logger=logger,
        callbacks=[EarlyStopping("val_loss", patience=3)],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(FusionModule(model), make_loader(train, shuffle=True), make_loader(val))
    events = EventAccumulator(logger.log_dir).Reload()
    losses = {
        name: [event.value for event in events.Scalars(name)]
        for name in ("train_loss", "val_loss")
    }

# %%
# The training loss is higher because of modality dropout.

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, values in losses.items():
    ax.plot(range(1, len(values) + 1), values, marker="o", label=name)
ax.set(xlabel="epoch", ylabel="cross-entropy")
ax.legend()

# %%
# Test
# ----

model.eval()
for modalities in (data.modalities, ("fou", "zer"), ("mor",)):
    with torch.no_grad():
        logits = model(test.select(modalities).batch()).logits
    accuracy = (logits.argmax(dim=1).numpy() == test.y).mean()
    print(f"accuracy with {', '.join(modalities)}: {accuracy:.3f}")
plt.show()
