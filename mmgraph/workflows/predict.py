"""Predictions and embeddings of a saved model, part by part, as tables and files."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from csv import writer
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.data.validation import check_names
from mmgraph.errors import Argument, CheckpointError, ConfigError
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.files import replacing
from mmgraph.nn.heads import Classification, MultiLabel
from mmgraph.workflows.samples import read_samples
from mmgraph.workflows.saved_model import (
    Columns,
    Task,
    Warn,
    apply_training_schema,
    check_given,
    load_any,
    load_model,
    no_op,
    resolve_columns,
    warn_missing,
)

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDING = "z"
PREDICT: tuple[Task, ...] = "classification", "regression", "survival", "matching"


@runtime_checkable
class Embeds(Protocol):
    """Interface of an estimator with embeddings: a retriever."""

    input_spec_: InputSpec

    def embed(
        self, data: MultimodalData, *, modalities: Sequence[str] | None = None
    ) -> npt.NDArray[Any]:
        """Return embeddings ``[N, D]``, NaN for samples without any modality."""

    def save_pretrained(self, folder: Path) -> None:
        """Save the model as safetensors and JSON."""


@runtime_checkable
class Transforms(Protocol):
    """Interface of an estimator whose graph states serve as embeddings."""

    def transform(self, data: MultimodalData) -> npt.NDArray[Any]:
        """Return states ``[N, D]``."""


@runtime_checkable
class Matches(Protocol):
    """Interface of an estimator that compares two sides: a matcher."""

    def predict_proba(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> npt.NDArray[Any]:
        """Return probabilities ``[P]`` of pairs."""

    def rescore(
        self,
        left_data: MultimodalData,
        right_data: MultimodalData,
        rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[Any]:
        """Return probabilities ``[Q, k]`` of candidates."""


@dataclass(frozen=True)
class PredictRequest:
    """Model, samples and kind of output.

    Attributes:
        kind: "predict" or "embed".
        model: Folder of the saved model.
        file: Parquet or CSV file, folder of Parquet files, or folder of images, texts
            and audio.
        modalities: Columns of modalities that differ from those of the training.
        id: Column of ids; None is that of the training.
        only: Modalities to use; None is all modalities of the file.
        encoders: Paths of pretrained encoders that have moved, by modality.
        explain: Whether to add the contribution of each modality to the prediction.
        conformal: File of labeled samples on which conformal sets or intervals are
            calibrated; None uses those that are saved with the model, if any.
        alpha: Miscoverage of a calibration on ``conformal``; None is the default.
        acquire: File of samples whose content the values of missing modalities are
            estimated with; None adds no values.
        device: Device of the model; None is a GPU if there is one.
    """

    kind: Literal["predict", "embed"]
    model: Path
    file: Path
    modalities: dict[str, tuple[str, ...]] | None = None
    id: str | None = None
    only: tuple[str, ...] | None = None
    encoders: dict[str, str] | None = None
    explain: bool = False
    conformal: Path | None = None
    alpha: float | None = None
    acquire: Path | None = None
    device: str | None = None

    def open(self) -> DataOrStream:
        """Open the samples: a file as data, a folder as a stream.

        Raises:
            DataError: If they cannot be read.
        """
        return self._open(self.file)

    def open_other(self, file: Path, *, labels: bool) -> MultimodalData:
        """Read calibration samples or donors, with the columns of the samples.

        Args:
            file: File or folder.
            labels: Read the labels of the training too.

        Raises:
            DataError: If they cannot be read.
        """
        return in_memory(self._open(file, labels=labels))

    def _open(self, file: Path, *, labels: bool = False) -> DataOrStream:
        columns = Columns.load(self.model)
        modalities = resolve_columns(columns, file, self.modalities)
        label = columns.label if labels else None
        id = self.id or columns.id
        return read_samples(file, modalities=modalities, label=label, id=id)


def calibrate_on(
    model: Any,  # noqa: ANN401
    calibration: MultimodalData | None,
    alpha: float | None,
) -> None:
    """Calibrate the conformal sets or intervals of a model, if samples are given.

    Args:
        model: Classifier or regressor.
        calibration: Labeled samples, or None.
        alpha: Miscoverage; None is the default.

    Raises:
        ConfigError: If ``alpha`` is given without samples, or is not valid.
        DataError: If the samples do not fit the model.
    """
    if alpha is not None and calibration is None:
        raise ConfigError(
            "alpha must go with calibration samples, got none.",
            ("Give ", Argument("conformal", "calibration.parquet"), "."),
            parameter="alpha",
        )
    if calibration is not None and not hasattr(model, "conformal"):
        raise ConfigError(
            "conformal must go with a classifier or regressor, got a "
            f"{type(model).__name__}. Leave it out.",
            parameter="conformal",
        )
    if calibration is not None:
        model.conformal(calibration, **({} if alpha is None else {"alpha": alpha}))


class BatchPredictor:
    """A loaded model that maps samples to a table of predictions or embeddings.

    Args:
        request: Model, samples and kind of output.

    Raises:
        CheckpointError: If the folder contains no model for this output, or a
            pretrained encoder is not at its path.
        ConfigError: If an encoder is given for a modality without one, or
            explanations, sets or values are requested from a matcher.
        DataError: If calibration samples or donors cannot be read.
    """

    def __init__(self, request: PredictRequest) -> None:
        self.request = request
        options: Any = {"encoders": request.encoders, "device": request.device}
        if request.kind == "predict":
            self.model: Any = load_model(request.model, *PREDICT, **options)[0]
        else:
            self.model = load_any(request.model, **options)
            if not isinstance(self.model, Embeds | Transforms):
                raise CheckpointError(
                    f"{request.model} must contain a model with embeddings, got a "
                    f"{type(self.model).__name__}."
                )
        check_given(request.modalities, self.model)
        extra = {
            "--explain": request.explain,
            "--conformal": request.conformal is not None,
            "--acquire": request.acquire is not None,
        }
        used = [option for option, value in extra.items() if value]
        if used and isinstance(self.model, Matches):
            raise ConfigError(
                f"{used[0]} must go with a classifier or regressor, got a matcher. "
                f"Leave {used[0]} out."
            )
        calibration = None
        if request.conformal is not None:
            calibration = request.open_other(request.conformal, labels=True)
        calibrate_on(self.model, calibration, request.alpha)
        self.donors = None
        if request.acquire is not None:
            self.donors = request.open_other(request.acquire, labels=False)

    def open(self) -> DataOrStream:
        """Open the samples with the schema of the training."""
        return apply_training_schema(self.request.open(), self.model)

    def __call__(self, data: MultimodalData) -> "pa.Table":
        """Return one row per sample: ``id``, and predictions or embedding."""
        import pyarrow as pa

        if self.request.only is not None:
            check_names("only", self.request.only, data.modalities)
            data = data.select(self.request.only)
        columns = {"id": pa.array(data.ids.tolist())}
        if self.request.kind == "predict":
            predictions = self._predictions(data)
            columns |= predictions | self._conformal(data)
            return pa.table(columns | self._contributions(data) | self._values(data))
        embeds = isinstance(self.model, Embeds)
        z = self.model.embed(data) if embeds else self.model.transform(data)
        return pa.table(columns | {EMBEDDING: _vectors(z)})

    def _predictions(self, data: MultimodalData) -> dict[str, Any]:
        import pyarrow as pa

        if isinstance(self.model, Matches):
            proba = self.model.predict_proba(data, data)
            return {"match": pa.array(proba > 0.5), "probability": pa.array(proba)}
        classes = getattr(self.model, "classes_", None)
        if classes is None:
            y = np.asarray(self.model.predict(data))
            return {"prediction": pa.array(y) if y.ndim == 1 else _vectors(y)}
        proba = self.model.predict_proba(data)
        if isinstance(self.model.model_.graph.task, MultiLabel):
            return _label_columns(classes, proba)
        predicted = classes[proba.argmax(1)] if len(proba) else classes[:0]
        columns = {"prediction": pa.array(predicted.tolist())}
        for code, name in enumerate(classes):
            columns[f"probability_{name}"] = pa.array(proba[:, code])
        return columns

    def _contributions(self, data: MultimodalData) -> dict[str, Any]:
        """Return the contribution of each modality to the prediction."""
        import pyarrow as pa

        if not self.request.explain:
            return {}
        explanation = self.model.explain(data)
        values = explanation.values
        if isinstance(self.model.model_.graph.task, Classification):
            predicted = (explanation.base + values.sum(1)).argmax(1)
            values = np.take_along_axis(values, predicted[:, None, None], axis=2)
        parts = [values[:, m] for m in range(len(explanation.modalities))]
        return {
            f"adds_{name}": pa.array(x[:, 0]) if x.shape[1] == 1 else _vectors(x)
            for name, x in zip(explanation.modalities, parts, strict=True)
        }

    def _conformal(self, data: MultimodalData) -> dict[str, Any]:
        """Return prediction sets or intervals, and whether they are supported."""
        import pyarrow as pa

        calibrated = getattr(self.model, "conformal_", None)
        if calibrated is None:
            return {}
        predicted = calibrated.predict(data)
        supported = {"conformal_supported": pa.array(calibrated.supported(data))}
        classes = getattr(self.model, "classes_", None)
        if classes is not None:
            sets = {
                f"in_set_{c}": pa.array(predicted[:, k]) for k, c in enumerate(classes)
            }
            return sets | supported
        bounds = {
            name: pa.array(x) if x.ndim == 1 else _vectors(np.ascontiguousarray(x))
            for name, x in (("low", predicted[..., 0]), ("high", predicted[..., 1]))
        }
        return bounds | supported

    def _values(self, data: MultimodalData) -> dict[str, Any]:
        """Return the value of each missing modality, and the best one."""
        import pyarrow as pa

        if self.donors is None:
            return {}
        result = self.model.acquire(data, self.donors)
        values = {
            f"value_{name}": pa.array(result.value[:, m])
            for m, name in enumerate(result.modalities)
        }
        return values | {"acquire": pa.array(result.best, pa.string())}


def _label_columns(labels: npt.NDArray[Any], proba: npt.NDArray[Any]) -> dict[str, Any]:
    """Return prediction and probability of each label of a multi-label model."""
    import pyarrow as pa

    predicted = (proba > 0.5).astype(np.int64)  # threshold of the model's predict
    columns = {
        f"prediction_{name}": pa.array(predicted[:, k]) for k, name in enumerate(labels)
    }
    for k, name in enumerate(labels):
        columns[f"probability_{name}"] = pa.array(proba[:, k])
    return columns


def predict_tables(request: PredictRequest, warn: Warn = no_op) -> Iterator["pa.Table"]:
    """Yield predictions or embeddings of all samples in order, part by part.

    Args:
        request: Model, samples and kind of output.
        warn: Function that receives, at the end, one line per modality of the model
            without any value in the samples.
    """
    predictor = BatchPredictor(request)
    samples = predictor.open()
    if request.only is not None:
        return map(predictor, parts_of(samples))
    return map(predictor, warn_missing(request.file, samples, predictor.model, warn))


def write_tables(tables: Iterable["pa.Table"], path: Path) -> tuple[int, int]:
    """Write tables to one file; return the number of rows and the embedding width.

    The ending of the path is the format: ``.parquet``, ``.csv``, or ``.npy`` for the
    matrix of the embeddings alone. The file appears when it is complete; after an
    error there is none.
    """
    with replacing(path) as part:
        return _write_tables(tables, part)


def _write_tables(tables: Iterable["pa.Table"], path: Path) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".npy":
        matrix = np.concatenate([_matrix(table) for table in tables])
        np.save(path, matrix)
        return len(matrix), matrix.shape[1]
    if path.suffix == ".csv":
        with path.open("wb") as file:
            return sum(len(t) for t in _write_csv(tables, file)), 0
    num, width, writer = 0, 0, None
    try:
        for table in tables:
            num += len(table)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            if EMBEDDING in table.column_names:
                kind = table.schema.field(EMBEDDING).type
                width = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
    finally:
        if writer is not None:
            writer.close()
    return num, width


def _write_csv(tables: Iterable["pa.Table"], file: IO[bytes]) -> Iterator["pa.Table"]:
    for number, table in enumerate(tables):
        file.write(_csv_bytes(table, header=not number))
        yield table


def to_csv(tables: Iterable["pa.Table"]) -> Iterator[str]:
    """Yield the tables as CSV text, the column names first."""
    for number, table in enumerate(tables):
        yield _csv_bytes(table, header=not number).decode()


def _csv_bytes(table: "pa.Table", *, header: bool) -> bytes:
    """Return a table as CSV: NaN is an empty cell, a vector a JSON list."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            columns[name] = pa.array([json.dumps(x) for x in column.to_pylist()])
        elif pa.types.is_floating(column.type):
            missing = pa.scalar(None, column.type)
            columns[name] = pc.if_else(pc.is_nan(column), missing, column)
        else:
            columns[name] = column
    buffer = io.BytesIO()
    if header:
        names = io.StringIO()
        writer(names, lineterminator="\n").writerow(table.column_names)
        buffer.write(names.getvalue().encode())
    plain = pa.table(columns)
    options = csv.WriteOptions(include_header=False, quoting_style="none")
    try:
        body = _written(plain, options)
    except pa.ArrowInvalid:  # some string contains a comma, quote or line break
        body = _written(plain, csv.WriteOptions(include_header=False))
    return buffer.getvalue() + body


def _written(table: "pa.Table", options: Any) -> bytes:  # noqa: ANN401
    from pyarrow import csv

    buffer = io.BytesIO()
    csv.write_csv(table, buffer, options)
    return buffer.getvalue()


def _vectors(values: npt.NDArray[Any]) -> Any:  # noqa: ANN401
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _matrix(table: "pa.Table") -> npt.NDArray[Any]:
    column = table.column(EMBEDDING).combine_chunks()
    flat: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), column.type.list_size)
