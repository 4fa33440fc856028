"""Predictions of a fitted or exported model as JSON, for a server."""

import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, DataWarning
from mmgraph.estimators import FusionClassifier, FusionEstimator, FusionRegressor
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.nn.heads import MultiLabel
from mmgraph.serving.exported_model import ExportedModel
from mmgraph.serving.inputs import ModelInput
from mmgraph.serving.requests import RequestReader, Sample, stack

Prediction: TypeAlias = dict[str, Any]


class PredictionService:
    """Predictions of a model for the samples of requests.

    Args:
        model: Fitted classifier or regressor, or an exported model.
        max_samples: Largest number of samples of one request.

    Attributes:
        reader: Reader of requests.
        classes: Class labels, or names of labels; None for a regressor.
        task: "classification", "multi-label classification" or "regression".

    Raises:
        ConfigError: If the model is of another class.
    """

    def __init__(
        self, model: FusionEstimator | ExportedModel, *, max_samples: int = 1000
    ) -> None:
        if not isinstance(model, FusionClassifier | FusionRegressor | ExportedModel):
            raise ConfigError(
                "model must be a classifier or regressor to be served, got a "
                f"{type(model).__name__}. Search with mmgraph search."
            )
        self.model: Any = model
        self.reader = RequestReader(_inputs_of(model), max_samples=max_samples)
        classes = getattr(model, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes).tolist()
        self.multi_label = _is_multi_label(model)
        self.task = "regression" if classes is None else "classification"
        if self.multi_label:
            self.task = "multi-label classification"

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Return one prediction per sample.

        Warnings about the data are ignored.

        Args:
            samples: Samples of :attr:`reader`.

        Raises:
            DataError: If a sample does not fit the model.
        """
        if not samples:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            data = self._as_input(samples)
            if self.classes is None:
                predictions = self._values(self.model.predict(data))
            else:
                predictions = self._classes(self.model.predict_proba(data))
            sets = self._conformal(data) or [{}] * len(samples)
        return [p | each for p, each in zip(predictions, sets, strict=True)]

    def _as_input(self, samples: Sequence[Sample]) -> ModelInput:
        """Return samples as arrays if the model accepts these, which is faster."""
        arrays, times = stack(samples, self.reader.forms)
        if isinstance(self.model, ExportedModel) and not times:
            return arrays
        return MultimodalData.from_arrays(arrays, times=times or None)

    def _values(self, values: npt.NDArray[Any]) -> list[Prediction]:
        return [{"prediction": value} for value in values.tolist()]

    def _classes(self, proba: npt.NDArray[Any]) -> list[Prediction]:
        classes = self.classes or []
        names = [str(each) for each in classes]
        best = proba.argmax(1).tolist()
        return [
            {
                "prediction": (
                    {name: int(p > 0.5) for name, p in zip(names, row, strict=True)}
                    if self.multi_label
                    else classes[k]
                ),
                "probability": dict(zip(names, row, strict=True)),
            }
            for k, row in zip(best, proba.tolist(), strict=True)
        ]

    def _conformal(self, data: ModelInput) -> list[Prediction]:
        """Return a set or interval for each sample; nothing without calibration."""
        calibrated = getattr(self.model, "conformal_", None)
        if calibrated is None:
            return []
        predicted, classes = calibrated.predict(data).tolist(), self.classes
        supported = calibrated.supported(data).tolist()
        name = "interval" if classes is None else "prediction_set"
        return [
            {
                name: each
                if classes is None
                else [c for c, inside in zip(classes, each, strict=True) if inside],
                "conformal_supported": known,
            }
            for each, known in zip(predicted, supported, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """Return task, classes, limits, and the JSON Schema of a sample."""
        return {
            "task": self.task,
            "classes": self.classes,
            "sample": self.reader.schema(),
            "example": self.reader.example(),
            "max_samples": self.reader.max_samples,
        }

    def response_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a prediction."""
        number = {"type": "number"}
        value: dict[str, Any] = {"anyOf": [number, {"type": "array", "items": number}]}
        if self.classes is None:
            return {"type": "object", "properties": {"prediction": value}}
        names = {str(each): number for each in self.classes}
        prediction = {"type": "object"} if self.multi_label else {"enum": self.classes}
        probability = {"type": "object", "properties": names}
        return {
            "type": "object",
            "properties": {"prediction": prediction, "probability": probability},
        }


def _inputs_of(model: Any) -> InputSpec:  # noqa: ANN401
    spec: InputSpec = (
        model.inputs if isinstance(model, ExportedModel) else model.input_spec_
    )
    return spec


def _is_multi_label(model: Any) -> bool:  # noqa: ANN401
    if isinstance(model, ExportedModel):
        return model.multi_label
    return isinstance(model.model_.graph.task, MultiLabel)
