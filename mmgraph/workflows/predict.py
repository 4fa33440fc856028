"""What a saved model says of the samples of a file or folder, part after part."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mmgraph.checkpoint import replacing
from mmgraph.data import MultimodalData
from mmgraph.data.stream.stream import DataOrStream, parts_of
from mmgraph.data.validation import check_names
from mmgraph.errors import CheckpointError, ConfigError
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
PREDICT: tuple[Task, ...] = ("classification", "regression", "matching")


@runtime_checkable
class Embeds(Protocol):
    """An estimator that was made to embed: a retriever."""

    def embed(
        self, data: MultimodalData, *, modalities: Sequence[str] | None = None
    ) -> npt.NDArray[Any]:
        """Return ``[N, D]``, all NaN where none of the modalities is present."""

    def save_pretrained(self, folder: Path) -> None:
        """Write it as safetensors and JSON."""


@runtime_checkable
class Transforms(Protocol):
    """An estimator whose states may serve as embeddings."""

    def transform(self, data: MultimodalData) -> npt.NDArray[Any]:
        """Return ``[N, D]``."""


@runtime_checkable
class Matches(Protocol):
    """An estimator that was made to compare two sides: a matcher."""

    def predict_proba(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> npt.NDArray[Any]:
        """Return ``[P]`` probabilities."""

    def rescore(
        self,
        left_data: MultimodalData,
        right_data: MultimodalData,
        rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[Any]:
        """Return ``[Q, k]`` probabilities of candidates."""


@dataclass(frozen=True)
class PredictRequest:
    """What is asked of which model about which samples.

    Attributes:
        ask: "predict" or "embed".
        model: Folder of the saved model.
        file: Parquet file, folder of them, or folder of pictures, texts and sounds.
        modalities: Columns of modalities; those of others are as in the training.
        id: Column of ids; None is as in the training.
        only: Modalities to use; None is all that the file has.
        encoders: Where pretrained encoders are now, by modality, if they have moved.
        explain: Warn what each modality adds to a prediction, too.
    """

    ask: Literal["predict", "embed"]
    model: Path
    file: Path
    modalities: dict[str, tuple[str, ...]] | None = None
    id: str | None = None
    only: tuple[str, ...] | None = None
    encoders: dict[str, str] | None = None
    explain: bool = False

    def open(self) -> DataOrStream:
        """Open the samples: a file as data, a folder as a stream.

        Raises:
            DataError: If they cannot be read.
        """
        columns = Columns.load(self.model)
        modalities = resolve_columns(columns, self.file, self.modalities)
        id = self.id or columns.id
        return read_samples(self.file, modalities=modalities, label=None, id=id)


class BatchPredictor:
    """A loaded model that turns samples into a table of answers.

    Args:
        request: What is asked.

    Raises:
        CheckpointError: If the folder holds no model that can answer it, or a
            pretrained encoder is not where it was.
        ConfigError: If an encoder is of a modality that had none, or a matcher is asked
            to explain.
    """

    def __init__(self, request: PredictRequest) -> None:
        self.request = request
        moved = request.encoders
        if request.ask == "predict":
            self.model: Any = load_model(request.model, *PREDICT, encoders=moved)[0]
        else:
            self.model = load_any(request.model, encoders=moved)
            if not isinstance(self.model, Embeds | Transforms):
                raise CheckpointError(
                    f"{request.model} must hold a model that embeds samples, got a "
                    f"{type(self.model).__name__}."
                )
        check_given(request.modalities, self.model)
        if request.explain and isinstance(self.model, Matches):
            raise ConfigError(
                "--explain must go with a classifier or regressor, got a matcher. "
                "Leave it out."
            )

    def open(self) -> DataOrStream:
        """Open the samples as the model was trained on such."""
        return apply_training_schema(self.request.open(), self.model)

    def __call__(self, data: MultimodalData) -> "pa.Table":
        """Return one row per sample: ``id``, and the answer."""
        import pyarrow as pa

        if self.request.only is not None:
            check_names("only", self.request.only, data.modalities)
            data = data.select(self.request.only)
        columns = {"id": pa.array(data.ids.tolist())}
        if self.request.ask == "predict":
            said = self._predictions(data)
            return pa.table(columns | said | self._added(data))
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
            said = np.asarray(self.model.predict(data))
            return {"prediction": pa.array(said) if said.ndim == 1 else _vectors(said)}
        proba = self.model.predict_proba(data)
        if isinstance(self.model.model_.graph.task, MultiLabel):
            return _label_columns(classes, proba)
        likeliest = classes[proba.argmax(1)] if len(proba) else classes[:0]
        columns = {"prediction": pa.array(likeliest.tolist())}
        for code, name in enumerate(classes):
            columns[f"probability_{name}"] = pa.array(proba[:, code])
        return columns

    def _added(self, data: MultimodalData) -> dict[str, Any]:
        """Return what each modality adds to the prediction, or to each of several."""
        import pyarrow as pa

        if not self.request.explain:
            return {}
        told = self.model.explain(data)
        values = told.values
        if isinstance(self.model.model_.graph.task, Classification):
            likeliest = (told.base + values.sum(1)).argmax(1)
            values = np.take_along_axis(values, likeliest[:, None, None], axis=2)
        parts = [values[:, m] for m in range(len(told.modalities))]
        return {
            f"adds_{name}": pa.array(x[:, 0]) if x.shape[1] == 1 else _vectors(x)
            for name, x in zip(told.modalities, parts, strict=True)
        }


def _label_columns(labels: npt.NDArray[Any], proba: npt.NDArray[Any]) -> dict[str, Any]:
    """Return what is said of each of the labels, which may hold together."""
    import pyarrow as pa

    said = (proba > 0.5).astype(np.int64)  # as the model's predict does
    found = {
        f"prediction_{name}": pa.array(said[:, k]) for k, name in enumerate(labels)
    }
    for k, name in enumerate(labels):
        found[f"probability_{name}"] = pa.array(proba[:, k])
    return found


def answer(request: PredictRequest, warn: Warn = no_op) -> Iterator["pa.Table"]:
    """Yield the answers of all samples, in their order; then tell what these lack."""
    answerer = BatchPredictor(request)
    samples = answerer.open()
    if request.only is not None:
        return map(answerer, parts_of(samples))
    return map(answerer, warn_missing(request.file, samples, answerer.model, warn))


def write_answers(tables: Iterable["pa.Table"], path: Path) -> tuple[int, int]:
    """Write answers, part after part; return how many, and the width of embeddings.

    The ending of the path decides: ``.parquet``, ``.csv``, or ``.npy`` for the matrix
    of the embeddings alone. The file is there when all answers are in it, or not at
    all.
    """
    with replacing(path) as part:
        return _write_answers(tables, part)


def _write_answers(tables: Iterable["pa.Table"], path: Path) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".npy":
        matrix = np.concatenate([_matrix(table) for table in tables])
        np.save(path, matrix)
        return len(matrix), matrix.shape[1]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            return sum(map(len, _write_csv(tables, file))), 0
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


def _write_csv(tables: Iterable["pa.Table"], file: Any) -> Iterator["pa.Table"]:  # noqa: ANN401
    for number, table in enumerate(tables):
        table.to_pandas().to_csv(file, index=False, header=not number)
        yield table


def to_csv(tables: Iterable["pa.Table"]) -> Iterator[str]:
    """Yield the answers as text, the names of the columns first."""
    for number, table in enumerate(tables):
        yield table.to_pandas().to_csv(index=False, header=not number)


def _vectors(values: npt.NDArray[Any]) -> Any:  # noqa: ANN401
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _matrix(table: "pa.Table") -> npt.NDArray[Any]:
    column = table.column(EMBEDDING).combine_chunks()
    flat: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), column.type.list_size)
