"""Regression from whatever modalities each sample has.

Letters: ``N`` samples, ``K`` targets.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor

from mmgraph.data.column import BoolArray
from mmgraph.data.labels import labelled_rows
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.base import (
    AnyArray,
    FloatArray,
    FusionEstimator,
)
from mmgraph.estimators.inputs import labels_to_score
from mmgraph.estimators.states import StateTransformer
from mmgraph.nn.heads import Regression, Task


class FusionRegressor(RegressorMixin, StateTransformer, FusionEstimator):
    """Predict numbers from whatever modalities each sample has.

    As :class:`FusionClassifier`, with the squared error; targets are standardised
    inside. A sample with nothing observed gets the training mean. Targets that are
    missing (NaN) are left out of training; of several targets, the graph learns from
    each that is known, experts from rows in which all are.

    Takes the arguments of :class:`mmgraph.estimators.base.FusionEstimator`.
    """

    def fit(self, X: Any, y: Any = None) -> "FusionRegressor":  # noqa: ANN401, N803
        """Fit on data, a stream, or an array ``[N, C]`` with NaN for missing.

        Of a ``MultimodalStream`` that is larger than its memory, a random sample
        trains the experts and validates the members; the graph learns from all samples.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` or ``[N, K]`` numbers; default: those of the data.

        Raises:
            DataError: No targets, or none that is known.
        """
        self._fit_distributed(X, y)
        return self

    def _learn_targets(self, y: AnyArray) -> tuple[Tensor, BoolArray, Task]:
        target = _numbers(y)
        known = ~np.isnan(target).all(1)
        if not known.any():
            raise DataError("fit needs at least one known target, got none.")
        target = target[known]
        self.flat_ = y.ndim == 1
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_, spread = np.nanmean(target, axis=0), np.nanstd(target, axis=0)
        if not np.isfinite([self.mean_, spread]).all():
            raise DataError(
                "y must be of numbers whose variance is finite, got too large ones. "
                "Rescale them."
            )
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return *self._encode(y), Regression(target.shape[1])

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        target = _numbers(y)
        scaled = torch.from_numpy((target - self.mean_) / self.scale_).float()
        return scaled, np.asarray(~np.isnan(target).all(1))

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return predictions ``[N]``, or ``[N, K]`` where the targets were 2-D."""
        values = self._predict(X)
        return values[:, 0] if self.flat_ else values

    def _in_units(self, said: Tensor) -> FloatArray:
        values: FloatArray = super()._in_units(said) * self.scale_ + self.mean_
        return values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ANN401, N803
        """Return R squared over known targets.

        Raises:
            DataError: No targets, none that is known, or of another shape.
        """
        from sklearn.metrics import r2_score

        said = self.predict(X)
        truth = labels_to_score(X, y, said.shape)
        known = labelled_rows(_numbers(truth))
        if not known.any():
            raise DataError("score needs a sample with all targets known, got none.")
        return float(r2_score(truth[known], said[known]))

    def _target_state(self) -> dict[str, Any]:
        return {
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "flat": self.flat_,
        }

    def _restore_target(self, state: dict[str, Any]) -> Task:
        self.mean_ = np.array(state["mean"], dtype=np.float64)
        self.scale_ = np.array(state["scale"], dtype=np.float64)
        self.flat_ = bool(state["flat"])
        if self.mean_.ndim != 1 or self.scale_.shape != self.mean_.shape:
            raise CheckpointError("Targets must have one mean and one scale each.")
        return Regression(len(self.mean_))


def _numbers(y: AnyArray) -> FloatArray:
    """Return targets ``[N, K]``."""
    if y.dtype.kind not in "fiub":
        raise DataError(
            "y must hold numbers for regression, got strings.",
            "Use FusionClassifier for classes.",
        )
    return y.astype(np.float64).reshape(len(y), -1 if y.size else 1)
