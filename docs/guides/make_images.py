"""Draw the figures of the user guides.

python docs/guides/make_images.py              # all of them, several minutes
python docs/guides/make_images.py mask_plans   # one of them
"""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

import mmgraph as mg
from mmgraph import missing, plotting

IMAGES = Path(__file__).parent / "images"
EXAMPLES = Path(__file__).parents[2] / "examples"
DARK, LIGHT, GRAY, ORANGE = "#1b4f72", "#a9cce3", "#7f8c8d", "#ca6f1e"
STYLE = {
    "svg.hashsalt": "mmgraph",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def auroc_of(
    train: mg.MultimodalData, test: mg.MultimodalData
) -> tuple[float, np.ndarray]:
    """Return the AUROC of the default classifier, and its probabilities."""
    clf = mg.FusionClassifier(seed=0, verbose=False).fit(train)
    p = clf.predict_proba(test)[:, 1]
    return float(roc_auc_score(test.y, p)), p


def cohort_splits() -> Figure:
    """Draw AUROC of random folds within hospitals, and of each hospital left out."""
    data = mg.load_dataset("heart")
    within = data.replace(groups=None)
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(within.y, within.y)
    known = [auroc_of(within[train], within[test])[0] for train, test in folds]
    hospitals = np.unique(data.groups)
    new = [
        auroc_of(data[data.groups != name], data[data.groups == name])[0]
        for name in hospitals
    ]
    figure, axes = plt.subplots(figsize=(5.6, 2.6))
    axes.plot(known, np.full(5, len(hospitals)), "o", color=DARK, alpha=0.7)
    axes.plot(new, np.arange(len(hospitals)), "o", color=ORANGE)
    shares = [data.y[data.groups == name].mean() for name in hospitals]
    names = [f"{n}, {s:.0%} diseased" for n, s in zip(hospitals, shares, strict=True)]
    axes.set_yticks(range(len(hospitals) + 1), [*names, "patients of known hospitals"])
    axes.set(xlabel="AUROC", xlim=(0.5, 1), title="one hospital left out, or none")
    axes.grid(axis="x", alpha=0.3)
    return figure


def sensor_nodes() -> Figure:
    """Draw 10 s of three sensors, and the segments that become nodes."""
    rng = np.random.default_rng(0)
    panels = [("acceleration, 50 Hz", 50), ("skin conductance, 4 Hz", 4)]
    panels.append(("heart rate, 1 Hz", 1))
    figure, rows = plt.subplots(3, 1, figsize=(6.4, 3.6), sharex=True)
    for axes, (name, rate) in zip(rows, panels, strict=True):
        t = np.arange(10 * rate) / rate
        x = np.sin(2 * np.pi * 0.3 * t) + rng.normal(0, 0.25, len(t))
        style = "-" if rate == 50 else "o"
        axes.plot(t, x, style, color=GRAY, lw=0.7, ms=3)
        _draw_nodes(axes, t, x)
        axes.set_ylabel(name.replace(", ", "\n"), rotation=0, ha="right", va="center")
        axes.set_yticks([])
    rows[0].set_title("rows (gray) and nodes (blue: mean and duration), max_nodes=16")
    rows[-1].set_xlabel("seconds")
    return figure


def _draw_nodes(axes: Axes, t: np.ndarray, x: np.ndarray, max_nodes: int = 16) -> None:
    count = min(max_nodes, len(t))
    node = np.arange(len(t)) * count // len(t)
    for i in range(count):
        rows = node == i
        first, last, level = t[rows].min(), t[rows].max(), x[rows].mean()
        axes.plot([first, last], [level, level], color=DARK, lw=2.5)
        axes.plot((first + last) / 2, level, "o", color=DARK, ms=4)


def mask_plans() -> Figure:
    """Draw the mask plans of six patterns for 60 patients."""
    data = mg.load_dataset("heart")
    rows = np.sort(np.random.default_rng(0).choice(len(data), 60, replace=False))
    rows = rows[np.argsort(data.groups[rows], kind="stable")]
    patterns: list[missing.Pattern] = [
        missing.mcar(0.5),
        missing.imbalanced({"lab": 0.7, "exercise_ecg": 0.2}),
        missing.block(0.5),
        missing.mar(0.5, on="history"),
        missing.mnar(0.5),
        missing.only(["history", "rest_exam"]),
    ]
    figure, panels = plt.subplots(1, 6, figsize=(8.2, 3.4), sharey=True)
    colors = matplotlib.colors.ListedColormap(["white", LIGHT, DARK])
    for axes, pattern in zip(panels, patterns, strict=True):
        plan = pattern.plan(data, seed=0)
        state = data.present[rows].astype(int) + plan.present[rows]
        axes.imshow(state, aspect="auto", cmap=colors, vmin=0, vmax=2)
        axes.set_title(type(pattern).__name__)
        axes.set_xticks(range(data.shape[1]), data.modalities, rotation=90)
        axes.set_yticks([])
    panels[0].set_ylabel("60 patients, by hospital")
    return figure


def outputs() -> Figure:
    """Draw a reliability diagram, and the mean contribution of each modality."""
    data = mg.load_dataset("heart").replace(groups=None)
    train, test = data.split(test_size=0.4, seed=0)
    clf = mg.FusionClassifier(seed=0, verbose=False).fit(train)
    fewer = missing.mcar(0.5).plan(test, seed=0).apply(test)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.0), layout="constrained")
    left.plot([0, 1], [0, 1], ":", color=GRAY)
    for part, color in ((test, DARK), (fewer, ORANGE)):
        p = clf.predict_proba(part)[:, 1]
        observed, predicted = calibration_curve(
            part.y, p, n_bins=6, strategy="quantile"
        )
        left.plot(predicted, observed, "o-", color=color)
    left.legend(["perfect calibration", "as observed", "half removed"], frameon=False)
    left.set(xlabel="predicted probability of disease", ylabel="observed share")
    explanation = clf.explain(test)
    size = np.abs(explanation.values[:, :, 1]).mean(axis=0)
    order = np.argsort(size)
    right.barh(np.array(explanation.modalities)[order], size[order], color=DARK)
    right.set(xlabel="mean absolute contribution to P(disease)")
    return figure


def attention() -> Figure:
    """Return the last figure of the gallery page about fusion operators."""
    runpy.run_path(str(EXAMPLES / "fusion_operators.py"))
    return plt.gcf()


def alignment() -> Figure:
    """Draw two studies with one common modality, and the table of similarity."""
    data = mg.load_dataset("mfeat").select(["fac", "kar", "pix"])
    order = np.random.default_rng(0).permutation(len(data))
    train, test = data[order[:1000]], data[order[1000:1200]]
    first = np.arange(len(train)) < 500
    train = train.mask({"pix": ~first, "fac": first})
    z = mg.alignment.CCA(20).fit(train).transform(test)
    table = mg.alignment.similarity(z["fac"], z["pix"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.2, 3.0), width_ratios=[1, 1.5], layout="constrained"
    )
    for place, name in enumerate(train.modalities):
        rows = np.flatnonzero(train.select(name).present)
        left.bar(place, len(rows), bottom=rows[0], width=0.8, color=DARK)
    left.set_xticks(range(3), train.modalities)
    left.set(ylabel="training sample", title="observed rows", ylim=(1000, 0))
    by_digit = np.argsort(test.y, kind="stable")[::2]
    drawn = right.imshow(
        table[np.ix_(by_digit, by_digit)],
        cmap="RdBu_r",
        vmin=-1,
        vmax=1,
        interpolation="none",
    )
    right.set(xlabel="pix of new samples, by digit", ylabel="fac of new samples")
    figure.colorbar(drawn, ax=right, label="similarity")
    return figure


def displays() -> Figure:
    """Draw one display of each kind, from the models of the guide."""
    data = mg.load_dataset("heart").replace(groups=None)
    train, test = data.split(test_size=0.4, seed=0)
    quick = {"epochs": 5, "members": 2, "experts": ("linear", "spline")}
    clf = mg.FusionClassifier(seed=0, verbose=False, **quick).fit(train)
    models = {"fusion": clf, "late fusion": mg.baselines.LateLogistic().fit(train)}
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.2), layout="constrained")
    for name, model in models.items():
        options = {"metrics": ["auroc"], "intervals": name == "fusion"}
        scores = mg.evaluate(model, test, [0, 0.25, 0.5, 0.75], **options)
        plotting.RobustnessDisplay.from_evaluation(scores, name=name, ax=axes[0, 0])
        p = model.predict_proba(test)[:, 1]
        plotting.DecisionCurveDisplay.from_predictions(
            test.y, p, name=name, ax=axes[1, 1]
        )
    plotting.MissingnessDisplay.from_data(data, max_patterns=10, ax=axes[0, 1])
    report = mg.contributions(clf, test)
    plotting.ContributionsDisplay.from_contributions(report, ax=axes[1, 0])
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "alignment": alignment,
    "attention": attention,
    "cohort_splits": cohort_splits,
    "displays": displays,
    "mask_plans": mask_plans,
    "outputs": outputs,
    "sensor_nodes": sensor_nodes,
}


def main(names: list[str]) -> None:
    """Draw the figures of these names; all of them where none is given."""
    IMAGES.mkdir(exist_ok=True)
    for name in names or FIGURES:
        with plt.rc_context(STYLE):
            figure = FIGURES[name]()
            figure.savefig(
                IMAGES / f"{name}.svg", bbox_inches="tight", metadata={"Date": None}
            )
            plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
