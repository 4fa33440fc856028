"""Validation of parameters and inputs before anything is fitted."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.targets import as_metadata, missing_labels
from mmgraph.errors import Argument, ConfigError, DataError
from mmgraph.experts.links import ExpertKind
from mmgraph.model.fusion import FeedForwardKind
from mmgraph.nn.conv import Capacity
from mmgraph.schema import Schema

# Parameters


class Constraint(NamedTuple):
    """Rule for the values of a parameter.

    Attributes:
        rule: Description of valid values: "<parameter> must be <rule>".
        holds: Returns True for a valid value.
    """

    rule: str
    holds: Callable[[Any], bool]


def _is_integer(value: object, least: int) -> bool:
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    return integer and int(value) >= least  # type: ignore[call-overload]


def _is_number(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]


def _is_list_of(value: object, known: tuple[str, ...] | None = None) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, str) and (known is None or item in known) for item in value
    )


def _is_expert_list(value: Any) -> bool:  # noqa: ANN401
    valid = _is_list_of(value, EXPERT_KINDS) and len(value) > 0
    return valid and len(set(value)) == len(value)


def _integer(least: int) -> Constraint:
    rule = "a whole number above 0" if least else "a whole number of at least 0"
    return Constraint(rule, lambda value: _is_integer(value, least))


def _optional(constraint: Constraint) -> Constraint:
    rule, holds = constraint
    return Constraint(f"None or {rule}", lambda value: value is None or holds(value))


def _one_of(*values: str) -> Constraint:
    rule = f"one of {', '.join(values)}"
    return Constraint(rule, lambda value: isinstance(value, str) and value in values)


def _instance(rule: str, *types: type) -> Constraint:
    return Constraint(rule, lambda value: value is None or isinstance(value, types))


EXPERT_KINDS = get_args(ExpertKind)
CONSTRAINTS = {
    **dict.fromkeys(
        ("hidden_channels", "num_layers", "num_heads", "members", "batch_size"),
        _integer(1),
    ),
    "epochs": _optional(_integer(1)),
    "seed": Constraint(
        "a whole number from 0 to 2**32 - 1",
        lambda value: _is_integer(value, 0) and value < 2**32,
    ),
    "learning_rate": Constraint("above 0", lambda v: _is_number(v) and v > 0),
    "weight_decay": Constraint("at least 0", lambda v: _is_number(v) and v >= 0),
    "missing_rate": Constraint(
        "between 0 and 1", lambda v: _is_number(v) and 0 <= v <= 1
    ),
    "capacity": _one_of(*get_args(Capacity)),
    "feed_forward": _one_of(*get_args(FeedForwardKind)),
    "experts": Constraint(
        f"a list of some of {', '.join(EXPERT_KINDS)}", _is_expert_list
    ),
    "verbose": _instance("None, True or False", bool, np.bool),
    "encoders": _instance("a dict of encoders by modality, or None", Mapping),
    "checkpoint_dir": _instance("the path of a folder, or None", str, os.PathLike),
    "schema": _instance("a Schema or None", Schema),
}
"""Constraints on the parameters of all estimators."""
PAIR_CONSTRAINTS = {
    **CONSTRAINTS,
    "epochs": _optional(_integer(0)),  # 0: no graph networks
    "out_channels": _integer(1),
    "negatives": _integer(1),
    "contrast_size": _optional(_integer(1)),
    "supervision": _one_of("auto", "pairs", "labels"),
    "loss": _one_of("siglip", "infonce"),
    "hubness": _one_of("none", "csls", "inverted_softmax"),
    "aligned": _optional(Constraint("a list of modalities", _is_list_of)),
}
"""Constraints on the parameters of retriever and matcher."""


def check_params(
    params: Mapping[str, Any], constraints: Mapping[str, Constraint]
) -> None:
    """Check the parameters of an estimator.

    Args:
        params: Parameters by name.
        constraints: Constraint of each parameter that has one.

    Raises:
        ConfigError: If a parameter has an invalid value, naming the first one.
    """
    for name, constraint in constraints.items():
        if name in params and not constraint.holds(params[name]):
            raise _invalid(name, constraint.rule, params)
    if set(params["experts"]) == {"joint"}:
        rule = "a list with an expert of one modality too"
        raise _invalid("experts", rule, params)
    heads = int(params["num_heads"])
    if int(params["hidden_channels"]) % heads:
        raise _invalid("hidden_channels", f"a multiple of num_heads={heads}", params)
    resolve_device(params["device"])


def _invalid(name: str, rule: str, params: Mapping[str, Any]) -> ConfigError:
    return ConfigError(f"{name} must be {rule}, got {params[name]!r}.", parameter=name)


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Return a device by its name; default: a GPU if there is one.

    Raises:
        ConfigError: If PyTorch has no such device, or no GPU is available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(
            f"device must be a device of PyTorch, such as 'cpu', got {name!r}."
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device must be available, got {name!r}, but PyTorch finds no GPU. "
            "Leave device out or set it to 'cpu'."
        )
    return device


# Inputs


def with_labels(data: MultimodalData, y: Any) -> MultimodalData:  # noqa: ANN401
    """Return the data with labels ``y``, or with their own labels if it is None.

    Raises:
        DataError: If there are no labels, or their number is not that of the samples.
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
    """Refuse a dict of arrays by modality in place of multimodal data.

    Raises:
        DataError: If ``X`` is a mapping.
    """
    if isinstance(X, Mapping):
        raise DataError(
            "X must be MultimodalData, a stream or an array [N, C], got a dict of "
            f"{', '.join(map(str, X)) or 'nothing'}. Build it with "
            "MultimodalData.from_arrays(X)."
        )


@contextmanager
def naming_frames(X: Any) -> Iterator[None]:  # noqa: ANN401, N803
    """Name the columns of a table that is not numeric in the error about it.

    Raises:
        DataError: If the context raises a ValueError and ``X`` is a table.
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
            (
                "Build it with MultimodalData.from_pandas(X, ",
                Argument("modalities", {"labs": ["wbc", "crp"]}),
                ").",
            ),
        ) from None


def labels_to_score(
    X: Any,  # noqa: ANN401, N803
    y: Any,  # noqa: ANN401
    shape: tuple[int, ...],
) -> npt.NDArray[Any]:
    """Return the labels with which predictions are compared.

    Args:
        X: Samples, whose labels are used if ``y`` is None.
        y: Labels, or None.
        shape: Shape of the predictions.

    Raises:
        DataError: If there are no labels, none is known, or their shape differs.
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
