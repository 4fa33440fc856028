"""FusionSurvival against survival models on the concatenation of all modalities.

The data sets are those of scikit-survival, their columns divided into modalities.
Modalities are removed completely at random from training and test samples; every
sample keeps at least one. Folds are balanced by event. Differences have 95% confidence
intervals by the corrected resampled t-test over all folds.

    pip install "mmgraph[survival]"
    python benchmarks/survival.py --output benchmarks/results/survival.json
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sksurv import datasets
from sksurv.ensemble import RandomSurvivalForest
from sksurv.functions import StepFunction
from sksurv.linear_model import CoxPHSurvivalAnalysis

import mmgraph as mg
from mmgraph import metrics

Columns: TypeAlias = Mapping[str, Sequence[str]]
Array: TypeAlias = npt.NDArray[Any]
Samples: TypeAlias = tuple[pd.DataFrame, Array, Array]
SETS: Mapping[str, tuple[Callable[[], Any], Columns]] = {
    "gbsg2": (
        datasets.load_gbsg2,
        {
            "patient": ["age", "menostat", "horTh"],
            "tumor": ["tsize", "tgrade", "pnodes"],
            "receptors": ["estrec", "progrec"],
        },
    ),
    # without the length of stay, which is not known at admission
    "whas500": (
        datasets.load_whas500,
        {
            "patient": ["age", "gender", "bmi"],
            "vitals": ["hr", "sysbp", "diasbp"],
            "history": ["afb", "chf", "cvd"],
            "infarction": ["sho", "av3", "miord", "mitype"],
        },
    ),
    "veterans": (
        datasets.load_veterans_lung_cancer,
        {
            "patient": ["Age_in_years", "Karnofsky_score"],
            "tumor": ["Celltype", "Months_from_Diagnosis"],
            "treatment": ["Treatment", "Prior_therapy"],
        },
    ),
    "aids": (
        datasets.load_aids,
        {
            "patient": ["age", "sex", "raceth", "ivdrug", "hemophil"],
            "immune": ["cd4"],
            "function": ["karnof", "priorzdv"],
            "treatment": ["tx", "txgrp", "strat2"],
        },
    ),
    # without the cause of death
    "flchain": (
        datasets.load_flchain,
        {
            "patient": ["age", "sex"],
            "light_chains": ["kappa", "lambda"],
            "blood": ["creatinine", "mgus"],
        },
    ),
}
LARGEST = 1000  # samples that are used of a larger set
RIDGE = 1.0  # of Cox regression on standardized features
SEED, TEST_OVER_TRAIN = 0, 1 / 4


def load(name: str) -> tuple[pd.DataFrame, Columns, Array, Array]:
    """Return features, columns by modality, events and times of a data set."""
    read, modalities = SETS[name]
    frame, y = read()
    event, duration = (np.asarray(y[field]) for field in y.dtype.names)
    rows = np.flatnonzero(duration > 0)
    if len(rows) > LARGEST:
        rows = np.random.default_rng(SEED).choice(rows, LARGEST, replace=False)
    used = [name for names in modalities.values() for name in names]
    frame = frame.iloc[rows][used].reset_index(drop=True)
    return frame, modalities, event[rows].astype(bool), duration[rows]


def draw_present(num: int, modalities: int, rate: float, seed: int) -> Array:
    """Return which modalities are present, [N, M]; every sample keeps at least one."""
    rng = np.random.default_rng(seed)
    present = rng.random((num, modalities)) >= rate
    lost = ~present.any(1)
    present[lost, rng.integers(modalities, size=int(lost.sum()))] = True
    return present


def remove(frame: pd.DataFrame, modalities: Columns, present: Array) -> pd.DataFrame:
    """Return the frame without the cells of modalities that are not present."""
    frame = frame.copy()
    for column, names in zip(present.T, modalities.values(), strict=True):
        frame.loc[~column, names] = None
    return frame


class Concatenation:
    """A model of scikit-survival on all columns, imputed and standardized.

    Args:
        model: Estimator of scikit-survival.
        iterative: Impute by chained ridge regressions; otherwise, by means and, of
            categories, the most frequent one, with missing indicators.
    """

    def __init__(self, model: BaseEstimator, *, iterative: bool = False) -> None:
        self.model, self.iterative = model, iterative

    def fit(
        self, frame: pd.DataFrame, event: Array, duration: Array
    ) -> "Concatenation":
        """Fit imputation and model."""
        numeric = [n for n in frame if pd.api.types.is_numeric_dtype(frame[n])]
        others = [n for n in frame if n not in numeric]
        encode = OneHotEncoder(
            drop="first", handle_unknown="ignore", sparse_output=False
        )
        if self.iterative:
            columns = make_column_transformer(
                (_Categories(), others), ("passthrough", numeric)
            )
            self.inputs = make_pipeline(
                columns,
                IterativeImputer(random_state=SEED, max_iter=10, tol=0.1),
                StandardScaler(),
            )
        else:
            both = {"add_indicator": True}
            columns = make_column_transformer(
                (SimpleImputer(**both), numeric),
                (
                    make_pipeline(SimpleImputer(strategy="most_frequent"), encode),
                    others,
                ),
            )
            self.inputs = make_pipeline(columns, StandardScaler())
        target = np.array(
            list(zip(event, duration, strict=True)),
            dtype=[("event", bool), ("time", float)],
        )
        self.model.fit(self.inputs.fit_transform(frame), target)
        return self

    def predict(self, frame: pd.DataFrame) -> Array:
        """Return risks, [N]."""
        return np.asarray(self.model.predict(self.inputs.transform(frame)))

    def predict_survival_function(self, frame: pd.DataFrame, times: Array) -> Array:
        """Return probabilities, [N, T]."""
        curves = self.model.predict_survival_function(self.inputs.transform(frame))
        return np.stack([_steps(curve, times) for curve in curves])


class _Categories(OneHotEncoder):
    """One-hot encoding in which a missing category is missing in all columns."""

    def __init__(self) -> None:
        super().__init__(sparse_output=False, handle_unknown="ignore")

    def fit(self, X: Array, y: None = None) -> "_Categories":  # noqa: N803
        frame = pd.DataFrame(X)
        self.categories = [sorted(frame[n].dropna().unique()) for n in frame]
        super().fit(frame.fillna(frame.mode().iloc[0]))
        return self

    def transform(self, X: Array) -> Array:  # noqa: N803
        frame = pd.DataFrame(X)
        cells = super().transform(frame.astype(object).fillna("missing"))
        parts = np.split(cells, np.cumsum([len(c) for c in self.categories_])[:-1], 1)
        for name, part in zip(frame, parts, strict=True):
            part[frame[name].isna().to_numpy()] = np.nan
        return np.concatenate([part[:, 1:] for part in parts], axis=1)


def _steps(curve: StepFunction, times: Array) -> Array:
    place = np.searchsorted(curve.x, times, side="right")
    return np.concatenate([[1.0], curve.y])[place]


class Fusion:
    """FusionSurvival on the modalities."""

    def __init__(self, modalities: Columns, **options: int | None) -> None:
        self.modalities, self.options = modalities, options

    def fit(self, frame: pd.DataFrame, event: Array, duration: Array) -> "Fusion":
        """Fit the estimator."""
        y = np.column_stack([event, duration])
        data = self._read(frame).replace(y=y)
        self.model = mg.FusionSurvival(**self.options, verbose=False).fit(data)
        return self

    def _read(self, frame: pd.DataFrame) -> mg.MultimodalData:
        return mg.MultimodalData.from_pandas(frame, self.modalities)

    def predict(self, frame: pd.DataFrame) -> Array:
        """Return risks, [N]."""
        return self.model.predict(self._read(frame))

    def predict_survival_function(self, frame: pd.DataFrame, times: Array) -> Array:
        """Return probabilities, [N, T]."""
        return self.model.predict_survival_function(self._read(frame), times)


Model: TypeAlias = Fusion | Concatenation
Results: TypeAlias = dict[str, list[dict[str, float]]]


def models(modalities: Columns, epochs: int | None) -> dict[str, Model]:
    """Return unfitted models by name."""
    cox = CoxPHSurvivalAnalysis
    forest = RandomSurvivalForest(200, min_samples_leaf=15, random_state=SEED)
    return {
        "mmgraph": Fusion(modalities, epochs=epochs),
        "cox_mean": Concatenation(cox(alpha=RIDGE)),
        "cox_iterative": Concatenation(cox(alpha=RIDGE), iterative=True),
        "forest_mean": Concatenation(forest),
    }


def score_fold(model: Model, train: Samples, test: Samples) -> dict[str, float]:
    """Fit a model and return its scores on the test samples."""
    start = time.process_time()
    model.fit(*train)
    seconds = time.process_time() - start
    frame, event, duration = test
    grid = metrics.survival_grid(event, duration)
    survival = model.predict_survival_function(frame, grid)
    scores = metrics.survival_scores(
        event, duration, model.predict(frame), survival, grid
    )
    return scores | {"fit_seconds": seconds}


def run(
    name: str,
    rates: tuple[float, float],
    repeats: int,
    only: Sequence[str],
    epochs: int | None,
) -> Results:
    """Return the scores of each model in each fold."""
    frame, modalities, event, duration = load(name)
    results: Results = {}
    for repeat in range(repeats):
        folds = StratifiedKFold(5, shuffle=True, random_state=repeat)
        sizes = len(frame), len(modalities)
        for fold, parts in enumerate(folds.split(frame, event)):
            seed = 1000 * repeat + 10 * fold
            samples = []
            for part, (rows, rate) in enumerate(zip(parts, rates, strict=True)):
                present = draw_present(len(rows), sizes[1], rate, seed + part)
                seen = remove(frame.iloc[rows], modalities, present)
                samples.append((seen, event[rows], duration[rows]))
            for label, model in models(modalities, epochs).items():
                if not only or label in only:
                    results.setdefault(label, []).append(score_fold(model, *samples))
    return results


def report(name: str, rates: tuple[float, float], results: Results) -> None:
    """Print means and differences from the first model."""
    print(f"{name}, missing rates {rates[0]:g} (training) and {rates[1]:g} (test)")
    ours = next(iter(results))
    for label, folds in results.items():
        line = f"  {label:14}"
        for metric in ("concordance", "integrated_brier_score"):
            values = np.array([fold[metric] for fold in folds])
            line += f"  {metric} {values.mean():.3f}"
            if label != ours:
                mine = np.array([fold[metric] for fold in results[ours]])
                diff = metrics.paired_difference(mine, values, TEST_OVER_TRAIN)
                line += f" ({diff.mean:+.3f} [{diff.low:+.3f}, {diff.high:+.3f}])"
        seconds = np.mean([fold["fit_seconds"] for fold in folds])
        print(f"{line}  fit {seconds:.1f} s")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "datasets",
        nargs="*",
        default=["gbsg2", "whas500"],
        help="default: gbsg2 whas500",
    )
    add("--repeats", type=int, default=2, help="of 5 folds (default: %(default)d)")
    add("--train-rate", type=float, default=0.5)
    add("--test-rate", type=float, default=0.5)
    add("--models", nargs="*", default=[], help="default: all")
    add("--epochs", type=int, help="of mmgraph (default: that of the estimator)")
    add("--output", type=Path, help="JSON file of all scores")
    options = parser.parse_args()
    if unknown := sorted(set(options.datasets) - set(SETS)):
        parser.error(f"data sets must be of {', '.join(SETS)}, got {unknown[0]!r}")
    rates = options.train_rate, options.test_rate
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # of imputation
    content = {}
    for name in options.datasets:
        results = run(name, rates, options.repeats, options.models, options.epochs)
        report(name, rates, results)
        content[name] = results
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
