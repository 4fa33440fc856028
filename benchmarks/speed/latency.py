"""Latency of one sample, and cost of the import.

To add a serving method, add one entry to :func:`whole_classifiers` (or
:func:`bare_networks` if it has no base learners): a name and a function that predicts
the same row.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from torch import Tensor
from torch_geometric.data import Batch as GraphBatch

from mmgraph import FusionClassifier, MultimodalData, serving
from mmgraph.serving.program import ServedModel, trace
from speed.pipeline import HGTClassifier, Task, make_graphs, our_model

ONE = "mmgraph FusionClassifier.predict_proba"
TRACED = "mmgraph traced by torch.export, run by torch"
EXPORTED = "mmgraph exported, ONNX Runtime"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
PROGRAMS = ("import torch", "import torch, mmgraph")

Answer = Callable[[], object]


def whole_classifiers(data: MultimodalData, *, quick: bool) -> dict[str, Answer]:
    """Return classifiers, from one row to probabilities, by name; ours first.

    The graph is switched on in ours whatever was learned, so that its cost counts. A
    quick run leaves out what is traced first, which takes half a minute.
    """
    row = data[[0]]
    clf = FusionClassifier(epochs=1, seed=0, verbose=False)
    if quick:
        clf.set_params(experts=("linear",), members=2)
    clf.fit(data).model_.beta.fill_(0.5)
    table = np.concatenate(list(data.features().values()), axis=1)
    boosting = make_pipeline(
        SimpleImputer(add_indicator=True), HistGradientBoostingClassifier(max_iter=100)
    ).fit(table, data.y)
    return {
        ONE: lambda: clf.predict_proba(row),
        **({} if quick else _served(clf, row)),
        "sklearn HistGradientBoosting pipeline": lambda: boosting.predict_proba(
            table[:1]
        ),
    }


def _served(clf: FusionClassifier, row: MultimodalData) -> dict[str, Answer]:
    """Return the ways to serve a classifier, from arrays by modality, by name.

    The exported model appears where ``mmgraph[export]`` is installed.
    """
    ways: dict[str, Answer] = {}
    arrays = row.features()
    rows = [torch.from_numpy(x) for x in arrays.values()]
    program = trace(ServedModel(clf)).module()
    ways[TRACED] = _without_gradients(program, rows)
    if all(find_spec(package) for package in NEEDED):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            serving.export(clf, path)
            exported = serving.load(path, threads=1)
        ways[EXPORTED] = lambda: exported.predict_proba(arrays)
    return ways


def _without_gradients(model: Callable[..., object], rows: list[Tensor]) -> Answer:
    def answer() -> object:
        with torch.no_grad():
            return model(*rows)

    return answer


def bare_networks(task: Task, data: MultimodalData) -> dict[str, Answer]:
    """Return networks without experts on a batch of one, made beforehand, by name."""
    one = data.batch([0])
    model = our_model(task, data).eval()
    graph = GraphBatch.from_data_list(make_graphs(task, data[[0]]))
    peer = HGTClassifier(task).eval()

    def ours() -> object:
        with torch.no_grad():
            return model(one).logits

    def pyg() -> object:
        with torch.no_grad():
            return peer(graph)

    return {"mmgraph FusionModel forward": ours, "PyG HGTConv model forward": pyg}


def import_seconds(repeats: int) -> list[float]:
    """Return CPU-seconds that ``import mmgraph`` adds, one for each pair of processes.

    User and system time of fresh processes, with and without it in turn.
    """
    if repeats > 1:
        _cpu_seconds(PROGRAMS[1])  # compile and read the files once
    return [
        _cpu_seconds(PROGRAMS[1]) - _cpu_seconds(PROGRAMS[0]) for _ in range(repeats)
    ]


def _cpu_seconds(program: str) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{program!r} failed with code {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def milliseconds(seconds: np.ndarray) -> float:
    """Return the median in milliseconds."""
    return 1000 * median(seconds.tolist())
