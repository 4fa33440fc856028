"""Memory of training on a directory of a given size, compared with a tiny model.

Writes Parquet shards of random samples (two vectors of 64 numbers and a sequence of 8
to 40 steps of 4 channels, each missing for a fifth), then trains on them in a new
process. The result is the peak memory (VmHWM of Linux) minus that of another new
process, which imports the same packages and runs 40 steps of the same model on 512
samples. This separates the memory for data from that of libraries, model and batch.

    python benchmarks/memory.py --megabytes 2000 --memory 100
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NUM_TINY = 512
SHARD_ROWS = 20_000
ROW_BYTES = 4 * (2 * 64 + 24 * 4) + 8  # of an observed sample, on average
SHARE_PRESENT = 0.8
MODEL = {"members": 2, "hidden_channels": 16, "batch_size": 256}
TINY_EPOCHS = 20


def make_data(num: int, seed: int) -> Any:  # noqa: ANN401
    """Return samples whose label depends on a product of two modalities."""
    import numpy as np

    from mmgraph import MultimodalData
    from mmgraph.data.column import Column, offsets_of

    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, num, 64), dtype=np.float32)
    y = (a[:, 0] + 2 * a[:, 1] * b[:, 1] > 0).astype(np.int64)
    present = rng.random((num, 3)) < SHARE_PRESENT
    lengths = np.where(present[:, 2], rng.integers(8, 41, num), 0)
    steps = rng.standard_normal((int(lengths.sum()), 4), dtype=np.float32)
    columns = {
        name: Column(x[keep], offsets_of(keep))
        for name, x, keep in (("a", a, present[:, 0]), ("b", b, present[:, 1]))
    }
    columns["wave"] = Column(steps, offsets_of(lengths), ragged=True)
    return MultimodalData.from_columns(columns, y=y)


def write_shards(folder: Path, megabytes: float) -> int:
    """Write about so many megabytes of samples; return how many samples."""
    total = max(1, round(megabytes * 2**20 / (ROW_BYTES * SHARE_PRESENT)))
    for number, start in enumerate(range(0, total, SHARD_ROWS)):
        data = make_data(min(SHARD_ROWS, total - start), number)
        data.to_parquet(folder / f"{number:05}.parquet")
    return total


def train(folder: str, memory: float) -> None:
    """Train on a folder ("": on a few samples in memory), and print what it took."""
    import pyarrow.parquet  # noqa: F401  # the tiny process has it in memory too

    from mmgraph import FusionClassifier, MultimodalData, MultimodalStream

    data: Any = make_data(NUM_TINY, 0)
    if folder and memory:
        data = MultimodalStream.from_parquet(folder, memory=int(memory * 2**20))
    elif folder:
        files = sorted(Path(folder).glob("*.parquet"))
        data = MultimodalData.concat(list(map(MultimodalData.from_parquet, files)))
    start = time.perf_counter()
    epochs = 1 if folder else TINY_EPOCHS
    model = FusionClassifier(**MODEL, epochs=epochs, verbose=False).fit(data)
    seconds = time.perf_counter() - start
    test = make_data(2000, 10**6)
    print(
        json.dumps(
            {
                "peak": peak_memory(),
                "seconds": round(seconds, 1),
                "steps": model.history_.steps,
                "accuracy": model.score(test),
            }
        )
    )


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def run(folder: str, memory: float) -> dict[str, float]:
    """Train in a fresh process; return what it printed."""
    command = [sys.executable, __file__, "--train", folder, "--memory", str(memory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(folder: Path, megabytes: float, memory: float, whole: bool) -> Any:  # noqa: ANN401
    """Write a set, train on it, and return the figures."""
    num_samples = write_shards(folder, megabytes)
    on_disk = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    tiny, streamed = run("", 0), run(str(folder), memory)
    figures = {
        "samples": num_samples,
        "megabytes": megabytes,
        "megabytes_on_disk": round(on_disk / 2**20),
        "memory": memory,
        "tiny_peak": round(tiny["peak"] / 2**20, 1),
        "beyond_tiny": round((streamed["peak"] - tiny["peak"]) / 2**20, 1),
        **{key: streamed[key] for key in ("seconds", "steps", "accuracy")},
        "tiny_accuracy": tiny["accuracy"],
    }
    if whole:
        loaded = run(str(folder), 0)
        figures["whole_beyond_tiny"] = round((loaded["peak"] - tiny["peak"]) / 2**20, 1)
    return figures


def main() -> None:
    """Read the options and print the figures as JSON, in megabytes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=2000, help="of the samples")
    parser.add_argument("--memory", type=float, default=100, help="MB of the stream")
    parser.add_argument("--whole", action="store_true", help="also train in memory")
    parser.add_argument("--folder", type=Path, help="for the samples; default: none")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train, options.memory)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(
            Path(folder), options.megabytes, options.memory, options.whole
        )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
