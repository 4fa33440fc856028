"""Measure contributions, conformal sets, acquisition, reliability: see ``--help``.

``conformal`` calibrates on the data as they are and predicts with half of the
modalities hidden; ``acquire`` hides seven tenths and acquires
one; ``contributions`` counts verdicts and alarms on controls; ``reliability`` corrupts
half of the modalities of the test samples. Figures are means over draws of the split.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import mmgraph as mg
from mmgraph.datasets.controls import synthetic
from mmgraph.evaluation.contribution import Contributions
from mmgraph.metrics.bootstrap import bootstrap_means

QUICK = {"experts": ("linear", "spline"), "members": 2, "epochs": 5}
ALPHA, HIDDEN, SCARCE = 0.1, 0.5, 0.7
EPOCHS = 40  # of a network of `balance`
LABELS = 40  # training samples of each class of `reliability` and `balance`


def depends(num_samples: int, seed: int) -> mg.MultimodalData:
    """Draw a control in which one modality determines which other one is informative.

    ``key`` is observed in all samples; the label follows ``left`` or ``right``.
    """
    rng = np.random.default_rng(seed)
    key, left, right = rng.standard_normal((3, num_samples, 2))
    key[:, 0] = rng.choice([-2.0, 2.0], size=num_samples) + 0.3 * key[:, 0]
    chosen = np.where(key[:, 0] > 0, left[:, 0], right[:, 0])
    y = (rng.random(num_samples) < 1 / (1 + np.exp(-4 * chosen))).astype(int)
    arrays = {"key": key, "left": left, "right": right}
    return mg.MultimodalData.from_arrays(arrays, y=y)


def parts(
    name: str, seed: int, sizes: tuple[int, int, int] | None
) -> tuple[mg.MultimodalData, ...]:
    """Return training, calibration and test samples of one draw."""
    data = depends(3000, seed) if name == "depends" else mg.load_dataset(name)
    if name == "heart":
        data = data.replace(groups=None)  # split within hospitals
    order = np.random.default_rng(seed).permutation(len(data))
    n = len(data)
    train, calibration, test = sizes or (int(0.4 * n), int(0.3 * n), int(0.3 * n))
    ends = np.cumsum([train, calibration, test])
    rows = np.split(order[: ends[-1]], ends[:-1])
    return tuple(data[np.sort(each)] for each in rows)


def fitted(train: mg.MultimodalData, seed: int, quick: bool) -> mg.FusionClassifier:
    """Return a fitted classifier."""
    options: dict[str, Any] = QUICK if quick else {}
    return mg.FusionClassifier(seed=seed, verbose=False, **options).fit(train)


def codes_of(clf: mg.FusionClassifier, data: mg.MultimodalData) -> np.ndarray:
    """Return the class numbers of samples."""
    return np.searchsorted(clf.classes_, np.asarray(data.y))


# Conformal prediction


def conformal(args: argparse.Namespace) -> None:
    """Print coverage and size of sets by calibration and by number of modalities."""
    results: dict[str, list[dict[Any, np.ndarray]]] = {}
    for clf, _, calibration, test in draws(args):
        hidden = mg.missing.mcar(HIDDEN).plan(test, seed=args.seed).apply(test)
        true, counts = codes_of(clf, test), hidden.present.sum(axis=1)
        rows = np.arange(len(test))
        for score in ("aps", "lac"):
            by_condition = {}
            for condition in ("marginal", "subset"):
                sets = clf.conformal(
                    calibration, ALPHA, condition=condition, score=score
                )
                by_condition[condition] = sets.predict(hidden)
            covered = {c: s[rows, true] for c, s in by_condition.items()}
            sizes = {c: s.sum(axis=1) for c, s in by_condition.items()}
            for condition in covered:
                outcome = {"all": covered[condition], "size": sizes[condition]}
                outcome |= {
                    k: covered[condition][counts == k] for k in np.unique(counts)
                }
                outcome |= {
                    f"ids {k}": test.ids[counts == k] for k in np.unique(counts)
                }
                if condition == "subset":
                    outcome["equal"] = equal_coverage_size(
                        clf, calibration, hidden, true, score, covered["subset"].mean()
                    )
                results.setdefault(f"{score} {condition}", []).append(outcome)
    print(
        f"conformal {args.data}: alpha {ALPHA}, {HIDDEN:.0%} hidden, {args.draws} fits"
    )
    for name, outcomes in results.items():
        keys = sorted({k for o in outcomes for k in o if not isinstance(k, str)})
        counts = [sum(len(o.get(k, ())) for o in outcomes) for k in keys]
        cells = [
            f"{int(k)}: {pooled(outcomes, k):.3f} ± {clustered_error(outcomes, k):.3f} "
            f"({count})"
            for k, count in zip(keys, counts, strict=True)
        ]
        line = (
            f"{name:14} coverage {pooled(outcomes, 'all'):.3f} "
            f"size {pooled(outcomes, 'size'):.3f}  "
            f"by present modalities (samples) {', '.join(cells)}"
        )
        if "equal" in outcomes[0]:
            line += f"  marginal size at this coverage {pooled(outcomes, 'equal'):.3f}"
        print(line)


def equal_coverage_size(
    clf: mg.FusionClassifier,
    calibration: mg.MultimodalData,
    hidden: mg.MultimodalData,
    true: np.ndarray,
    score: str,
    coverage: float,
) -> np.ndarray:
    """Return sizes of sets of one threshold that has the given coverage on the test."""
    from mmgraph.conformal import class_scores, uniform_numbers

    uniform = uniform_numbers(hidden.ids, clf.seed, "test")
    scores = class_scores(clf.predict_proba(hidden), score, uniform)
    limit = np.quantile(scores[np.arange(len(true)), true], coverage, method="higher")
    return (scores <= limit).sum(axis=1)


def clustered_error(outcomes: list[dict[Any, np.ndarray]], key: object) -> float:
    """Return the standard error of a coverage, whose samples recur in several draws."""
    values, ids = (
        np.concatenate([o[k] for o in outcomes if k in o]) for k in (key, f"ids {key}")
    )
    codes = np.unique(ids.astype(str), return_inverse=True)[1]
    totals = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt((totals**2).sum()) / len(values))


def pooled(outcomes: list[dict[Any, np.ndarray]], key: object) -> float:
    """Return the mean of an outcome over all draws."""
    return float(np.concatenate([o[key] for o in outcomes if key in o]).mean())


def draws(args: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Yield a fitted model and its parts; calibration and test are split repeatedly."""
    for seed in range(args.first, args.first + args.draws):
        train, calibration, test = parts(args.data, seed, args.sizes)
        clf = fitted(train, seed, args.quick)
        rest = mg.MultimodalData.concat([calibration, test])
        for again in range(args.resplits):
            order = np.random.default_rng(1000 * seed + again).permutation(len(rest))
            first, second = order[: len(calibration)], order[len(calibration) :]
            yield clf, train, rest[first], rest[second]


# Acquisition


def acquisition(args: argparse.Namespace) -> None:
    """Print log loss and AUROC after one acquisition, by the rule that chose it."""
    losses: dict[str, list[np.ndarray]] = {}
    areas: dict[str, list[float]] = {}
    predicted, true = [], []
    for clf, train, calibration, test in draws(args):
        had = test.present
        hidden = mg.missing.mcar(SCARCE).plan(test, seed=args.seed).apply(test)
        if args.data == "depends":
            hidden = test.mask(
                {n: np.zeros(len(test), bool) for n in ("left", "right")}
            )
        buyable = had & ~hidden.present
        y, rows = codes_of(clf, test), np.flatnonzero(buyable.any(axis=1))
        value = clf.acquire(hidden, train).value
        gain, loss_with = gains(clf, test, hidden, y)
        order = trained_order(clf, calibration, args)
        rng = np.random.default_rng(args.seed)
        rules = {
            "before": None,
            "random": rng.random(buyable.shape),
            "trained order": np.tile(order, (len(test), 1)),
            "value": np.where(np.isnan(value), -1.0, value),
            "best order of the test labels": np.tile(
                np.nansum(gain, axis=0) / np.maximum(1, (~np.isnan(gain)).sum(axis=0)),
                (len(test), 1),
            ),
        }
        for name, score in rules.items():
            chosen = hidden.present.copy()
            if score is not None:
                best = np.where(buyable, score, -np.inf).argmax(axis=1)
                chosen[rows, best[rows]] = True
            proba = clf.predict_proba(test.mask(chosen))
            losses.setdefault(name, []).append(
                -np.log(proba[np.arange(len(y)), y])[rows]
            )
            areas.setdefault(name, []).append(mg.metrics.auroc(y[rows], proba[rows]))
        known = buyable & ~np.isnan(value)
        predicted.append(value[known])
        true.append(changes(clf, test, hidden, loss_with)[known])
    print(f"acquire {args.data}: {SCARCE:.0%} hidden, one acquired, {args.draws} fits")
    for name, each in losses.items():
        loss, area = np.concatenate(each).mean(), np.mean(areas[name])
        print(f"{name:30} log loss {loss:.4f} AUROC {area:.4f}")
    difference = np.concatenate(losses["value"]) - np.concatenate(
        losses["trained order"]
    )
    [(mean, low, high)] = bootstrap_means(difference[:, None])
    print(f"value minus trained order: log loss {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    from scipy.stats import spearmanr

    rho = spearmanr(np.concatenate(predicted), np.concatenate(true)).statistic
    print(f"Spearman correlation of value and true change: {rho:.2f}")


def gains(
    clf: mg.FusionClassifier,
    test: mg.MultimodalData,
    hidden: mg.MultimodalData,
    y: np.ndarray,
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the decrease of the log loss by each modality, and the predictions."""
    before = clf.predict_proba(hidden)
    rows = np.arange(len(y))
    result, probas = np.full(hidden.present.shape, np.nan), {}
    for m in range(hidden.present.shape[1]):
        keep = hidden.present.copy()
        keep[:, m] = True
        probas[m] = clf.predict_proba(test.mask(keep))
        changed = test.present[:, m] & ~hidden.present[:, m]
        gain = np.log(probas[m][rows, y]) - np.log(before[rows, y])
        result[changed, m] = gain[changed]
    return result, probas


def changes(
    clf: mg.FusionClassifier,
    test: mg.MultimodalData,
    hidden: mg.MultimodalData,
    probas: dict[int, np.ndarray],
) -> np.ndarray:
    """Return the divergence of predictions with each modality from those without."""
    p = clf.predict_proba(hidden)
    return np.stack([(q * np.log(q / p)).sum(axis=1) for q in probas.values()], axis=1)


def trained_order(
    clf: mg.FusionClassifier, calibration: mg.MultimodalData, args: argparse.Namespace
) -> np.ndarray:
    """Return the mean decrease of the log loss by each modality on labeled samples."""
    hidden = mg.missing.mcar(SCARCE).plan(calibration, seed=99).apply(calibration)
    if args.data == "depends":
        nothing = {n: np.zeros(len(calibration), bool) for n in ("left", "right")}
        hidden = calibration.mask(nothing)
    gain, _ = gains(clf, calibration, hidden, codes_of(clf, calibration))
    return np.array(
        [c[~np.isnan(c)].sum() / max((~np.isnan(c)).sum(), 1) for c in gain.T]
    )


# Reliability


def reliability(args: argparse.Namespace) -> None:
    """Print accuracies with and without reliability="typical" on corrupted samples.

    The oracle removes the corrupted modalities. Shares of rows that contradict the
    other modalities of their sample, by ``check``, are printed, too.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.first, args.first + args.draws):
        train, test = few_labels(mg.load_dataset(args.data), LABELS, seed)
        options: dict[str, Any] = QUICK if args.quick else {}
        clf = mg.FusionClassifier(
            seed=seed, verbose=False, reliability="typical", **options
        ).fit(train)
        order = np.random.default_rng(seed).permutation(len(test.modalities))
        for case, (corrupt, share) in CORRUPTIONS.items():
            broken = np.isin(np.arange(len(order)), order[: round(share * len(order))])
            data = test
            for name in np.array(test.modalities)[broken]:
                data = corrupt(str(name)).apply(data, seed=args.seed)
            outcome = outcomes_of(clf, data, broken)
            for name, value in outcome.items():
                scores.setdefault(case, {}).setdefault(name, []).append(value)
    print(f"reliability {args.data}: {args.draws} draws")
    for case, each in scores.items():
        cells = (f"{name} {np.mean(values):.4f}" for name, values in each.items())
        print(f"{case:22} {'  '.join(cells)}")


def outcomes_of(
    clf: mg.FusionClassifier, data: mg.MultimodalData, broken: np.ndarray
) -> dict[str, float]:
    """Return accuracies, and shares of contradicting rows, of corrupted samples."""
    contradicts = clf.check(data).agreement < 0.01
    outcome = {"typical": clf.score(data)}
    typicality, clf.model_.typicality = clf.model_.typicality, None
    outcome["plain"] = clf.score(data)
    outcome["oracle"] = clf.score(data.mask(np.tile(~broken, (len(data), 1))))
    clf.model_.typicality = typicality
    if broken.any():
        outcome["contradicting, corrupted"] = contradicts[:, broken].mean()
    outcome["others"] = contradicts[:, ~broken].mean()
    return outcome


def few_labels(
    data: mg.MultimodalData, count: int, seed: int
) -> tuple[mg.MultimodalData, mg.MultimodalData]:
    """Return training samples, equally many of each class, and all others."""
    y, rng = np.asarray(data.y), np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(y == k))[:count] for k in np.unique(y)]
    train = np.sort(np.concatenate(drawn))
    return data[train], data[np.setdiff1d(np.arange(len(data)), train)]


Corrupt = Callable[[str], mg.corruption.Corruption]
# corruption of a modality, and the share of the modalities
CORRUPTIONS: dict[str, tuple[Corrupt, float]] = {
    "unchanged": (mg.corruption.swap, 0.0),
    "noise of 3 sd, half": (lambda name: mg.corruption.noise(name, 3.0), 0.5),
    "gain of 6, half": (lambda name: mg.corruption.scale(name, 6.0), 0.5),
    "swapped samples, half": (mg.corruption.swap, 0.5),
    "swapped samples, one": (mg.corruption.swap, 0.1),
}


# Modality imbalance


def balance(args: argparse.Namespace) -> None:
    """Print accuracies of one graph network with single modalities, by training.

    "alone": a network of the modality alone; "joint": of all modalities; "dropout": the
    same with modality dropout at rate 0.35; "balanced": at rates that are higher for
    modalities that dominate. The same for a classifier, whose base learners are fitted
    to each modality separately.
    """
    names = mg.load_dataset(args.data).modalities
    scores: dict[str, list[list[float]]] = {}
    for seed in range(args.first, args.first + args.draws):
        train, test = few_labels(mg.load_dataset(args.data), LABELS, seed)
        ways = {"joint": None, "dropout": 0.0, "balanced": 1.0}
        for way, power in ways.items():
            model = trained_network(train, power, seed)
            single = [accuracy_of(model, test, name) for name in names]
            whole = accuracy_of(model, test)
            scores.setdefault(way, []).append([*single, whole])
        alone = [
            accuracy_of(trained_network(train.select([name]), None, seed), test, name)
            for name in names
        ]
        scores.setdefault("alone", []).append([*alone, np.nan])
        clf = fitted(train, seed, quick=True)
        single = [clf.score(test.select([name])) for name in names]
        scores.setdefault("FusionClassifier", []).append([*single, clf.score(test)])
        alone = [
            fitted(train.select([n]), seed, quick=True).score(test.select([n]))
            for n in names
        ]
        scores.setdefault("FusionClassifier alone", []).append([*alone, np.nan])
    print(f"balance {args.data}: {args.draws} draws, accuracy by modality, then all")
    means = {way: np.mean(each, axis=0) for way, each in scores.items()}
    for way, mean in means.items():
        is_network = not way.startswith("FusionClassifier")
        reference = means["alone" if is_network else "FusionClassifier alone"]
        gaps = (reference - mean)[:-1]
        cells = " ".join(f"{x:.3f}" for x in mean)
        print(f"{way:22} {cells}  gap mean {gaps.mean():.3f} largest {gaps.max():.3f}")


def trained_network(
    train: mg.MultimodalData, power: float | None, seed: int
) -> mg.FusionModel:
    """Return a graph network trained with modality dropout, or without any.

    Args:
        train: Training samples, of which a fifth determines the dropout rates.
        power: Power of the relative probability of the true class that a modality
            reaches alone, to which its rate is proportional; None for no dropout.
        seed: Seed of parameters, batches and dropout.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.from_numpy(np.unique(np.asarray(train.y), return_inverse=True)[1])
    model = mg.FusionModel(train.schema, mg.Classification(int(y.max()) + 1), seed=seed)
    model.fit_scaling(train.batch())
    order = torch.randperm(len(train), generator=generator)
    shown = order[: len(order) // 5]
    rates = torch.full((len(train.modalities),), 0.35)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    present = torch.from_numpy(train.present)
    for _ in range(EPOCHS):
        if power:
            relative = shown_probability(model, train, shown, y) ** power
            rates = (0.35 * relative / relative.mean()).clamp(max=0.8)
        for rows in torch.randperm(len(train), generator=generator).split(64):
            batch = train.batch(rows.numpy())
            if power is not None:
                draws = torch.rand((len(rows), len(rates)), generator=generator)
                depth = 2 * torch.rand((len(rows), 1), generator=generator)
                kept = present[rows] & (draws >= rates * depth)
                batch = batch.drop(kept | ~kept.any(1, keepdim=True) & present[rows])
            loss = model.task.loss(model(batch).logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def shown_probability(
    model: mg.FusionModel, data: mg.MultimodalData, rows: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Return the mean probability of the truth when one modality is shown, ``[M]``."""
    batch, result = data.batch(rows.numpy()), []
    for m in range(len(data.modalities)):
        kept = torch.zeros((len(rows), len(data.modalities)), dtype=torch.bool)
        kept[:, m] = True
        proba = model(batch.drop(kept)).logits.softmax(-1)
        result.append(proba[torch.arange(len(rows)), y[rows]].mean())
    return torch.stack(result)


@torch.no_grad()
def accuracy_of(
    model: mg.FusionModel, test: mg.MultimodalData, only: str | None = None
) -> float:
    """Return the accuracy with one modality, or with all."""
    data = test.select(model.schema.modality_names)
    batch, names = data.batch(), np.array(data.modalities)
    if only is not None:
        kept = np.tile(names == only, (len(data), 1))
        batch = batch.drop(torch.from_numpy(kept))
    y = torch.from_numpy(np.unique(np.asarray(test.y), return_inverse=True)[1])
    return float((model(batch).logits.argmax(-1) == y).double().mean())


JOINT_WAYS: dict[str, dict[str, Any]] = {
    "joint": {"missing_rate": 0.0},
    "dropout": {},
    "balanced dropout": {"balance": "dropout"},
    "balanced gradients": {"balance": "gradients"},
    "balanced blend": {"balance": "blend"},
}


def joint_networks(args: argparse.Namespace) -> None:
    """Print accuracies with single modalities of networks without base learners.

    Networks with a concatenating readout are trained on all modalities ("joint"), with
    modality dropout at rate 0.35 ("dropout"), and with that and each correction. Gaps
    are to networks of one modality.
    """
    scores: dict[str, list[np.ndarray]] = {}
    for seed in range(args.first, args.first + args.draws):
        data = mg.load_dataset(args.data).replace(groups=None)
        if args.data == "mfeat":
            train, test = few_labels(data, LABELS, seed)
        else:
            train, test = data.split(test_size=0.4, seed=seed)
        names = data.modalities
        parts = [test[np.flatnonzero(test.present[:, m])] for m in range(len(names))]
        parts = [part.select([name]) for part, name in zip(parts, names, strict=True)]

        def network(known: mg.MultimodalData, seed: int = seed, **options: Any) -> Any:  # noqa: ANN401
            options |= {"level": "feature", "readout": "concat", "verbose": False}
            size = {"members": 1, "epochs": EPOCHS}
            return mg.FusionClassifier(seed=seed, **size, **options).fit(known)

        alone = np.array(
            [
                network(train.select([name])).score(part)
                for part, name in zip(parts, names, strict=True)
            ]
        )
        scores.setdefault("alone", []).append(np.append(alone, np.nan))
        for way, options in JOINT_WAYS.items():
            clf = network(train, **options)
            each = [clf.score(part) for part in parts]
            scores.setdefault(way, []).append(np.append(each, clf.score(test)))
        if len(scores["alone"]) > 1:
            print_joint(args.data, scores)


def print_joint(name: str, scores: dict[str, list[np.ndarray]]) -> None:
    """Print means over the draws so far, and differences with standard errors."""
    draws = len(scores["alone"])
    print(f"joint {name}: {draws} draws, accuracy by modality, then all", flush=True)
    reference = np.stack(scores["alone"])
    for way, each in scores.items():
        gaps = (reference - np.stack(each))[:, :-1].mean(0)
        cells = " ".join(f"{x:.3f}" for x in np.mean(each, axis=0))
        print(f"{way:18} {cells}  gap mean {gaps.mean():.3f} largest {gaps.max():.3f}")
        if way not in ("alone", "dropout"):
            differences = np.stack(each) - np.stack(scores["dropout"])
            mean, error = differences.mean(0), differences.std(0, ddof=1)
            error = error / np.sqrt(len(differences))
            cells = " ".join(
                f"{m:+.3f}±{e:.3f}" for m, e in zip(mean, error, strict=True)
            )
            print(f"{'  less dropout':18} {cells}")


# Contributions


def contributions(args: argparse.Namespace) -> None:
    """Print how often verdicts and alarms of controls are right."""
    chosen = CHECKS if args.data is None else {args.data: CHECKS[args.data]}
    right: dict[str, list[bool | float]] = {}
    for seed in range(args.first, args.first + args.draws):
        for control, checks in chosen.items():
            report = control_report(control, seed)
            for name, holds in checks.items():
                right.setdefault(f"{control}: {name}", []).append(holds(report))
    print(f"contributions: {args.draws} draws of each control from {args.first}")
    for name, each in right.items():
        print(f"{name:36} {np.mean(each):.3f}")


def control_report(control: str, seed: int) -> Contributions:
    """Return the contributions of a model of one draw of a control."""
    data = synthetic("redundant" if control == "noise" else control, 1400, seed)
    if control == "noise":
        x = np.random.default_rng(seed + 10_000).standard_normal((1400, 3))
        features = {**data.features(), "noise": x}
        data = mg.MultimodalData.from_arrays(features, y=data.y)
    train, test = data[:400], data[400:]
    if control == "spurious":
        [rows] = np.nonzero(np.asarray(data.groups) == "site_a")
        train, test = data[rows[:400]], data[800:]
    if control in ("shortcut", "spurious"):
        return mg.contributions(mg.baselines.LateLogistic().fit(train), test)
    size = {"members": 4} if control == "synergy" else {"members": 2, "epochs": 5}
    options: dict[str, Any] = {"experts": ("linear",), "verbose": False, **size}
    model = mg.FusionClassifier(seed=seed, **options).fit(train)
    return mg.contributions(model, test)


def verdicts(report: Contributions) -> list[str]:
    """Return the verdicts of all modalities."""
    return [each.verdict for each in report.modalities]


def alarms_of(report: Contributions, kind: str) -> list[str]:
    """Return the modalities that alarms of a kind name."""
    return [alarm.modality for alarm in report.alarms if alarm.kind == kind]


CHECKS: dict[str, dict[str, Callable[[Contributions], bool | float]]] = {
    "synergy": {
        "both only together": lambda report: verdicts(report) == ["only together"] * 2
    },
    "redundant": {
        "all four redundant": lambda report: verdicts(report) == ["redundant"] * 4,
        "a modality redundant": lambda report: float(
            np.mean([each == "redundant" for each in verdicts(report)])
        ),
        "no alarm": lambda report: not report.alarms,
    },
    "noise": {
        "silent": lambda report: report["noise"].verdict == "silent",
        "not useful": lambda report: report["noise"].verdict in ("silent", "harms"),
    },
    "shortcut": {
        "alarm": lambda report: bool(alarms_of(report, "presence predicts the label"))
    },
    "spurious": {
        "cue named, nothing else": lambda report: (
            alarms_of(report, "sign change") == ["cue"]
        )
    },
}


def main() -> None:
    """Run a part of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument(
        "data",
        nargs="?",
        help="data set (default: heart, mfeat), or control (default: all)",
    )
    parser.add_argument("--draws", type=int, default=4, help="fits")
    parser.add_argument(
        "--resplits", type=int, default=1, help="calibration splits a fit"
    )
    parser.add_argument("--first", type=int, default=0, help="seed of the first fit")
    parser.add_argument("--seed", type=int, default=0, help="seed of the masks")
    parser.add_argument("--quick", action="store_true", help="small estimator")
    parser.add_argument("--sizes", type=int, nargs=3, help="samples of the three parts")
    args = parser.parse_args()
    if args.part != "contributions":
        args.data = args.data or (
            "mfeat" if args.part in ("reliability", "balance", "joint") else "heart"
        )
    elif args.data not in (None, *CHECKS):
        parser.error(f"control must be one of {', '.join(CHECKS)}, got {args.data}")
    warnings.simplefilter("ignore", mg.DataWarning)
    PARTS[args.part](args)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "conformal": conformal,
    "acquire": acquisition,
    "contributions": contributions,
    "reliability": reliability,
    "balance": balance,
    "joint": joint_networks,
}


if __name__ == "__main__":
    main()
