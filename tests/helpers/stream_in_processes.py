"""Script for torchrun: a fit on shards of different sizes."""

import os
import sys

import mmgraph as mg

OPTIONS = {
    "epochs": 2,
    "batch_size": 50,
    "members": 2,
    "hidden_channels": 16,
    "experts": ("linear",),
    "learning_rate": 1e-3,
    "seed": 0,
}
SHARDS = (97, 20, 130, 53, 64, 40, 75, 31)  # samples; two lanes
MEMORY = 2_000_000


def write(folder: str) -> None:
    """Write the shards."""
    data = mg.load_dataset("heart")
    start = 0
    for number, size in enumerate(SHARDS):
        rows = range(start, start + size)
        data[rows].to_parquet(os.path.join(folder, f"{number}.parquet"))
        start += size


def fit(folder: str) -> mg.FusionClassifier:
    """Fit on the shards with little memory."""
    stream = mg.MultimodalStream.from_parquet(folder, memory=MEMORY)
    return mg.FusionClassifier(**OPTIONS).fit(stream)


if __name__ == "__main__":
    shards, output = sys.argv[1:]
    fit(shards).save_pretrained(os.path.join(output, os.environ["RANK"]))
