"""Script for a new process: memory of a fit beyond that of a fit on few samples."""

import json
import sys
from pathlib import Path

import numpy as np

import mmgraph as mg

WIDTH = 256
FEW, SHARD, NUM_SHARDS = 1000, 5000, 12  # 59 MB of samples in memory
MEMORY = 12_000_000
OPTIONS = {
    "epochs": 1,
    "batch_size": 512,
    "members": 1,
    "hidden_channels": 8,
    "num_heads": 2,
    "num_layers": 1,
    "experts": ("linear",),
}


def write(path: Path, num: int, seed: int) -> None:
    """Write samples of one wide modality."""
    x = np.random.default_rng(seed).standard_normal((num, WIDTH), dtype=np.float32)
    y = (x[:, 0] > 0).astype(int)
    mg.MultimodalData.from_arrays({"x": x}, y=y).to_parquet(path)


def peak_memory() -> float:
    """Return the peak memory of this process in megabytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def fit(folder: str, memory: int) -> mg.FusionClassifier:
    """Fit on a folder of shards."""
    stream = mg.MultimodalStream.from_parquet(folder, memory=memory)
    return mg.FusionClassifier(**OPTIONS).fit(stream)


if __name__ == "__main__":
    few, many, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
    fit(few, min(memory, MEMORY))
    before = peak_memory()
    steps = fit(many, memory).history_.steps
    sys.stdout.write(json.dumps([peak_memory() - before, steps]))
