"""Score the default classifier on sequences, for every subset of the modalities.

Run as ``python benchmarks/sequences.py`` (UTD-MHAD: actions from an accelerometer, a
gyroscope and a skeleton; odd subjects for training, even subjects for testing). Options
select another data set, or a smaller model; a data set without an official split is
tested on one of five folds of its groups. It prints a Markdown table with one line for
each subset of the modalities, the scores by share of removed modalities, the weight of
the graph network and the processor seconds of the fit.

With ``--controls``, it compares the base learners without graph networks over several
seeds or folds: late fusion, a joint readout without edges between modalities, and one
with edges (see ``edge_controls.py``).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import combinations

import edge_controls
import numpy as np

import mmgraph as mg
from mmgraph.benchmark.provenance import read_commit
from mmgraph.datasets.load import dataset_card, dataset_names, find_mirror
from mmgraph.datasets.mirrors import from_mirror
from mmgraph.metrics import aurc

RATES = (0.0, 0.3, 0.5, 0.7)
SHOWN = ("accuracy", "log_loss")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/sequences.py", description="\n".join(__doc__.splitlines()[2:])
    )
    add = parser.add_argument
    add("--dataset", default="utd_mhad", help="default: %(default)s")
    add("--epochs", type=int, help="default: that of FusionClassifier")
    add("--members", type=int, help="default: that of FusionClassifier")
    add("--experts", nargs="+", help="kinds of base learners; default: all")
    add("--seed", type=int, default=0, help="default: %(default)d")
    add("--samples", type=int, help="training samples, and test samples at most")
    add("--controls", action="store_true", help="compare late, none and edges")
    add("--arms", nargs="+", default=edge_controls.ARMS, help="default: all three")
    add("--seeds", type=int, default=5, help="of --controls; default: %(default)d")
    return parser.parse_args(arguments)


def load(name: str) -> mg.MultimodalData:
    """Load a data set, or a variant of one such as ``grid_av_0db``."""
    known = dataset_names()
    if name in known:
        return mg.load_dataset(name)
    card = dataset_card(next(each for each in known if name.startswith(each)))
    return from_mirror(name, find_mirror(card))


def subsets_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all nonempty subsets, the largest first."""
    sizes = range(len(names), 0, -1)
    return [each for size in sizes for each in combinations(names, size)]


def score(
    clf: mg.FusionClassifier, test: mg.MultimodalData
) -> tuple[list[str], list[str]]:
    """Return the lines of a Markdown table by subset, and of the removed shares."""
    subsets = subsets_of(test.modalities)
    # samples without any modality of a subset get the prior
    result = mg.evaluate(clf, test, [mg.missing.only(s) for s in subsets], seeds=1)
    table = ["| modalities | accuracy | log loss |", "|---|---:|---:|"]
    for subset, row in zip(subsets, result.rows, strict=True):
        values = " | ".join(f"{row[name]:.3f}" for name in SHOWN)
        table.append(f"| {', '.join(subset)} | {values} |")
    by_rate = mg.evaluate(clf, test, RATES).rows
    lines = []
    for name in SHOWN:
        values = np.array([row[name] for row in by_rate])
        each = ", ".join(f"{v:.3f}" for v in values)
        mean = aurc(np.array(RATES), values)
        lines.append(f"{name} at removed shares {RATES}: {each}; area {mean:.3f}")
    return table, lines


def main() -> None:
    """Fit, score and print."""
    found, commit = read_arguments(), read_commit()
    data = load(found.dataset)
    if found.controls:
        lines = edge_controls.run(data, found.seeds, found.samples, found.arms)
        head = f"{found.dataset}, commit {commit}, {found.seeds} seeds"
        seconds = time.process_time()
        head += f", samples {found.samples or 'all'}, {seconds:.0f} processor seconds"
        sys.stdout.write("\n".join([head, "", *lines, ""]))
        return
    rows = edge_controls.draw_rows(data, found.seed, found.samples)
    train, test = (data[each] for each in rows)
    given = {"epochs": found.epochs, "members": found.members, "experts": found.experts}
    options = {name: value for name, value in given.items() if value is not None}
    clf = mg.FusionClassifier(**options, seed=found.seed, verbose=False)
    start = time.process_time()
    clf.fit(train)
    seconds = time.process_time() - start
    lines = [
        f"{found.dataset}, {len(train)} training samples, {len(test)} test samples, "
        f"commit {commit}, options {options or 'default'}, seed {found.seed}",
        f"weight of the graph network {float(clf.model_.beta):.2f}, "
        f"processor seconds of the fit {seconds:.0f}",
    ]
    table, scores = score(clf, test)
    sys.stdout.write("\n".join([*lines, *scores, "", *table, ""]))


if __name__ == "__main__":
    main()
