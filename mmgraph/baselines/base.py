"""Base class of the baselines: labels, modalities and checks.

Letters: `N` samples, `F` features of one modality, `K` classes.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.baselines.inputs import (
    FloatArray,
    FloatingArray,
    InputEncoder,
    IntArray,
    observed,
)
from mmgraph.data import MultimodalData
from mmgraph.data.targets import as_metadata, known_labels, missing_labels
from mmgraph.errors import DataError

Inputs = dict[str, FloatingArray]


class Baseline(ABC):
    """Base class: fit and predict with any pattern of missing modalities.

    Samples without a label are not used in training. If the training data have one
    class or no observed value, the model always predicts the class frequencies. A
    modality without any training value is ignored in prediction, too.

    Attributes:
        seed: Random seed of the model.
        classes_: The K classes, sorted; set by `fit`.
        prior_: Class frequencies of the training labels, [K]; set by `fit`.

    Args:
        seed: Random seed of the model.
    """

    classes_: NDArray[Any]
    prior_: FloatArray

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor parameters, for `sklearn.base.clone`."""
        return {"seed": self.seed}

    def fit(self, data: MultimodalData, y: Any = None) -> "Baseline":  # noqa: ANN401
        """Fit on samples with labels.

        Args:
            data: N samples with any pattern of missing modalities.
            y: Classes, [N] numbers or strings; NaN and None are missing labels.
                Default: `data.y`.

        Returns:
            The fitted model.

        Raises:
            DataError: If there are no labels or they are not classes.
        """
        labels, known = _labels(data, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.prior_ = np.bincount(codes) / len(codes)
        self._modalities = data.modalities
        data = data[known]
        self._encoder = InputEncoder.fit(data)
        features = self._encoder.features(data)
        self._widths = {
            name: x.shape[1] for name, x in features.items() if observed(x).any()
        }
        self._constant = len(self.classes_) == 1 or not self._widths
        if not self._constant:
            self._fit(self._inputs(data), codes.astype(np.int64), data.groups)
        return self

    def predict_proba(self, data: MultimodalData) -> FloatArray:
        """Return class probabilities, [N, K], in the order of `classes_`.

        Args:
            data: Samples with the modalities of the training data; the prediction for
                a sample without any observed modality is finite.

        Raises:
            DataError: If the model is not fitted, or modalities or features differ
                from the training data.
        """
        if not hasattr(self, "classes_"):
            raise DataError(
                f"{type(self).__name__} must be fitted before it predicts, got no "
                "classes. Call fit first."
            )
        if set(data.modalities) != set(self._modalities):
            raise DataError(
                f"data must have the modalities of the training data, "
                f"{list(self._modalities)}, got {list(data.modalities)}. Keep missing "
                "modalities with missing values instead of leaving them out."
            )
        if self._constant or len(data) == 0:
            return np.tile(self.prior_, (len(data), 1))
        return self._predict(self._inputs(data))

    def predict(self, data: MultimodalData) -> NDArray[Any]:
        """Return the most probable class of each sample, [N].

        Raises:
            DataError: If `predict_proba` raises it.
        """
        proba = self.predict_proba(data)
        chosen: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return chosen

    @abstractmethod
    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        """Fit on at least two classes, codes [N], and one modality."""

    @abstractmethod
    def _predict(self, x: Inputs) -> FloatArray:
        """Return class probabilities [N, K]."""

    def _inputs(self, data: MultimodalData) -> Inputs:
        """Return [N, F] of each modality seen in training, in training order."""
        tables = self._encoder.features(data)
        return {
            name: _with_width(name, tables[name], width)
            for name, width in self._widths.items()
        }


def _labels(
    data: MultimodalData,
    y: Any,  # noqa: ANN401
) -> tuple[NDArray[Any], IntArray]:
    """Return the known labels and the rows of their samples."""
    if y is None and data.y is None:
        raise DataError(
            "y must be given to fit a baseline, got None. Pass y or data with labels."
        )
    labels = data.y if y is None else as_metadata("y", y, len(data))
    assert labels is not None
    if labels.ndim != 1:
        raise DataError(
            f"y must have shape [N] to fit a baseline, got {list(labels.shape)}. "
            "Choose one column."
        )
    known = np.flatnonzero(~missing_labels(labels))
    if len(known) == 0:
        raise DataError("y must have a known label, got none. Add labelled samples.")
    labels = known_labels(labels)
    if labels.dtype.kind == "f" and np.mod(labels, 1).any():
        raise DataError(
            "y must hold classes to fit a baseline, got numbers with fractions. "
            "Use a regressor, or bin the numbers into classes."
        )
    return labels, known


def _with_width(name: str, x: FloatingArray, width: int) -> FloatingArray:
    """Return [N, width]; a modality without values is NaN of that width."""
    if not observed(x).any():
        return np.full((len(x), width), np.nan, dtype=np.float32)
    if x.shape[1] != width:
        raise DataError(
            f"Modality {name!r} must have {width} features as in training, got "
            f"{x.shape[1]}. Use the same columns in both."
        )
    return x
