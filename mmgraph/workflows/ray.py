"""Answers of a saved model on Ray Data: a row group is a task, a worker has the model.

The order of the samples is kept.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmgraph.data import MultimodalStream
from mmgraph.errors import ConfigError, DataError, MMGraphError
from mmgraph.workflows.predict import BatchPredictor, PredictRequest
from mmgraph.workflows.saved_model import Warn, no_op, warn_missing_columns

if TYPE_CHECKING:
    import pyarrow as pa


class Worker:
    """Answers for row groups; loads the model once.

    Args:
        request: What is asked; its paths must be readable where the worker runs.
    """

    def __init__(self, request: PredictRequest) -> None:
        self.answerer = BatchPredictor(request)
        self.samples = self.answerer.open()

    def __call__(self, tasks: "pa.Table") -> Iterator["pa.Table"]:
        """Yield the answers for the row groups of these numbers."""
        assert isinstance(self.samples, MultimodalStream)
        total = self.samples.num_parts
        for part in tasks.column("part").to_pylist():
            yield from map(self.answerer, self.samples.shard(part, total).chunks())


def answer_on_ray(
    request: PredictRequest, *, workers: int, warn: Warn = no_op
) -> Iterator["pa.Table"]:
    """Yield the answers of all samples of a folder, in their order.

    Uses the cluster that ``RAY_ADDRESS`` names, or starts one on this machine.

    Args:
        request: What is asked; its file must be a folder.
        workers: Processes that hold the model.
        warn: Takes a line that names the modalities that they have no column of.

    Raises:
        ConfigError: If Ray is not installed, or the file is no folder.
        DataError: What a worker finds wrong with a shard.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        import ray.data
    except ImportError:
        raise ConfigError(
            "--ray must have Ray Data, got none installed. Install mmgraph[ray]."
        ) from None
    # what is wrong with the model is told before workers start
    answerer = BatchPredictor(request)
    samples = answerer.open()
    if not isinstance(samples, MultimodalStream):
        raise ConfigError(
            f"--ray must get a folder of Parquet files, got the file '{request.file}'. "
            "Leave --ray out."
        )
    if request.only is None:
        warn_missing_columns(request.file, samples, answerer.model, warn)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    num_parts = samples.num_parts
    tasks = [{"part": part} for part in range(num_parts)]
    answers = ray.data.from_items(tasks, override_num_blocks=num_parts).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        concurrency=min(workers, num_parts),
        fn_constructor_args=(request,),
    )
    try:
        yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayError as error:
        raise _told(error) from None


def _told(error: BaseException) -> Exception:
    """Return the library's own error inside one of Ray, or what Ray says in short."""
    inner: Any = error
    for _ in range(10):
        inner = getattr(inner, "cause", None) or getattr(inner, "__cause__", None)
        if inner is None:
            break
        if isinstance(inner, MMGraphError) and not hasattr(inner, "cause"):
            return DataError(inner.fault, inner.remedy, place=inner.place)
    shown = str(error).strip().splitlines()[-1][:300]
    return DataError(f"a worker of Ray must finish its part, got: {shown}")
