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

from mmgraph.data import MultimodalData
from mmgraph.data.features import NUM_FEATURES
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.estimators.raw import RawInputs
from mmgraph.serving.exporting import INPUT, METADATA

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Samples: TypeAlias = MultimodalData | Mapping[str, npt.ArrayLike]
PLAIN = "fiubU"


class ExportedModel:
    """A classifier or regressor that :func:`mmgraph.serving.export` wrote.

    Args:
        session: The graph of operations.
        description: What was written beside it.

    Attributes:
        widths: ``C_m`` by modality.
        classes_: Classes or numbers of labels; None for a regressor.
    """

    def __init__(
        self, session: "InferenceSession", description: Mapping[str, Any]
    ) -> None:
        target = description["target"]
        self.session = session
        self.widths = {str(k): int(v) for k, v in description["widths"].items()}
        self.classes_ = _read_classes(target) if "classes" in target else None
        self._several = bool(target.get("multi_label", False))
        self._flat = bool(target.get("flat", False))

    def predict_proba(self, X: Samples) -> FloatArray:  # noqa: N803
        """Return probabilities ``[N, K]`` of classes, or of labels.

        Args:
            X: The data, or ``[N, C_m]`` numbers by modality: a modality that is left
                out is missing from all samples, an all-NaN row from one; other NaN are
                missing cells.

        Raises:
            DataError: An unknown modality, another width, infinite cells.
            ConfigError: The model is a regressor.
        """
        if self.classes_ is None:
            raise ConfigError(
                "predict_proba must be asked of a classifier, got an exported "
                "regressor. Use predict."
            )
        return self._run(X)

    def predict(self, X: Samples) -> npt.NDArray[Any]:  # noqa: N803
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

    def _run(self, X: Samples) -> FloatArray:  # noqa: N803
        """Return what the graph says, ``[N, K]``."""
        rows = self._read(X)
        num_samples = len(next(iter(rows.values())))
        if not num_samples:  # the graph is made for one sample or more
            return self._run(self._nothing(1))[:0]
        feed = {INPUT + name: table for name, table in rows.items()}
        said: FloatArray = self.session.run(None, feed)[0].astype(np.float64)
        return said

    def _nothing(self, num_samples: int) -> dict[str, npt.NDArray[np.float32]]:
        shapes = {name: (num_samples, width) for name, width in self.widths.items()}
        return {
            name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()
        }

    def _read(self, X: Samples) -> dict[str, npt.NDArray[np.float32]]:  # noqa: N803
        """Return ``[N, C_m]`` of every modality."""
        if isinstance(X, MultimodalData):
            self._check_raw(X)
        given: Mapping[str, npt.ArrayLike] = (
            RawInputs().as_numbers(X).features() if isinstance(X, MultimodalData) else X
        )
        unknown = [name for name in given if name not in self.widths]
        if unknown or not given:
            raise DataError(
                f"Samples must have some of the modalities {', '.join(self.widths)}, "
                f"got {', '.join(map(repr, unknown)) or 'none of them'}."
            )
        rows = {name: self._table(name, values) for name, values in given.items()}
        sizes = {name: len(table) for name, table in rows.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"Modalities must have equally many samples, got {sizes}. Mark missing "
                "ones by rows of NaN."
            )
        return self._nothing(len(next(iter(rows.values())))) | rows

    def _check_raw(self, data: MultimodalData) -> None:
        for modality in data.schema.modalities:
            plain = NUM_FEATURES.get(modality.kind)
            width = self.widths.get(modality.name, plain)
            if plain is not None and width != plain:
                raise DataError(
                    f"Modality {modality.name!r} must be the vectors [N, {width}] of "
                    f"its pretrained encoder, got {modality.kind}. Compute them with "
                    "PretrainedEncoder.encode."
                )

    def _table(self, name: str, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):  # what overflows is refused as infinite
            table = np.asarray(values, dtype=np.float32)
        width = self.widths[name]
        if table.ndim == 2 and not table.size:  # nothing observed has no width
            table = np.full((len(table), width), np.nan, dtype=np.float32)
        if table.ndim != 2 or table.shape[1] != width:
            raise DataError(
                f"Modality {name!r} must have shape [N, {width}], got "
                f"{list(table.shape)}."
            )
        if np.isinf(table).any():
            raise DataError(
                f"Modality {name!r} must be finite or NaN in float32, got an infinite "
                "value. Mark missing cells by NaN."
            )
        return table


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
        return ExportedModel(session, json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError):
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
