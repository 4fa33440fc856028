"""Predictions of a saved model on Ray Data: one task per row group.

Each worker loads the model once. The order of the samples is kept.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mmgraph.data import MultimodalStream
from mmgraph.errors import ConfigError, DataError, DataWarning, MMGraphError
from mmgraph.workflows.predict import BatchPredictor, PredictRequest
from mmgraph.workflows.saved_model import Warn, no_op, warn_missing_columns

if TYPE_CHECKING:
    import pyarrow as pa

NOTICES = "notices"  # column of warnings in the tables of workers


class Worker:
    """Ray actor that predicts row groups with one loaded model.

    Args:
        request: Model, samples and kind of output; the paths must be readable on the
            machine of the worker.
    """

    def __init__(self, request: PredictRequest) -> None:
        self.predictor = BatchPredictor(request)
        self.samples = self.predictor.open()

    def __call__(self, tasks: "pa.Table") -> Iterator["pa.Table"]:
        """Yield the predictions of the row groups with these numbers.

        The column of notices holds the warnings about the data of a table in its first
        row.
        """
        assert isinstance(self.samples, MultimodalStream)
        total = self.samples.num_parts
        for part in tasks.column("part").to_pylist():
            predictions = map(self.predictor, self.samples.shard(part, total).chunks())
            while (table := _next_with_notices(predictions)) is not None:
                yield table


def _next_with_notices(tables: Iterator["pa.Table"]) -> "pa.Table | None":
    """Return the next table with its warnings in a column; None at the end."""
    import pyarrow as pa

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        table = next(tables, None)
    if table is None:
        return None
    texts = [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    rows = [texts, *[None] * (len(table) - 1)]
    return table.append_column(NOTICES, pa.array(rows, pa.list_(pa.string())))


def _emit_notices(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    """Yield tables without the column of notices; emit each of these once."""
    seen: set[str] = set()
    for table in tables:
        texts = table.column(NOTICES).combine_chunks().flatten().to_pylist()
        for text in dict.fromkeys(texts):
            if text not in seen:
                warnings.warn(text, DataWarning, stacklevel=2)
        seen.update(texts)
        yield table.drop_columns([NOTICES])


def predict_on_ray(
    request: PredictRequest, *, workers: int | None = None, warn: Warn = no_op
) -> Iterator["pa.Table"]:
    """Yield the predictions of all samples of a folder, in order.

    Uses the cluster in the environment variable ``RAY_ADDRESS``, or starts one on this
    machine.

    Args:
        request: Model, samples and kind of output; its file must be a folder.
        workers: Number of worker processes, each with a copy of the model; None is one
            per core.
        warn: Function that receives one line per modality without a column.

    Raises:
        ConfigError: If Ray is not installed, or the file is not a folder.
        DataError: If a worker cannot read a shard.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        import ray.data
    except ImportError:
        raise ConfigError(
            "--ray must have Ray Data, which is not installed. Install it: pip install "
            "'mmgraph[ray]'."
        ) from None
    # errors of the model are raised before workers start
    predictor = BatchPredictor(request)
    samples = predictor.open()
    if not isinstance(samples, MultimodalStream):
        raise ConfigError(
            f"--ray must get a folder of Parquet files, got the file '{request.file}'. "
            "Leave --ray out."
        )
    if request.only is None:
        warn_missing_columns(request.file, samples, predictor.model, warn)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    num_parts = samples.num_parts
    tasks = [{"part": part} for part in range(num_parts)]
    results = ray.data.from_items(tasks, override_num_blocks=num_parts).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        concurrency=min(workers or os.cpu_count() or 1, num_parts),
        fn_constructor_args=(request,),
    )
    try:
        tables = results.iter_batches(batch_size=None, batch_format="pyarrow")
        yield from _emit_notices(tables)
    except ray.exceptions.RayError as error:
        raise _original_error(error) from None


def _original_error(error: BaseException) -> Exception:
    """Return the error of mmgraph inside an error of Ray, or a short form of it."""
    inner: Any = error
    for _ in range(10):
        inner = getattr(inner, "cause", None) or getattr(inner, "__cause__", None)
        if inner is None:
            break
        if isinstance(inner, MMGraphError) and not hasattr(inner, "cause"):
            return DataError(inner.fault, inner.remedy, place=inner.place)
    shown = str(error).strip().splitlines()[-1][:300]
    return DataError(f"a worker of Ray must finish its part, got: {shown}")
