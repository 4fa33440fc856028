"""Compare retrieval by models saved with and without training rows.

Run as ``python benchmarks/training_rows.py``. For each data set it prints the mean
recall at 10 of both models between all pairs of modalities of the test samples, and the
size of their files.
"""

import sys
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np

import mmgraph as mg

DATASETS = ("tuxpaint", "wikipedia")


def recall(retriever: mg.FusionRetriever, test: mg.MultimodalData) -> float:
    """Return the mean recall at 10 of the other modality of the same sample."""
    z = {name: retriever.embed(test, modalities=[name]) for name in test.modalities}
    values = []
    for query, gallery in permutations(test.modalities, 2):
        both = np.isfinite(z[query][:, 0]) & np.isfinite(z[gallery][:, 0])
        scores = z[query][both] @ z[gallery][both].T
        rank = (scores > np.diag(scores)[:, None]).sum(1)
        values.append((rank < 10).mean())
    return float(np.mean(values))


def main() -> None:
    """Print one line for each data set."""
    for name in DATASETS:
        train, test = mg.load_dataset(name).split(0.3, seed=0)
        retriever = mg.FusionRetriever(verbose=False).fit(train)
        results = []
        for rows in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                retriever.save_pretrained(folder, training_rows=rows)
                size = sum(file.stat().st_size for file in Path(folder).iterdir())
                loaded = mg.FusionRetriever.from_pretrained(folder)
                results.append(f"{recall(loaded, test):.3f} ({size / 1e6:.1f} MB)")
        sys.stdout.write(f"{name}: with rows {results[0]}, without {results[1]}\n")


if __name__ == "__main__":
    main()
