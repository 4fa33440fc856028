"""Baselines of unimodal experts: the best one alone, and late fusion.

Letters: `N` samples, `F` features of one modality, `K` classes.
"""

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.classifiers import make_forest, make_logistic, quiet
from mmgraph.baselines.inputs import (
    FloatArray,
    FloatingArray,
    IntArray,
    StandardScaler,
    observed,
)
from mmgraph.metrics import auroc

_LEAST = 1e-6  # lowest probability whose logarithm is taken
_NUM_FOLDS = 5


class _Expert:
    """A classifier of one modality; the prior where it is missing.

    It stays at the prior if the samples that have the modality are of one class.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        x: FloatingArray,
        y: IntArray,
        prior: FloatArray,
    ) -> None:
        self._prior = prior
        self._standardiser = StandardScaler.fit(x)
        rows = observed(x)
        self._codes = np.unique(y[rows])
        self._model = model if len(self._codes) > 1 else None
        if self._model is not None:
            with quiet():
                self._model.fit(self._standardiser.filled(x[rows]), y[rows])

    def predict(self, x: FloatingArray) -> FloatArray:
        """Return [N, K]; a class that the expert never saw gets 0."""
        proba = np.tile(self._prior, (len(x), 1))
        rows = np.flatnonzero(observed(x))
        if self._model is not None and len(rows):
            proba[rows] = 0
            filled = self._standardiser.filled(x[rows])
            proba[rows[:, None], self._codes] = self._model.predict_proba(filled)
        return proba


class BestSingle(Baseline):
    """Logistic regression on the modality with the best cross-validated AUROC.

    AUROC is that of 5 folds (grouped where the data have groups) of the training
    samples that have the modality. Where it is missing the prior is predicted.

    Attributes:
        modality_: The chosen modality; set by `fit`.
    """

    modality_: str

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        scores = {name: self._score(x[name], y, groups) for name in x}
        self.modality_ = max(scores, key=scores.__getitem__)
        self._expert = self._make_expert(x[self.modality_], y)

    def _predict(self, x: Inputs) -> FloatArray:
        return self._expert.predict(x[self.modality_])

    def _make_expert(self, x: FloatingArray, y: IntArray) -> _Expert:
        return _Expert(make_logistic(self.seed), x, y, self.prior_)

    def _score(
        self, x: FloatingArray, y: IntArray, groups: NDArray[Any] | None
    ) -> float:
        """Return the mean AUROC over folds; .5 where no fold has one."""
        rows = np.flatnonzero(observed(x))
        groups = None if groups is None else groups[rows]
        x, y = x[rows], y[rows]
        scores = [
            auroc(y[test], self._make_expert(x[train], y[train]).predict(x[test]))
            for train, test in _folds(y, groups, self.seed)
        ]
        known = [score for score in scores if not np.isnan(score)]
        return float(np.mean(known)) if known else 0.5


class _LateFusion(Baseline):
    """Mean log-probability of the experts of the present modalities, normalised."""

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        self._experts = {
            name: _Expert(self._make(), table, y, self.prior_)
            for name, table in x.items()
        }

    def _predict(self, x: Inputs) -> FloatArray:
        proba = np.stack([self._experts[name].predict(x[name]) for name in x])
        present = np.stack([observed(table) for table in x.values()])
        evidence = np.log(np.clip(proba, _LEAST, 1)) * present[:, :, None]
        count = present.sum(axis=0)[:, None]
        pooled = np.exp(evidence.sum(axis=0) / np.maximum(count, 1))
        pooled = np.where(count > 0, pooled, self.prior_)
        fused: FloatArray = pooled / pooled.sum(axis=1, keepdims=True)
        return fused

    @abstractmethod
    def _make(self) -> Any:  # noqa: ANN401
        """Return the unfitted classifier of one modality."""


class LateLogistic(_LateFusion):
    """Late fusion of logistic regressions; the prior where nothing is observed.

    References:
        On combining classifiers. Kittler et al., 1998.
    """

    def _make(self) -> Any:  # noqa: ANN401
        return make_logistic(self.seed)


class LateForest(_LateFusion):
    """Late fusion of random forests; the prior where nothing is observed.

    References:
        On combining classifiers. Kittler et al., 1998.
    """

    def _make(self) -> Any:  # noqa: ANN401
        return make_forest(self.seed)


def _folds(
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
        # A class with fewer samples than folds is skipped where it does not occur.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = list(splitter.split(np.zeros(len(y)), y, groups))
    return [(train, test) for train, test in folds if len(train) and len(test)]
