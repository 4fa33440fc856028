"""Export of a fitted estimator as ONNX, or as an archive of torch.export."""

import hashlib
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

from mmgraph.errors import Code, ConfigError
from mmgraph.estimators import FusionClassifier, FusionEstimator, FusionRegressor
from mmgraph.files import replacing
from mmgraph.serving.onnx_forest import ForestNode, translation_table
from mmgraph.serving.program import ServedModel, replace_forests, trace
from mmgraph.typing import PathLike

METADATA, HASH = "mmgraph", "mmgraph.sha256"
NO_HASH = 64 * "0"
# key and value of the entry in the file; bytes between are tag and length of the value
HASH_FIELD = HASH.encode() + b"\x12\x40"
EXPORT_FORMAT = 2  # since 2, files contain their hash
PROBABILITY, VALUE = "output.probability", "output.value"
FORMATS = (".onnx", ".pt2")
VERBOSE_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


def export(estimator: FusionEstimator, path: PathLike) -> None:
    """Write a fitted classifier or regressor as a single file.

    The suffix of the path selects the format: ``.onnx`` for ONNX Runtime, which
    :func:`mmgraph.serving.load` reads, or ``.pt2`` for an archive of ``torch.export``,
    which AOTInductor compiles. mmgraph does not read ``.pt2`` archives, because
    ``torch.export.load`` unpickles parts of them: load only archives that you created.

    Inputs, for any number of samples ``B`` of at least 1 (see
    :func:`mmgraph.serving.inputs_of`):

    - ``input.NAME``, float32 ``[B, C]``, for each modality. A row that is all NaN is a
      missing modality, any other NaN a missing cell.
    - For a sequence, ``input.NAME [B, T, C]`` for any ``T`` of at least 1, and
      ``length.NAME [B]``, int64. Values beyond the length are not read; a length of 0
      is a missing modality.
    - For a modality with time, ``time.NAME``, float64 seconds, ``[B]`` or ``[B, T]``.

    The output is ``output.probability [B, K]``, float32, for a classifier, and
    ``output.value [B, K]``, float64, for a regressor.

    Args:
        estimator: Fitted classifier or regressor.
        path: File to write, ending in ``.onnx`` or ``.pt2``.

    Raises:
        ConfigError: If the estimator is of another class, the suffix is another, the
            path cannot be written, or ``mmgraph[export]`` is not installed.
        SchemaError: If a relation has a topology other than ``Full``.
    """
    path = Path(path)
    if not isinstance(estimator, FusionClassifier | FusionRegressor):
        raise ConfigError(
            "estimator must be a FusionClassifier or FusionRegressor, got a "
            f"{type(estimator).__name__}.",
            ("Load other estimators by ", Code("from_pretrained"), "."),
        )
    if path.suffix not in FORMATS:
        raise ConfigError(f"path must end in {' or '.join(FORMATS)}, got '{path}'.")
    if estimator.has_custom_parts:
        raise ConfigError(
            "estimator must have parts of mmgraph alone to be exported, got own base "
            "learners, convolutions or encoders. Fit it without them."
        )
    _check_writable(path)
    served = ServedModel(estimator)
    with _quiet(), replacing(path) as part:
        if path.suffix == ".pt2":
            torch.export.save(trace(served), part)
        else:
            _write_onnx(served, estimator, part)


def _check_writable(path: Path) -> None:
    """Check that the file can be written, before any computation."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(
            "path must be a file in an existing, writable folder, got "
            f"'{path}'. Create the folder first, or give another path."
        )


def _write_onnx(
    served: ServedModel, estimator: FusionClassifier | FusionRegressor, path: Path
) -> None:
    require_onnx()
    forests = replace_forests(served.model, ForestNode)
    program = torch.onnx.export(
        trace(served),
        dynamo=True,
        input_names=list(served.inputs),
        output_names=[VALUE if served.scaled else PROBABILITY],
        custom_translation_table=translation_table(forests),
        verbose=False,
    )
    assert program is not None
    _remove_source_paths(program.model)
    program.model.metadata_props[METADATA] = json.dumps(_metadata(estimator))
    program.model.metadata_props[HASH] = NO_HASH
    program.save(path, external_data=False)
    path.write_bytes(with_hash(path.read_bytes()))


def with_hash(content: bytes) -> bytes:
    """Return an ONNX file that contains the SHA-256 of the rest of its content."""
    digest = hashlib.sha256(content).hexdigest()
    place = content.index(HASH_FIELD) + len(HASH_FIELD)
    return content[:place] + digest.encode() + content[place + len(digest) :]


def has_hash(content: bytes) -> bool | None:
    """Return True if the hash in an ONNX file is right; None without one."""
    before, field, after = content.partition(HASH_FIELD)
    if not field:
        return None
    digest, rest = after[: len(NO_HASH)], after[len(NO_HASH) :]
    unsigned = before + field + NO_HASH.encode() + rest
    return hashlib.sha256(unsigned).hexdigest().encode() == digest


def _remove_source_paths(model: Any) -> None:  # noqa: ANN401
    """Remove stack traces of the exporter, which contain paths of source files."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for function in model.functions.values():
        for node in function.all_nodes():
            node.metadata_props.clear()


def require_onnx() -> None:
    """Check that the packages for writing ONNX are installed.

    Raises:
        ConfigError: If one is not installed.
    """
    try:
        import onnx
        import onnxscript
    except ImportError:
        raise ConfigError(
            "Export to ONNX requires onnx and onnxscript, which are not installed. "
            "Install mmgraph[export]."
        ) from None
    assert onnx, onnxscript


def _metadata(estimator: FusionClassifier | FusionRegressor) -> dict[str, Any]:
    """Return the metadata of the file: version, inputs and target."""
    from mmgraph import __version__

    spec = estimator.input_spec_
    return {
        "version": __version__,
        "format": EXPORT_FORMAT,
        "estimator": type(estimator).__name__,
        "inputs": replace(spec, featurizer=spec.featurizer.unloaded()).to_json(),
        "target": estimator._target_config(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and log messages of the exporter."""
    levels = {name: logging.getLogger(name).level for name in VERBOSE_LOGGERS}
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
