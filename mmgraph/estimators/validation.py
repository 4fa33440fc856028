"""Refuse options of estimators that make no sense, before anything is fitted."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.targets import as_metadata, missing_labels
from mmgraph.errors import ConfigError, DataError
from mmgraph.experts.links import ExpertKind
from mmgraph.model.fusion import FeedForwardKind
from mmgraph.nn.conv import Capacity
from mmgraph.schema import Schema

COUNTS = ("hidden_channels", "num_layers", "num_heads", "members", "batch_size")
MORE_COUNTS = ("out_channels", "negatives")
CHOICES = {
    "capacity": get_args(Capacity),
    "feed_forward": get_args(FeedForwardKind),
    "supervision": ("auto", "pairs", "labels"),
    "loss": ("siglip", "infonce"),
    "hubness": ("none", "csls", "inverted_softmax"),
}
SEEDS = 2**32


def check_options(params: Mapping[str, Any]) -> None:
    """Check the arguments of an estimator's constructor.

    Raises:
        ConfigError: Naming the first argument that cannot be used.
    """
    for name in (*COUNTS, *(name for name in MORE_COUNTS if name in params)):
        _require(_whole(params[name], 1), name, "a whole number above 0", params)
    rule, epochs = "None or a whole number above 0", params["epochs"]
    if "supervision" in params and epochs == 0:  # without a graph
        epochs = None
    _require(epochs is None or _whole(epochs, 1), "epochs", rule, params)
    size = params.get("contrast_size")
    _require(size is None or _whole(size, 1), "contrast_size", rule, params)
    fits = _whole(params["seed"], 0) and int(params["seed"]) < SEEDS
    _require(fits, "seed", "a whole number from 0 to 2**32 - 1", params)
    rate, decay = params["learning_rate"], params["weight_decay"]
    _require(_number(rate) and float(rate) > 0, "learning_rate", "above 0", params)
    _require(_number(decay) and float(decay) >= 0, "weight_decay", "at least 0", params)
    missing = params.get("missing_rate", 0.0)
    fits = _number(missing) and 0 <= float(missing) <= 1
    _require(fits, "missing_rate", "between 0 and 1", params)
    for name, known in CHOICES.items():
        if name not in params:
            continue
        fits = isinstance(params[name], str) and params[name] in known
        _require(fits, name, f"one of {', '.join(known)}", params)
    kinds = get_args(ExpertKind)
    experts = params["experts"]
    fits = isinstance(experts, list | tuple) and len(experts) > 0
    fits = fits and all(isinstance(e, str) and e in kinds for e in experts)
    fits = fits and len(set(experts)) == len(experts)
    _require(fits, "experts", f"a list of some of {', '.join(kinds)}", params)
    alone = set(experts) != {"joint"}
    _require(alone, "experts", "a list with an expert of one modality too", params)
    heads = int(params["num_heads"])
    fits = int(params["hidden_channels"]) % heads == 0
    _require(fits, "hidden_channels", f"a multiple of num_heads={heads}", params)
    resolve_device(params["device"])
    fits = params["verbose"] is None or isinstance(params["verbose"], bool | np.bool)
    _require(fits, "verbose", "None, True or False", params)
    aligned = params.get("aligned")
    fits = aligned is None or isinstance(aligned, list | tuple)
    fits = fits and all(isinstance(name, str) for name in aligned or ())
    _require(fits, "aligned", "None or a list of modalities", params)
    encoders, folder = params["encoders"], params.get("checkpoint_dir")
    fits = encoders is None or isinstance(encoders, Mapping)
    _require(fits, "encoders", "a dict of encoders by modality, or None", params)
    fits = folder is None or isinstance(folder, str | os.PathLike)
    _require(fits, "checkpoint_dir", "the path of a folder, or None", params)
    schema = params["schema"]
    fits = schema is None or isinstance(schema, Schema)
    _require(fits, "schema", "a Schema or None", params)


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Return the device of that name; default: a GPU if there is one.

    Raises:
        ConfigError: An unknown device, or CUDA where there is none.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(
            f"device must be one that PyTorch knows, such as 'cpu', got {name!r}."
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device must be available, got {name!r} where PyTorch finds no GPU. "
            "Leave it out or use 'cpu'."
        )
    return device


def _whole(value: object, least: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= least  # type: ignore[call-overload]


def _number(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]


def _require(fits: bool, name: str, rule: str, params: Mapping[str, Any]) -> None:
    if not fits:
        raise ConfigError(f"{name} must be {rule}, got {params[name]!r}.")


ARRAY_MODALITY = "x"


def labelled(data: MultimodalData, y: Any) -> MultimodalData:  # noqa: ANN401
    """Return the data with these labels, or its own where ``y`` is None.

    Raises:
        DataError: No labels, or as many as there are not samples.
    """
    if y is not None:
        return data.replace(y=y)
    if data.y is None:
        raise DataError(
            "fit needs labels, got data without y. Pass fit(data, y) or build the data "
            "with y=labels."
        )
    return data


def refuse_mapping(X: Any) -> None:  # noqa: ANN401, N803
    """Refuse arrays by modality that are not data yet.

    Raises:
        DataError: Saying how to build them.
    """
    if isinstance(X, Mapping):
        raise DataError(
            "X must be MultimodalData, a stream or an array [N, C], got a dict of "
            f"{', '.join(map(str, X)) or 'nothing'}. Build it with "
            "MultimodalData.from_arrays(X)."
        )


@contextmanager
def naming_frames(X: Any) -> Iterator[None]:  # noqa: ANN401, N803
    """Tell how to build data where a table is no array of numbers.

    Raises:
        DataError: Saying how to build them.
    """
    try:
        yield
    except ValueError as error:
        columns = getattr(X, "columns", None)
        if columns is None:
            raise
        raise DataError(
            "X must be MultimodalData, a stream or numbers [N, C], got a table of "
            f"{', '.join(map(str, columns[:5]))}: {error}.",
            "Build it with MultimodalData.from_pandas(X, modalities={name: columns}).",
        ) from None


def labels_to_score(
    X: Any,  # noqa: ANN401, N803
    y: Any,  # noqa: ANN401
    shape: tuple[int, ...],
) -> npt.NDArray[Any]:
    """Return the labels that a score needs, given or of the data, of this shape.

    Raises:
        DataError: No labels, none that is known, or of another shape.
    """
    if y is None:
        y = X.y if isinstance(X, MultimodalData) else None
        y = X.labels() if isinstance(X, MultimodalStream) else y
    if y is None:
        raise DataError("score needs labels, got none. Pass score(data, y).")
    truth = as_metadata("y", y, shape[0])
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.size == shape[0] and len(shape) == 2 and shape[1] == 1:
        truth = truth[:, None]
    if truth.shape != shape:
        raise DataError(
            f"y must have the shape of predictions, {list(shape)}, got "
            f"{list(truth.shape)}."
        )
    if missing_labels(truth).all():
        raise DataError("score needs at least one known label, got none.")
    return truth
