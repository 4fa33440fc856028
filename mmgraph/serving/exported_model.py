"""Prediction from an exported model by ONNX Runtime.

Letters: ``N`` samples, ``C`` channels, ``K`` outputs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph._trace import describe_failure, trace
from mmgraph.checkpoint import LOAD_ERRORS, migrate_export
from mmgraph.errors import CheckpointError, ConfigError
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.files import check_regular, parse_document, read_bytes, shorten
from mmgraph.serving.export import METADATA, has_hash
from mmgraph.serving.inputs import Feed, ModelInput, empty_inputs, read_samples
from mmgraph.typing import PathLike

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
CLASS_KINDS = "fiubU"  # NumPy kinds of class labels


class ExportedModel:
    """Classifier or regressor in ONNX Runtime; see :func:`mmgraph.serving.load`.

    Args:
        session: Session of the ONNX graph.
        description: Metadata of the file.
        path: The file, which errors name.

    Attributes:
        inputs: Input specification: schema, kinds and channels of the modalities.
        classes_: Class labels ``[K]``, or indices of labels; None for a regressor.
        multi_label: True if the model predicts several labels of a sample.
    """

    def __init__(
        self,
        session: "InferenceSession",
        description: Mapping[str, Any],
        path: Path,
    ) -> None:
        target = description["target"]
        self.session, self._path = session, path
        self.inputs = InputSpec.from_json(description["inputs"])
        self.classes_ = _read_classes(target) if "classes" in target else None
        self.multi_label = bool(target.get("multi_label", False))
        self._flat = bool(target.get("flat", False))

    def predict_proba(self, X: ModelInput) -> FloatArray:  # noqa: N803
        """Return the probabilities of classes, or of labels.

        Args:
            X: Samples, or values by modality as in ``MultimodalData.from_arrays``. A
                modality that is left out is missing in all samples, and a row that is
                all NaN in one sample; any other NaN is a missing cell. Pass
                ``MultimodalData`` if modalities have times.

        Returns:
            Probabilities ``[N, K]``, those of the prior for a sample without any
            modality.

        Raises:
            DataError: If a modality is unknown, has another width, kind or number of
                samples, has infinite cells, or lacks times that the training had.
            ConfigError: If the model is a regressor.
        """
        if self.classes_ is None:
            raise ConfigError(
                "predict_proba requires a classifier, got an exported regressor. Use "
                "predict."
            )
        return self._run(X)

    def predict(self, X: ModelInput) -> npt.NDArray[Any]:  # noqa: N803
        """Return predicted classes, labels or values.

        Args:
            X: As in :meth:`predict_proba`.

        Returns:
            The most probable class ``[N]``; for several labels, 1 where the probability
            exceeds 0.5, ``[N, K]``; for a regressor, values ``[N]`` or ``[N, K]``.

        Raises:
            DataError: As in :meth:`predict_proba`.
        """
        outputs = self._run(X)
        if self.classes_ is None:
            return outputs[:, 0] if self._flat else outputs
        if self.multi_label:
            return (outputs > 0.5).astype(np.int64)
        result: npt.NDArray[Any] = self.classes_[outputs.argmax(1)]
        return result

    def _run(self, X: ModelInput) -> FloatArray:  # noqa: N803
        """Return the outputs of the graph, ``[N, K]``."""
        feed = read_samples(X, self.inputs)
        num_samples = len(next(iter(feed.values())))
        if not num_samples:  # the graph requires at least one sample
            return self._run_session(empty_inputs(self.inputs.schema, 1))[:0]
        return self._run_session(feed)

    def _run_session(self, feed: Feed) -> FloatArray:
        from onnxruntime.capi import onnxruntime_pybind11_state as states

        failures = (states.Fail, states.RuntimeException, states.InvalidArgument)
        try:
            outputs: FloatArray = self.session.run(None, feed)[0].astype(np.float64)
        except failures as error:
            raise CheckpointError(
                f"'{self._path}' must run in ONNX Runtime, got: {shorten(error)}. "
                "The file was changed: export the estimator again."
            ) from None
        return outputs


def load(path: PathLike, *, threads: int | None = None) -> ExportedModel:
    """Load an exported model for prediction by ONNX Runtime.

    No Python code or pickle in the file is executed.

    Args:
        path: ``.onnx`` file of :func:`mmgraph.serving.export`.
        threads: Threads per prediction; None for one per core.

    Raises:
        ConfigError: If ``mmgraph[export]`` is not installed.
        CheckpointError: If the file does not exist, or mmgraph did not write it.
    """
    path = Path(path)
    check_regular(path, CheckpointError)
    if path.suffix != ".onnx" or not path.is_file():
        raise CheckpointError(
            f"path must be an existing .onnx file, got '{path}'. Archives of "
            "torch.export contain pickled parts, which mmgraph does not read."
        )
    content = read_bytes(path, "model_bytes", CheckpointError)
    verified = has_hash(content)
    if verified is False:
        raise CheckpointError(
            f"'{path}' must have the content whose SHA-256 it contains, got another. "
            "The file is damaged or was edited: export the estimator again."
        )
    session = _open(path, content, threads)
    description = trace({})
    try:
        text = session.get_modelmeta().custom_metadata_map[METADATA]
        description = trace(dict(parse_document(text, METADATA, CheckpointError)))
        if verified is None and description.get("format", 1) > 1:
            raise CheckpointError("no hash")
        return ExportedModel(session, migrate_export(description), path)
    except LOAD_ERRORS as error:
        raise CheckpointError(
            f"'{path}' must be written by mmgraph.serving.export, got ONNX of another "
            f"origin or version: {describe_failure(error, description)}. Export the "
            "estimator again."
        ) from None


def _open(path: Path, content: bytes, threads: int | None) -> "InferenceSession":
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        raise ConfigError(
            "Exported models require onnxruntime, which is not installed. Install "
            "mmgraph[export]."
        ) from None
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    invalid = (states.Fail, states.InvalidGraph, states.InvalidProtobuf)
    others = (states.InvalidArgument, states.NotImplemented, *LOAD_ERRORS)
    try:
        # content in memory cannot refer to tensors in other files
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except (*invalid, *others) as error:
        raise CheckpointError(
            f"'{path}' must be a model that this ONNX Runtime supports, got: "
            f"{shorten(error)}."
        ) from None


def _read_classes(target: Mapping[str, Any]) -> npt.NDArray[Any]:
    kind = np.dtype(target["dtype"])
    if kind.kind not in CLASS_KINDS:
        raise ValueError(f"classes of type {kind}")
    return np.array(target["classes"], dtype=np.str_ if kind.kind == "U" else kind)
