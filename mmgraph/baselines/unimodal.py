"""Unimodal baselines: the best modality alone, and late fusion.

Letters: `N` samples, `F` features of one modality, `K` classes.
"""

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.classifiers import (
    ignore_convergence_warnings,
    make_forest,
    make_logistic,
)
from mmgraph.baselines.inputs import (
    FloatArray,
    FloatingArray,
    IntArray,
    StandardScaler,
    observed,
)
from mmgraph.metrics import auroc

_MIN_PROBABILITY = 1e-6  # lower bound before the logarithm
_NUM_FOLDS = 5


class _UnimodalClassifier:
    """Classifier of one modality; class frequencies where the modality is missing.

    It always predicts the class frequencies if all samples with the modality are of one
    class.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        x: FloatingArray,
        y: IntArray,
        prior: FloatArray,
    ) -> None:
        self._prior = prior
        self._scaler = StandardScaler.fit(x)
        rows = observed(x)
        self._codes = np.unique(y[rows])
        self._model = model if len(self._codes) > 1 else None
        if self._model is not None:
            with ignore_convergence_warnings():
                self._model.fit(self._scaler.filled(x[rows]), y[rows])

    def predict(self, x: FloatingArray) -> FloatArray:
        """Return [N, K]; 0 for classes without training samples of the modality."""
        proba = np.tile(self._prior, (len(x), 1))
        rows = np.flatnonzero(observed(x))
        if self._model is not None and len(rows):
            proba[rows] = 0
            filled = self._scaler.filled(x[rows])
            proba[rows[:, None], self._codes] = self._model.predict_proba(filled)
        return proba


class BestSingle(Baseline):
    """Logistic regression on the modality with the best cross-validated AUROC.

    The AUROC is the mean over 5 folds (grouped if the data have groups) of the training
    samples with the modality. Samples without it are predicted by class frequencies.

    Attributes:
        modality_: The selected modality; set by `fit`.
    """

    modality_: str

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        scores = {name: self._score(x[name], y, groups) for name in x}
        self.modality_ = max(scores, key=scores.__getitem__)
        self._classifier = self._make_classifier(x[self.modality_], y)

    def _predict(self, x: Inputs) -> FloatArray:
        return self._classifier.predict(x[self.modality_])

    def _make_classifier(self, x: FloatingArray, y: IntArray) -> _UnimodalClassifier:
        return _UnimodalClassifier(make_logistic(self.seed), x, y, self.prior_)

    def _score(
        self, x: FloatingArray, y: IntArray, groups: NDArray[Any] | None
    ) -> float:
        """Return the mean AUROC over folds; 0.5 if no fold has one."""
        rows = np.flatnonzero(observed(x))
        groups = None if groups is None else groups[rows]
        x, y = x[rows], y[rows]
        scores = [
            auroc(y[test], self._make_classifier(x[train], y[train]).predict(x[test]))
            for train, test in stratified_folds(y, groups, self.seed)
        ]
        known = [score for score in scores if not np.isnan(score)]
        return float(np.mean(known)) if known else 0.5


class _LateFusion(Baseline):
    """Normalized mean log-probability of the classifiers of the present modalities."""

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        self._classifiers = {
            name: _UnimodalClassifier(self._make(), table, y, self.prior_)
            for name, table in x.items()
        }

    def _predict(self, x: Inputs) -> FloatArray:
        proba = np.stack([self._classifiers[name].predict(x[name]) for name in x])
        present = np.stack([observed(table) for table in x.values()])
        log_proba = np.log(np.clip(proba, _MIN_PROBABILITY, 1)) * present[:, :, None]
        count = present.sum(axis=0)[:, None]
        pooled = np.exp(log_proba.sum(axis=0) / np.maximum(count, 1))
        pooled = np.where(count > 0, pooled, self.prior_)
        fused: FloatArray = pooled / pooled.sum(axis=1, keepdims=True)
        return fused

    @abstractmethod
    def _make(self) -> Any:  # noqa: ANN401
        """Return the unfitted classifier of one modality."""


class LateLogistic(_LateFusion):
    """Late fusion of logistic regressions: normalized mean of log-probabilities.

    Samples without any observed modality are predicted by class frequencies.

    References:
        On combining classifiers. Kittler et al., 1998.
    """

    def _make(self) -> Any:  # noqa: ANN401
        return make_logistic(self.seed)


class LateForest(_LateFusion):
    """Late fusion of random forests: normalized mean of log-probabilities.

    Samples without any observed modality are predicted by class frequencies.

    References:
        On combining classifiers. Kittler et al., 1998.
    """

    def _make(self) -> Any:  # noqa: ANN401
        return make_forest(self.seed)


def stratified_folds(
    y: IntArray, groups: NDArray[Any] | None, seed: int
) -> list[tuple[IntArray, IntArray]]:
    """Return up to 5 folds; none where there are too few samples or groups."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = len(y) if groups is None else len(np.unique(groups))
    largest = int(np.bincount(y).max())
    num_folds = min(_NUM_FOLDS, units, largest)
    if num_folds < 2:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a class with fewer samples than folds is absent from some folds
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = list(splitter.split(np.zeros(len(y)), y, groups))
    return [(train, test) for train, test in folds if len(train) and len(test)]
