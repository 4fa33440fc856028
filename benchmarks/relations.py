"""Compare predictions with and without edges between objects and texts.

Run as ``python benchmarks/relations.py`` (questions about shapes in a grid; ``nlvr``,
``kiba`` and ``kiba_known`` by name). Prints a Markdown table with one line for each
model:

- *late*: base learners of single modalities, added by the pool,
- *none*: all base learners, those of relations without edges: a text scores single
  objects, and kernels of two texts are added in place of multiplied, with the same
  encoders and training,
- *edges*: the default.

Scores are those of the pooled base learners on the folds of the training part that
they were not fitted to or, with ``--test``, of the whole model on the test part, with
95% bootstrap intervals of the differences over its samples or groups.
"""

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from unittest import mock

import numpy as np
from sequences import load
from sklearn.metrics import roc_auc_score

import mmgraph as mg
from mmgraph.benchmark.provenance import read_commit
from mmgraph.experts import stacking
from mmgraph.experts.links import EXPERT_KINDS
from mmgraph.metrics import log_loss

SCORES, RESAMPLES = ("accuracy", "AUROC", "log loss"), 1000
SINGLE = ("linear", "spline", "forest", "convolution")
MODELS = {"late": SINGLE, "none": EXPERT_KINDS, "edges": EXPERT_KINDS}


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/relations.py",
        description="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", default="shapes_vqa", help="default: %(default)s")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--test", action="store_true", help="score the test part")
    add("--epochs", type=int, help="default: that of FusionClassifier")
    add("--members", type=int, help="default: that of FusionClassifier")
    add("--experts", nargs="+", choices=EXPERT_KINDS, help="default: all")
    add("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    return parser.parse_args(arguments)


def fit(
    model: str,
    train: mg.MultimodalData,
    kinds: Sequence[str],
    options: dict[str, int],
) -> mg.FusionClassifier:
    """Return a fitted classifier; "none" has no edges between objects or texts."""
    experts = [kind for kind in MODELS[model] if kind in kinds]
    clf = mg.FusionClassifier(experts=experts, verbose=False, **options)
    if model != "none":
        return clf.fit(train)
    objects = functools.partial(stacking.fit_relations, has_edges=False)
    texts = functools.partial(stacking.fit_text_pairs, has_products=False)
    with (
        mock.patch.object(stacking, "fit_relations", objects),
        mock.patch.object(stacking, "fit_text_pairs", texts),
    ):
        return clf.fit(train)


def scores_of(y: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return accuracy, area under the ROC curve, and log loss."""
    found = float((proba.argmax(1) == y).mean())
    auroc = float(roc_auc_score(y, proba[:, 1]))
    return np.array([found, auroc, log_loss(y, proba)])


def intervals_of(
    y: np.ndarray, probas: dict[str, list[np.ndarray]], groups: np.ndarray | None
) -> list[str]:
    """Return the differences of the mean scores over seeds, with intervals.

    Args:
        y: Classes of the test samples.
        probas: Probabilities ``[N, 2]`` of each seed, by model.
        groups: ``[N]`` groups, which are resampled as a whole; None: samples.
    """
    keys = np.arange(len(y)) if groups is None else np.asarray(groups)
    rows = [np.flatnonzero(keys == key) for key in np.unique(keys)]
    rng = np.random.default_rng(0)
    draws = [np.arange(len(y))]
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(rows), size=len(rows))
        draws.append(np.concatenate([rows[k] for k in drawn]))
    table = {
        model: np.array(
            [np.mean([scores_of(y[d], p[d]) for p in each], axis=0) for d in draws]
        )
        for model, each in probas.items()
    }
    lines = []
    pairs = [("none", "late"), ("edges", "none"), ("edges", "late")]
    for a, b in [pair for pair in pairs if table.keys() >= set(pair)]:
        change = table[a] - table[b]
        low, high = np.quantile(change[1:], [0.025, 0.975], axis=0)
        cells = [
            f"{name} {mean:+.4f} [{x:+.4f}, {z:+.4f}]"
            for name, mean, x, z in zip(SCORES, change[0], low, high, strict=True)
        ]
        lines.append(f"{a} - {b}: {', '.join(cells)}")
    return lines


def main() -> None:
    """Fit, score and print."""
    found, commit = read_arguments(), read_commit()
    data = load(found.dataset)
    part = np.asarray(data.split_name)
    train, test = (data[part == name] for name in ("train", "test"))
    given = {"epochs": found.epochs, "members": found.members}
    options = {name: value for name, value in given.items() if value is not None}
    kinds = found.experts or EXPERT_KINDS
    where = "test part" if found.test else "out of fold, base learners only"
    lines = [
        f"{found.dataset}, {len(train)} training samples, {where}, commit {commit}, "
        f"options {options or 'default'}, experts {' '.join(found.experts or ['all'])}",
        "",
        "| model | seed | accuracy | AUROC | log loss | graph | fit, CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    y, probas = np.asarray(test.y), dict[str, list[np.ndarray]]()
    for seed in found.seeds:
        for model in found.models:
            start = time.process_time()
            clf = fit(model, train, kinds, options | {"seed": seed})
            seconds = time.process_time() - start
            cells = f"| {model} | {seed} |"
            if found.test:
                proba = clf.predict_proba(test)
                probas.setdefault(model, []).append(proba)
                cells += "".join(f" {x:.3f} |" for x in scores_of(y, proba))
            else:
                cells += f" {clf.out_of_fold_score_:.3f} | | |"
            cells += f" {float(clf.model_.beta):.2f} | {seconds:.0f} |\n"
            sys.stdout.write(cells)
            sys.stdout.flush()
    lines = intervals_of(y, probas, test.groups)
    sys.stdout.write("\n".join(["", *lines, ""]))


if __name__ == "__main__":
    main()
