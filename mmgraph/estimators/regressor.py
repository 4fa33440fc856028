"""Regression from whatever modalities each sample has.

Letters: ``N`` samples, ``K`` targets.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin

from mmgraph.errors import DataError
from mmgraph.estimators.base import FloatArray, FusionEstimator
from mmgraph.estimators.inputs import labels_to_score
from mmgraph.nn.heads import Regression, Task


class FusionRegressor(RegressorMixin, FusionEstimator):
    """Predict numbers from whatever modalities each sample has.

    As :class:`FusionClassifier`, with the squared error; targets are standardised
    inside. A sample with nothing observed gets the training mean. Targets that are
    missing (NaN) are left out of training.

    Takes the arguments of :class:`mmgraph.estimators.base.FusionEstimator`.
    """

    def fit(self, X: Any, y: Any = None) -> "FusionRegressor":  # noqa: ANN401, N803
        """Fit on ``MultimodalData``, or on an array ``[N, C]`` with NaN for missing.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` or ``[N, K]`` numbers; default: those of the data.

        Raises:
            DataError: No targets, or none that is known.
        """
        data = self._read_labelled(X, y)
        assert data.y is not None
        target = data.y.astype(np.float64).reshape(len(data), -1)
        known = ~np.isnan(target).all(1)
        if not known.any():
            raise DataError("fit needs at least one known target, got none.")
        target = target[known]
        self.flat_ = data.y.ndim == 1
        self.mean_ = np.nanmean(target, axis=0)
        spread = np.nanstd(target, axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        scaled = torch.from_numpy((target - self.mean_) / self.scale_).float()
        self._fit(data[known], scaled, Regression(target.shape[1]))
        return self

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return predictions ``[N]``, or ``[N, K]`` where the targets were 2-D."""
        values: FloatArray = self._predict(X) * self.scale_ + self.mean_
        return values[:, 0] if self.flat_ else values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ANN401, N803
        """Return R squared over known targets."""
        from sklearn.metrics import r2_score

        truth, said = labels_to_score(X, y).astype(np.float64), self.predict(X)
        known = ~np.isnan(truth.reshape(len(truth), -1)).any(1)
        return float(r2_score(truth[known], said[known]))

    def _target_state(self) -> dict[str, Any]:
        return {
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "flat": self.flat_,
        }

    def _restore_target(self, state: dict[str, Any]) -> Task:
        self.mean_, self.scale_ = np.array(state["mean"]), np.array(state["scale"])
        self.flat_ = state["flat"]
        return Regression(len(self.mean_))
