"""Compare predictions with and without edges between objects and texts.

Run as ``python benchmarks/relations.py`` (questions about shapes in a grid; ``nlvr``
and ``kiba`` by name). Prints a Markdown table with one line for each model:

- *late*: base learners of single modalities, added by the pool,
- *none*: all base learners, those of relations without edges between objects: a text
  scores single objects, with the same encoders and training,
- *edges*: the default.

Scores are those of the pooled base learners on the folds of the training part that
they were not fitted to or, with ``--test``, of the whole model on the test part.
"""

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from unittest import mock

import numpy as np
from sklearn.metrics import roc_auc_score

import mmgraph as mg
from mmgraph.benchmark.provenance import read_commit
from mmgraph.experts import stacking
from mmgraph.experts.links import EXPERT_KINDS
from mmgraph.metrics import log_loss

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
    add("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    return parser.parse_args(arguments)


def fit(
    model: str, train: mg.MultimodalData, options: dict[str, int]
) -> mg.FusionClassifier:
    """Return a fitted classifier; "none" has no edges between objects."""
    without = functools.partial(stacking.fit_relations, has_edges=False)
    clf = mg.FusionClassifier(experts=MODELS[model], verbose=False, **options)
    if model != "none":
        return clf.fit(train)
    with mock.patch.object(stacking, "fit_relations", without):
        return clf.fit(train)


def scores_of(y: np.ndarray, proba: np.ndarray) -> tuple[float, float, float]:
    """Return accuracy, area under the ROC curve, and log loss."""
    found = float((proba.argmax(1) == y).mean())
    return found, float(roc_auc_score(y, proba[:, 1])), log_loss(y, proba)


def interval_of(difference: np.ndarray) -> str:
    """Return the mean of paired differences, with a normal 95% interval."""
    mean, error = difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5
    low, high = mean - 1.96 * error, mean + 1.96 * error
    return f"accuracy {mean:.3f}, 95% CI [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Fit, score and print."""
    found, commit = read_arguments(), read_commit()
    data = mg.load_dataset(found.dataset)
    part = np.asarray(data.split_name)
    train, test = (data[part == name] for name in ("train", "test"))
    given = {"epochs": found.epochs, "members": found.members}
    options = {name: value for name, value in given.items() if value is not None}
    where = "test part" if found.test else "out of fold, base learners only"
    lines = [
        f"{found.dataset}, {len(train)} training samples, {where}, commit {commit}, "
        f"options {options or 'default'}",
        "",
        "| model | seed | accuracy | AUROC | log loss | graph | fit, CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    correct: dict[tuple[int, str], np.ndarray] = {}
    for seed in found.seeds:
        for model in found.models:
            start = time.process_time()
            clf = fit(model, train, options | {"seed": seed})
            seconds = time.process_time() - start
            cells = f"| {model} | {seed} |"
            if found.test:
                y, proba = np.asarray(test.y), clf.predict_proba(test)
                correct[seed, model] = proba.argmax(1) == y
                cells += "".join(f" {x:.3f} |" for x in scores_of(y, proba))
            else:
                cells += f" {clf.out_of_fold_score_:.3f} | | |"
            cells += f" {float(clf.model_.beta):.2f} | {seconds:.0f} |\n"
            sys.stdout.write(cells)
            sys.stdout.flush()
    if found.test and {"none", "edges"} <= set(found.models):
        pairs = [
            correct[seed, "edges"].astype(float) - correct[seed, "none"]
            for seed in found.seeds
        ]
        sys.stdout.write(f"\nedges - none: {interval_of(np.mean(pairs, axis=0))}\n")


if __name__ == "__main__":
    main()
