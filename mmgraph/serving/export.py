"""Writing a fitted estimator as ONNX, or as an archive of torch.export."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmgraph.errors import ConfigError
from mmgraph.estimators import FusionClassifier, FusionEstimator, FusionRegressor
from mmgraph.serving.program import ServedModel, replace_forests, trace
from mmgraph.serving.onnx_forest import ForestNode, translation

METADATA = "mmgraph"
PROBABILITY, VALUE = "output.probability", "output.value"
FORMATS = (".onnx", ".pt2")
CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


def export(estimator: FusionEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier or regressor as one file.

    Its inputs are ``input.NAME``, float32 ``[B, C_m]`` for each modality and any ``B``
    from 1 on; all-NaN rows are missing modalities, other NaN missing cells. A sequence
    has ``input.NAME [B, T, C_m]`` for any ``T`` from 1 on and ``length.NAME [B]``,
    int64, behind which nothing is read; 0 is a missing one. Modalities with time have
    ``time.NAME``, float64 seconds, ``[B]`` or ``[B, T]``. Its output is
    ``output.probability [B, K]``, float32, of a regressor ``output.value [B, K]``,
    float64.

    ``.onnx`` runs in ONNX Runtime; :func:`mmgraph.serving.load` reads it. ``.pt2`` is
    an archive of ``torch.export``, for AOTInductor and the like. ``torch.export.load``
    unpickles parts of such an archive: mmgraph never reads one, and you should only
    read your own.

    Args:
        estimator: Fitted.
        path: File to write; its suffix says which.

    Raises:
        ConfigError: Another estimator or suffix, a path that cannot be written, or
            ``mmgraph[export]`` is not installed.
        SchemaError: Topologies other than ``Full``.
    """
    path = Path(path)
    if not isinstance(estimator, FusionClassifier | FusionRegressor):
        raise ConfigError(
            "An exported model must be a FusionClassifier or FusionRegressor, got a "
            f"{type(estimator).__name__}.",
            "Serve it with from_pretrained.",
        )
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"An exported model must end in {' or '.join(FORMATS)}, got '{path}'."
        )
    _check_place(path)
    served = ServedModel(estimator)
    with _quiet():
        if path.suffix == ".pt2":
            torch.export.save(trace(served), path)
        else:
            _write_onnx(served, estimator, path)


def _check_place(path: Path) -> None:
    """Refuse a path that cannot be written before anything is computed."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(
            "An exported model must be a file in a folder that exists and can be "
            f"written, got '{path}'. Give another path, or make its folder first."
        )


def _write_onnx(
    served: ServedModel, estimator: FusionClassifier | FusionRegressor, path: Path
) -> None:
    require_onnx()
    forests = replace_forests(served.model, ForestNode)
    written = torch.onnx.export(
        trace(served),
        dynamo=True,
        input_names=list(served.inputs),
        output_names=[VALUE if served.scaled else PROBABILITY],
        custom_translation_table=translation(forests),
        verbose=False,
    )
    assert written is not None
    _remove_source_paths(written.model)
    written.model.metadata_props[METADATA] = json.dumps(_describe(estimator))
    written.save(path, external_data=False)


def _remove_source_paths(model: Any) -> None:  # noqa: ANN401
    """Remove what the exporter notes of source files: paths of this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for function in model.functions.values():
        for node in function.all_nodes():
            node.metadata_props.clear()


def require_onnx() -> None:
    """Refuse to begin what cannot be written.

    Raises:
        ConfigError: A package is not installed.
    """
    try:
        import onnx
        import onnxscript
    except ImportError:
        raise ConfigError(
            "Writing ONNX needs onnx and onnxscript, which are not installed. Install "
            "mmgraph[export]."
        ) from None
    assert onnx, onnxscript


def _describe(estimator: FusionClassifier | FusionRegressor) -> dict[str, Any]:
    """Return what a reader must know beyond the graph of operations."""
    from mmgraph import __version__

    spec = estimator.input_spec_
    return {
        "version": __version__,
        "estimator": type(estimator).__name__,
        "inputs": replace(spec, featurizer=spec.featurizer.unloaded()).to_json(),
        "target": estimator._target_config(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling about itself."""
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
