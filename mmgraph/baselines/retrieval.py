"""Retrieval baselines: similarities per pair of modalities, combined by late fusion.

The similarity of a query and an entry is the mean over all pairs of their present
modalities.
Letters: `N` samples, `Q` queries, `G` gallery entries, `F` features, `R` common width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mmgraph.alignment import canonical
from mmgraph.baselines.inputs import (
    FloatArray,
    FloatingArray,
    InputEncoder,
    StandardScaler,
    observed,
)
from mmgraph.data import MultimodalData
from mmgraph.data.targets import missing_labels

Rows = dict[str, FloatArray]
Pair = tuple[FloatArray, FloatArray]

COMPONENTS = 128  # principal components per modality
CANONICAL = 32  # canonical components
RIDGE = 1 / 11  # of CCA: a tenth of the mean variance is added to each
MIN_PAIRS = 8  # fewest samples with both modalities that a pair is fitted on


class RetrievalBaseline(ABC):
    """Base class: similarity of queries and gallery from any of their modalities.

    Attributes:
        seed: Random seed of the model.

    Args:
        seed: Random seed of the model.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, data: MultimodalData) -> "RetrievalBaseline":
        """Fit on samples with several modalities.

        Args:
            data: N samples; labels are used only by `SemanticMatching`.

        Returns:
            The fitted model.
        """
        self._encoder = InputEncoder.fit(data)
        features = self._encoder.features(data)
        x = {name: rows for name, rows in features.items() if _any(rows)}
        self._scalers = {name: StandardScaler.fit(rows) for name, rows in x.items()}
        self._fit(self._inputs(data), data)
        return self

    def similarity(
        self,
        queries: MultimodalData,
        gallery: MultimodalData,
        source: Sequence[str],
        target: Sequence[str],
    ) -> FloatArray:
        """Return the similarity of each query and each entry.

        Args:
            queries: Q samples, of which the modalities `source` are used.
            gallery: G samples, of which the modalities `target` are used.
            source: Modalities of the queries; any of them may be missing.
            target: Modalities of the entries; any of them may be missing.

        Returns:
            [Q, G]; -inf where no pair of modalities can be compared.
        """
        x, y = (
            self._inputs(queries.select(source)),
            self._inputs(gallery.select(target)),
        )
        total = np.zeros((len(queries), len(gallery)))
        count = np.zeros(total.shape)
        for a in x:
            for b in y:
                pair = self._embed(a, x[a], b, y[b])
                if pair is None:
                    continue
                both = observed(x[a])[:, None] & observed(y[b])[None]
                u, v = (np.where(np.isnan(side), 0, side) for side in pair)
                total += np.where(both, _unit(u) @ _unit(v).T, 0)
                count += both
        return np.where(count > 0, total / np.maximum(count, 1), -np.inf)

    def _inputs(self, data: MultimodalData) -> Rows:
        """Return standardized features by trained modality; NaN where missing."""
        inputs = {}
        for name, rows in self._encoder.features(data).items():
            if name in self._scalers:
                filled = self._scalers[name].filled(
                    _with_width(rows, self._scalers[name])
                )
                inputs[name] = np.where(observed(rows)[:, None], filled, np.nan)
        return inputs

    @abstractmethod
    def _fit(self, x: Rows, data: MultimodalData) -> None:
        """Fit on [N, F] by modality, NaN where missing."""

    @abstractmethod
    def _embed(self, a: str, x: FloatArray, b: str, y: FloatArray) -> Pair | None:
        """Return both sides in one space; None for a pair that was not fitted.

        The values of missing rows are arbitrary.
        """


class PairwiseBaseline(RetrievalBaseline):
    """Base class: one model per pair of modalities, fitted on samples with both."""

    def _fit(self, x: Rows, data: MultimodalData) -> None:
        self._components = {name: Components.fit(rows) for name, rows in x.items()}
        self._pairs: dict[tuple[str, str], Any] = {}
        for a, b in combinations(x, 2):
            both = observed(x[a]) & observed(x[b])
            if both.sum() < MIN_PAIRS:
                continue
            sides = [self._components[m].apply(x[m][both]) for m in (a, b)]
            if all(np.ptp(side, axis=0).any() for side in sides):  # else no relation
                self._pairs[a, b] = self._fit_pair(*sides)

    def _embed(self, a: str, x: FloatArray, b: str, y: FloatArray) -> Pair | None:
        u, v = self._components[a].apply(x), self._components[b].apply(y)
        if a == b:
            return u, v
        if (a, b) in self._pairs:
            return self._embed_pair(self._pairs[a, b], u, v)
        if (b, a) in self._pairs:
            v, u = self._embed_pair(self._pairs[b, a], v, u)
            return u, v
        return None

    @abstractmethod
    def _fit_pair(self, x: FloatArray, y: FloatArray) -> Any:  # noqa: ANN401
        """Fit on the components of both sides, each [n, <= 128]."""

    @abstractmethod
    def _embed_pair(self, fitted: Any, x: FloatArray, y: FloatArray) -> Pair:  # noqa: ANN401
        """Return both sides in the space of the pair."""


class CCA(PairwiseBaseline):
    """Canonical correlation analysis of the principal components of each pair.

    References:
        Relations between two sets of variates. Hotelling, 1936.
        A new approach to cross-modal multimedia retrieval. Rasiwasia et al., 2010.
    """

    def _fit_pair(self, x: FloatArray, y: FloatArray) -> Any:  # noqa: ANN401
        return canonical.CCA(CANONICAL, ridge=RIDGE, scale=False).fit({"x": x, "y": y})

    def _embed_pair(self, fitted: Any, x: FloatArray, y: FloatArray) -> Pair:  # noqa: ANN401
        weight = np.sqrt(np.clip(fitted.correlations_, 0, 1))
        u, v = fitted.transform({"x": x})["x"], fitted.transform({"y": y})["y"]
        return u * weight, v * weight


class RidgePCA(PairwiseBaseline):
    """Ridge regression from the components of each side to those of the other.

    The penalty is chosen by leave-one-out error on the training pairs. The similarity
    is the mean of the cosines in both spaces.
    """

    def _fit_pair(self, x: FloatArray, y: FloatArray) -> Any:  # noqa: ANN401
        from sklearn.linear_model import RidgeCV

        penalties = np.logspace(-1, 5, 13)
        forward = RidgeCV(alphas=penalties, fit_intercept=False).fit(x, y)
        backward = RidgeCV(alphas=penalties, fit_intercept=False).fit(y, x)
        return forward.coef_.T, backward.coef_.T

    def _embed_pair(self, fitted: Any, x: FloatArray, y: FloatArray) -> Pair:  # noqa: ANN401
        forward, backward = fitted
        return (
            np.concatenate([_unit(x @ forward), _unit(x)], axis=1),
            np.concatenate([_unit(y), _unit(y @ backward)], axis=1),
        )


class SemanticMatching(RetrievalBaseline):
    """Cosine of centered class probabilities of one logistic regression per modality.

    It needs labels of at least two classes; otherwise no pair can be compared.

    References:
        A new approach to cross-modal multimedia retrieval. Rasiwasia et al., 2010.
    """

    def _fit(self, x: Rows, data: MultimodalData) -> None:
        from sklearn.linear_model import LogisticRegression

        self._classifiers = {}
        known = np.zeros(len(data), dtype=bool)
        if data.y is not None and data.y.ndim == 1:
            known = ~missing_labels(data.y)
        for name, rows in x.items():
            use = known & observed(rows)
            if use.any() and data.y is not None and len(np.unique(data.y[use])) > 1:
                classifier = LogisticRegression(C=0.1, max_iter=1000)
                self._classifiers[name] = classifier.fit(rows[use], data.y[use])
        classes = [
            set(classifier.classes_.tolist())
            for classifier in self._classifiers.values()
        ]
        self._shared = sorted(set.intersection(*classes)) if classes else []

    def _embed(self, a: str, x: FloatArray, b: str, y: FloatArray) -> Pair | None:
        if (
            a not in self._classifiers
            or b not in self._classifiers
            or len(self._shared) < 2
        ):
            return None
        return self._probabilities(a, x), self._probabilities(b, y)

    def _probabilities(self, name: str, x: FloatArray) -> FloatArray:
        classifier = self._classifiers[name]
        proba = np.full((len(x), len(classifier.classes_)), np.nan)
        has = observed(x)
        if has.any():
            proba[has] = classifier.predict_proba(x[has])
        shared = proba[:, np.searchsorted(classifier.classes_, self._shared)]
        return np.asarray(shared - 1 / len(self._shared))


class Components:
    """The largest principal components of one modality, not whitened."""

    def __init__(self, axes: FloatArray) -> None:
        self.axes = axes

    @classmethod
    def fit(cls, x: FloatArray) -> "Components":
        """Fit on the observed rows of [N, F], whose columns have mean 0."""
        rows = x[observed(x)]
        kept = min(COMPONENTS, *rows.shape)
        return cls(np.linalg.svd(rows, full_matrices=False)[2][:kept].T)

    def apply(self, x: FloatArray) -> FloatArray:
        """Return the components [N, R]."""
        return x @ self.axes


def _unit(x: FloatArray) -> FloatArray:
    """Return rows scaled to unit length; rows of zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def _any(rows: FloatingArray) -> bool:
    return bool(observed(rows).any())


def _with_width(rows: FloatingArray, scaler: StandardScaler) -> FloatingArray:
    """Return the rows; if the modality has no value, NaN of the trained width."""
    width = len(scaler.mean)
    if rows.shape[1] != width and not _any(rows):
        return np.full((len(rows), width), np.nan)
    return rows
