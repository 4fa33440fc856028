"""Predicting by ONNX Runtime from whatever modalities each sample has.

Letters: ``N`` samples, ``C`` channels, ``K`` outputs.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.checkpoint import migrate_export
from mmgraph.errors import CheckpointError, ConfigError, SchemaError
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.serving.export import METADATA
from mmgraph.serving.inputs import Feed, ModelInput, nothing, read_samples

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
PLAIN = "fiubU"


class ExportedModel:
    """A classifier or regressor that :func:`mmgraph.serving.export` wrote.

    Args:
        session: The graph of operations.
        description: What was written beside it.

    Attributes:
        inputs: Inputs of the model.
        classes_: Classes or numbers of labels; None for a regressor.
    """

    def __init__(
        self, session: "InferenceSession", description: Mapping[str, Any]
    ) -> None:
        target = description["target"]
        self.session = session
        self.inputs = InputSpec.from_json(description["inputs"])
        self.classes_ = _read_classes(target) if "classes" in target else None
        self._several = bool(target.get("multi_label", False))
        self._flat = bool(target.get("flat", False))

    def predict_proba(self, X: ModelInput) -> FloatArray:  # noqa: N803
        """Return probabilities ``[N, K]`` of classes, or of labels.

        Args:
            X: The data, or by modality what ``from_arrays`` takes: a modality that is
                left out is missing from all samples, an all-NaN row from one; other
                NaN are missing cells. Data alone have times.

        Raises:
            DataError: An unknown modality, another width, infinite cells, no times
                where the training had them.
            ConfigError: The model is a regressor.
        """
        if self.classes_ is None:
            raise ConfigError(
                "predict_proba must be asked of a classifier, got an exported "
                "regressor. Use predict."
            )
        return self._run(X)

    def predict(self, X: ModelInput) -> npt.NDArray[Any]:  # noqa: N803
        """Return the likeliest class ``[N]``, labels above one half, or values.

        Takes and raises what :meth:`predict_proba` does, of a regressor too.
        """
        said = self._run(X)
        if self.classes_ is None:
            return said[:, 0] if self._flat else said
        if self._several:
            return (said > 0.5).astype(np.int64)
        result: npt.NDArray[Any] = self.classes_[said.argmax(1)]
        return result

    def _run(self, X: ModelInput) -> FloatArray:  # noqa: N803
        """Return what the graph says, ``[N, K]``."""
        feed = read_samples(X, self.inputs)
        num_samples = len(next(iter(feed.values())))
        if not num_samples:  # the graph is made for one sample or more
            return self._ask(nothing(self.inputs.schema, 1))[:0]
        return self._ask(feed)

    def _ask(self, feed: Feed) -> FloatArray:
        said: FloatArray = self.session.run(None, feed)[0].astype(np.float64)
        return said


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> ExportedModel:
    """Read an exported model for ONNX Runtime; nothing in it is executed as Python.

    Args:
        path: An ``.onnx`` file of :func:`mmgraph.serving.export`.
        threads: Threads of one prediction; default: one per core.

    Raises:
        ConfigError: ``mmgraph[export]`` is not installed.
        CheckpointError: No file there, or none that mmgraph wrote.
    """
    path = Path(path)
    if path.suffix != ".onnx" or not path.is_file():
        raise CheckpointError(
            f"An exported model must be an existing .onnx file, got '{path}'. Archives "
            "of torch.export hold pickled parts, which mmgraph does not read."
        )
    session = _open(path, threads)
    try:
        text = session.get_modelmeta().custom_metadata_map[METADATA]
        return ExportedModel(session, migrate_export(json.loads(text)))
    except (AttributeError, KeyError, TypeError, ValueError, SchemaError):
        raise CheckpointError(
            f"'{path}' must be written by mmgraph.serving.export of this version, got "
            "ONNX of another origin."
        ) from None


def _open(path: Path, threads: int | None) -> "InferenceSession":
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        raise ConfigError(
            "Exported models need onnxruntime, which is not installed. Install "
            "mmgraph[export]."
        ) from None
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    wrong = (states.Fail, states.InvalidGraph, states.InvalidProtobuf)
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except (*wrong, states.InvalidArgument, states.NotImplemented) as error:
        raise CheckpointError(
            f"'{path}' must be a model that this ONNX Runtime reads, got: {error}"
        ) from None


def _read_classes(target: Mapping[str, Any]) -> npt.NDArray[Any]:
    kind = np.dtype(target["dtype"])
    if kind.kind not in PLAIN:
        raise ValueError(f"classes of type {kind}")
    return np.array(target["classes"], dtype=np.str_ if kind.kind == "U" else kind)
