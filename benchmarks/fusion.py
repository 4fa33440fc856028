"""Compare fusion operators, and measure what attention reads.

Run as ``python benchmarks/fusion.py``. Prints a Markdown table with one line for each
readout of a plain ``FusionModel`` on ``Schema.late``: encoders of the modalities, no
edges and no base learners, so that the operator alone combines modalities. The arm
"edges" is ``Schema.complete`` with the readout of its fusion node. All arms have the
same members, batches, modality dropout and early stopping on a fifth of the training
samples. Splits and masks are those of ``mmgraph bench``; scores are the AUROC averaged
over missing rates (AURC) and, in parentheses, with nothing removed.

With ``--attention``, the modalities a and b of ``synergy`` and two of noise attend to
each other; prints the share of the other signal in the weights of a and b, among the
three other modalities (chance: 0.333).
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import mmgraph as mg
from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.protocol import BenchData, Split, make_splits, scored_patterns
from mmgraph.benchmark.provenance import read_commit
from mmgraph.config import BenchConfig
from mmgraph.datasets import synthetic
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.metrics import PairedDifference, aurc, auroc, paired_difference
from mmgraph.missing import modality_dropout

OPERATORS = (
    "mean",
    "sum",
    "max",
    "concat",
    "attention",
    "gated",
    "product",
    "low_rank",
)
ARMS = (*OPERATORS, "edges")
DATASETS = ("synergy", "redundant", "heart")
RATES, MASKS = (0.0, 0.3, 0.5, 0.7), 3
HELD_OUT = 5  # every fifth training sample stops the training
COPIES = 4  # masked copies of the held-out samples
BATCH, LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 64, 4e-3, 0.05, 0.35


@dataclass(frozen=True)
class Options:
    """Size of the models and of their training.

    Attributes:
        members: Members of each model.
        epochs: Passes over the training samples.
    """

    members: int = 4
    epochs: int = 30


def build_model(
    arm: str, schema: mg.Schema, num_classes: int, members: int, seed: int
) -> mg.FusionModel:
    """Return the model of an arm."""
    task = mg.Classification(num_classes)
    modalities = schema.modalities
    if arm == "edges":
        complete = mg.Schema.complete(modalities)
        return mg.FusionModel(complete, task, members=members, seed=seed)
    late = mg.Schema.late(modalities)
    options = {"readout": arm, "members": members, "seed": seed}
    return mg.FusionModel(late, task, num_layers=1, **options)


def fit(
    model: mg.FusionModel, train: mg.MultimodalData, codes: np.ndarray, options: Options
) -> mg.FusionModel:
    """Train with modality dropout, and keep the epoch with the lowest held-out loss."""
    y, generator = torch.from_numpy(codes), torch.Generator().manual_seed(0)
    order = torch.randperm(len(train), generator=generator)
    held, used = order[::HELD_OUT], order[torch.arange(len(train)) % HELD_OUT > 0]
    model.fit_scaling(train.batch(used.numpy()))
    batch = train.batch(held.numpy())
    copies = [batch] + [
        batch.drop(modality_dropout(batch.present, DROPOUT, generator))
        for _ in range(COPIES)
    ]
    steps = options.epochs * -(-len(used) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps
    )
    best, state = np.inf, copy.deepcopy(model.state_dict())
    for _ in range(options.epochs):
        shuffled = used[torch.randperm(len(used), generator=generator)]
        for rows in shuffled.split(BATCH):
            batch = train.batch(rows.numpy())
            kept = modality_dropout(batch.present, DROPOUT, generator)
            loss = model.task.loss(model(batch.drop(kept)).logits, y[rows]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            losses = [model.task.loss(model(b).logits, y[held]).mean() for b in copies]
        loss = float(torch.stack(losses).mean())
        if loss < best:
            best, state = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    return model


@torch.no_grad()
def predict(model: mg.FusionModel, data: mg.MultimodalData) -> np.ndarray:
    """Return the probabilities, averaged over members."""
    logits = model(data.batch()).logits
    return model.task.activate(logits).mean(0).numpy()


def score(bench: BenchData, split: Split, arm: str, options: Options) -> np.ndarray:
    """Return AURC and AUROC with nothing removed, of an arm on a split."""
    spec, train = InputSpec.fit(bench.data[split.train])
    model = build_model(
        arm, train.schema, len(bench.classes), options.members, split.number
    )
    fit(model, train, bench.codes[split.train], options)
    test, y = bench.data[split.test], bench.codes[split.test]
    found: dict[float, list[float]] = {rate: [] for rate in RATES}
    for condition in scored_patterns(test, RATES, MASKS, split):
        if condition.test_missing is not None:
            proba = predict(model, spec.read(condition.apply(test)))
            found[condition.test_missing].append(auroc(y, proba))
    curve = np.array([np.mean(found[rate]) for rate in RATES])
    return np.array([aurc(np.array(RATES), curve), curve[0]])


def interval(difference: PairedDifference) -> str:
    """Return a paired difference as text."""
    return f"{difference.mean:.3f} [{difference.low:.3f}, {difference.high:.3f}]"


def compare(
    name: str, arms: Sequence[str], options: Options, num_splits: int, repeats: int
) -> list[str]:
    """Return the lines of the table of a data set."""
    bench = open_bench_data(name, BenchConfig(repeats=repeats))
    splits = make_splits(bench)[:num_splits]
    table = {
        arm: np.stack([score(bench, split, arm, options) for split in splits])
        for arm in arms
    }
    overlap = len(splits[0].test) / len(splits[0].train)
    lines = [
        f"{name}, {len(bench.data)} samples, {len(splits)} splits",
        "",
        "| readout | AURC (AUROC) | AURC - mean, 95% CI |",
        "|---|---:|---:|",
    ]
    for arm, values in table.items():
        area, complete = values.mean(0)
        cell = ""
        if arm != "mean" and "mean" in table and len(splits) > 1:
            pair = values[:, 0], table["mean"][:, 0]
            cell = interval(paired_difference(*pair, overlap))
        lines.append(f"| {arm} | {area:.3f} ({complete:.3f}) | {cell} |")
    return [*lines, ""]


def attention_shares(
    seed: int, options: Options, num_samples: int = 600
) -> dict[str, float]:
    """Return the share of the other signal in the attention of a and of b."""
    signal = synthetic("synergy", num_samples=num_samples)
    rng = np.random.default_rng(seed)
    codes = np.asarray(signal.y)
    noise = {f"noise{i}": rng.normal(size=(len(signal), 4)) for i in (1, 2)}
    arrays = {name: signal.columns[name].values for name in ("a", "b")}
    data = mg.MultimodalData.from_arrays(arrays | noise, y=codes)
    order = rng.permutation(len(data))
    train, test = np.sort(order[len(data) // 5 :]), np.sort(order[: len(data) // 5])
    model = build_model("edges", data.schema, 2, options.members, seed)
    fit(model, data[train], codes[train], options)
    found = model.attention(data[test].batch())
    shares = {}
    for target, other in (("a", "b"), ("b", "a")):
        sources = (other, *noise)
        mass = [float(found[s, "to", target].weight.mean()) for s in sources]
        shares[target] = mass[0] / sum(mass)
    return shares


def measure_attention(
    options: Options, num_seeds: int, num_samples: int = 600
) -> list[str]:
    """Return the lines of the table of attention."""
    seeds = range(num_seeds)
    shares = [attention_shares(seed, options, num_samples) for seed in seeds]
    lines = [
        f"synergy and two modalities of noise, {num_samples} samples, {num_seeds} "
        "splits",
        "",
        "| target | share of the other signal, 95% CI | chance |",
        "|---|---:|---:|",
    ]
    for target in ("a", "b"):
        values = np.array([each[target] for each in shares])
        chance = np.full(len(values), 1 / 3)
        found = paired_difference(values, chance, 1 / 4)
        low, high = found.low + 1 / 3, found.high + 1 / 3
        lines.append(
            f"| {target} | {values.mean():.3f} [{low:.3f}, {high:.3f}] | 0.333 |"
        )
    return [*lines, ""]


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/fusion.py",
        description="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--datasets", nargs="+", default=list(DATASETS), help="default: %(default)s")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add("--splits", type=int, default=5, help="splits of each data set (default: 5)")
    add("--members", type=int, default=Options.members, help="default: %(default)s")
    add("--epochs", type=int, default=Options.epochs, help="default: %(default)s")
    add("--attention", action="store_true", help="measure attention instead")
    add("--samples", type=int, default=600, help="of --attention (default: 600)")
    return parser.parse_args(arguments)


def main() -> None:
    """Fit, score and print."""
    found = read_arguments()
    options = Options(found.members, found.epochs)
    sys.stdout.write(f"commit {read_commit()}, {options}\n\n")
    if found.attention:
        sys.stdout.write(
            "\n".join(measure_attention(options, found.splits, found.samples))
        )
        return
    repeats = -(-found.splits // 5)
    for name in found.datasets:
        lines = compare(name, found.arms, options, found.splits, repeats)
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
