"""A loop of one's own by Lightning: held-out loss, TensorBoard, missing modalities.

Needs ``pip install "mmgraph[lightning,track]"``; then ``tensorboard --logdir runs``
shows the curves.
"""

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

import mmgraph as mg


class Training(lightning.LightningModule):
    """A model, its loss and its optimiser; modalities are dropped while it learns."""

    def __init__(self, model: mg.FusionModel, missing_rate: float = 0.3) -> None:
        super().__init__()
        self.model, self.missing_rate = model, missing_rate
        self.generator = torch.Generator().manual_seed(0)

    def training_step(self, batch: mg.Batch) -> torch.Tensor:
        """Return the loss of a batch from which some modalities are taken."""
        kept = mg.missing.modality_dropout(
            batch.present, self.missing_rate, self.generator
        )
        return self._loss("train_loss", batch.drop(kept))

    def validation_step(self, batch: mg.Batch) -> None:
        """Log the loss of a batch as it is."""
        self._loss("held_out_loss", batch)

    def _loss(self, name: str, batch: mg.Batch) -> torch.Tensor:
        loss = self.model.task.loss(self.model(batch).logits, batch.y)
        self.log(name, loss, batch_size=batch.num_samples, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what learns."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.05)


def load(data: mg.MultimodalData, *, shuffle: bool = False) -> DataLoader[int]:
    """Draw sample numbers; all rows of a batch are collected at once."""
    return DataLoader(
        range(len(data)),
        batch_size=64,
        shuffle=shuffle,
        collate_fn=lambda rows: data.batch(np.array(rows)),
    )


data = mg.load_dataset("mfeat")  # numerals, described in six ways
train, test = data.split(test_size=0.2, seed=0)
train, held_out = train.split(test_size=0.2, seed=0)
model = mg.FusionModel(data.schema, task=mg.Classification(num_classes=10), seed=0)
model.fit_scaling(train.batch())

trainer = lightning.Trainer(
    max_epochs=15,
    accelerator="auto",
    logger=TensorBoardLogger("runs", name="mfeat"),
    callbacks=[EarlyStopping("held_out_loss", patience=5)],
    log_every_n_steps=10,
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
)
trainer.fit(Training(model), load(train, shuffle=True), load(held_out))

model.eval()
for modalities in (data.modalities, ("fou", "zer")):
    with torch.no_grad():
        logits = model(test.select(modalities).batch()).logits
    accuracy = (logits.argmax(1).numpy() == test.y).mean()
    print(f"accuracy with {', '.join(modalities)}: {accuracy:.3f}")
