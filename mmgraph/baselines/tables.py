"""Baselines with a classifier of scikit-learn on one table of all modalities.

Letters: `N` samples.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.classifiers import (
    ignore_convergence_warnings,
    make_boosting,
    make_forest,
    make_logistic,
)
from mmgraph.baselines.inputs import (
    FloatArray,
    IntArray,
    filled_table,
    fit_scalers,
)
from mmgraph.baselines.knn_imputer import NearestDonors

_MAX_DONORS = 2000  # training samples among which nearest neighbors are searched


class TableBaseline(Baseline):
    """Base class: a classifier of scikit-learn on one table."""

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        self._scalers = fit_scalers(x)
        self._model = self._make(y)
        with ignore_convergence_warnings():
            self._model.fit(self._fit_table(x), y)

    def _predict(self, x: Inputs) -> FloatArray:
        proba: FloatArray = self._model.predict_proba(self._table(x))
        return proba

    @abstractmethod
    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        """Return the unfitted classifier."""

    def _fit_table(self, x: Inputs) -> FloatArray:
        return self._table(x)

    def _table(self, x: Inputs) -> FloatArray:
        return filled_table(x, self._scalers)


class MeanLogistic(TableBaseline):
    """Mean imputation with indicators, then logistic regression.

    There is one indicator per modality and one per distinct missingness pattern of
    single columns.

    References:
        On the consistency of supervised learning with missing values. Josse et al.,
        2019. arXiv:1902.06931.
    """

    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        return make_logistic(self.seed)


class MeanForest(TableBaseline):
    """Mean imputation with indicators, then a random forest of 300 trees.

    References:
        Random forests. Breiman, 2001.
    """

    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        return make_forest(self.seed)


class HistGradientBoosting(TableBaseline):
    """Histogram gradient boosting, in which missing cells follow a learned branch.

    References:
        LightGBM: a highly efficient gradient boosting decision tree. Ke et al., 2017.
    """

    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        # its early stopping (from 10,000 samples) needs each class in the held-out part
        stopping = "auto" if np.bincount(y).min() > 1 else False
        return make_boosting(self.seed, stopping)

    def _fit_table(self, x: Inputs) -> FloatArray:
        # scikit-learn cannot bin a column without a value
        known = [~np.isnan(table).all(axis=0) for table in x.values()]
        self._columns = np.flatnonzero(np.concatenate(known))
        return self._table(x)

    def _table(self, x: Inputs) -> FloatArray:
        table = np.concatenate(list(x.values()), axis=1, dtype=np.float64)
        return table[:, self._columns]


class KNNLogistic(TableBaseline):
    """Imputation by the 5 nearest training samples, then logistic regression.

    Neighbors are searched among at most 2000 training samples, chosen at random. A
    sample without any observed value is imputed by their mean.

    References:
        Missing value estimation methods for DNA microarrays. Troyanskaya et al., 2001.
    """

    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        return make_logistic(self.seed)

    def _fit_table(self, x: Inputs) -> FloatArray:
        table = self._scaled(x)
        rng = np.random.Generator(np.random.PCG64(self.seed))
        widths = tuple(part.shape[1] for part in x.values())
        donors = np.sort(rng.permutation(len(table))[:_MAX_DONORS])
        self._donors = NearestDonors(table[donors], widths)
        return self._table(x)

    def _table(self, x: Inputs) -> FloatArray:
        return self._donors.fill(self._scaled(x))

    def _scaled(self, x: Inputs) -> FloatArray:
        tables = [self._scalers[name].scaled(table) for name, table in x.items()]
        return np.concatenate(tables, axis=1)
