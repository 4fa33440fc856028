"""Validation of parameters and inputs before anything is fitted."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import Column
from mmgraph.data.targets import as_metadata, missing_labels
from mmgraph.errors import Argument, ConfigError, DataError
from mmgraph.experts.links import (
    EXPERT_KINDS,
    GRAPH_LEVELS,
    JOINT_KINDS,
    GraphSwitch,
    Level,
    kinds_of_level,
)
from mmgraph.experts.own import is_kind
from mmgraph.model.fusion import FeedForwardKind
from mmgraph.model.readouts import ReadoutKind
from mmgraph.nn.conv import Capacity
from mmgraph.schema import Schema
from mmgraph.train import Balance

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

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


def _are_base_learners(value: Any) -> bool:  # noqa: ANN401
    if value is None:
        return True
    if not isinstance(value, list | tuple):
        return False
    names = [item for item in value if isinstance(item, str)]
    given = [item for item in value if not isinstance(item, str | Mapping)]
    given += [x for item in value if isinstance(item, Mapping) for x in item.values()]
    known = _is_list_of(names, EXPERT_KINDS) and len(set(names)) == len(names)
    return known and all(isinstance(item, BaseEstimator) for item in given)


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


def _is_class_weight(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_number(weight) and weight > 0 for weight in value.values())
    return value is None or (isinstance(value, str) and value == "balanced")


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
    "readout": _one_of(*get_args(ReadoutKind)),
    "level": _one_of(*get_args(Level)),
    "balance": _optional(_one_of(*get_args(Balance))),
    "reliability": Constraint(
        "None or 'typical'", lambda value: value is None or value == "typical"
    ),
    "graph": Constraint(
        "True, False or 'only'",
        lambda v: isinstance(v, bool) or (isinstance(v, str) and v == "only"),
    ),
    "base_learners": Constraint(
        "None or a list of names, scikit-learn estimators and dicts of them by "
        f"modality; names are {', '.join(EXPERT_KINDS)}",
        _are_base_learners,
    ),
    "experts": Constraint(
        f"a list of some of {', '.join(EXPERT_KINDS)}", _is_expert_list
    ),
    "class_weight": Constraint(
        "None, 'balanced' or a dict of weights above 0 by class", _is_class_weight
    ),
    "verbose": _instance("None, True or False", bool, np.bool),
    "encoders": _instance("a dict of encoders by modality, or None", Mapping),
    "conv": _optional(
        Constraint("a function that returns a convolution of PyG", callable)
    ),
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
    _check_experts(params, params.get("level", "all"), params.get("graph", True))
    heads = int(params["num_heads"])
    if int(params["hidden_channels"]) % heads:
        raise _invalid("hidden_channels", f"a multiple of num_heads={heads}", params)
    resolve_device(params["device"])


def _check_experts(params: Mapping[str, Any], level: Level, graph: GraphSwitch) -> None:
    """Check that level, graph and base learners suit each other.

    Raises:
        ConfigError: If the base learners are none of those that the level uses, or
            nothing is left to be fitted.
    """
    name = "experts" if params.get("base_learners") is None else "base_learners"
    items = params[name]
    kinds = [item for item in items if is_kind(item)]
    num_own = len(items) - len(kinds)
    if graph == "only" and level not in GRAPH_LEVELS:
        rule = f"True or False for level={level!r}, which has no graph networks"
        raise _invalid("graph", rule, params)
    if graph is False and (level == "feature" or not items):
        reason = "level='feature'" if items else "base_learners=()"
        rule = f"True or 'only' for {reason}, which has no base learners"
        raise _invalid("graph", rule, params)
    if not items and level not in GRAPH_LEVELS:
        raise _invalid(name, f"a list of base learners for level={level!r}", params)
    if graph == "only" or not items:
        return
    if level == "data" and not kinds_of_level(kinds, level):
        rule = f"a list with one of {', '.join(JOINT_KINDS)} for level='data'"
        raise _invalid(name, rule, params)
    single = num_own or kinds_of_level(kinds, "model")
    if level not in ("data", "feature") and not single:
        raise _invalid(name, "a list with an expert of one modality too", params)
    if (level not in GRAPH_LEVELS or graph is False) and params["completion"]:
        reason = "graph=False" if level in GRAPH_LEVELS else f"level={level!r}"
        rule = f"False for {reason}, which has no graph networks"
        raise _invalid("completion", rule, params)


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
            f"device must be a device of PyTorch, such as 'cpu', got {name!r}.",
            parameter="device",
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device must be available, got {name!r}, but PyTorch finds no GPU. "
            "Leave it out, or use 'cpu'.",
            parameter="device",
        )
    return device


# Inputs


def one_sample(values: Mapping[str, Any], schema: Schema) -> MultimodalData:
    """Return a dict of one sample as data.

    Args:
        values: Values by modality: numbers, a sequence ``[T, C]``, a string, None for
            a missing modality, or a dict of values by channel. The times of a sequence
            have the key "<modality>.time".
        schema: Schema of the training; 1-D values of a sequence are its steps.

    Raises:
        DataError: If values cannot be read.
    """
    sequences = {m.name for m in schema.modalities if m.tokens == "ragged"}
    times = {f"{name}.time" for name in values} & values.keys()
    columns: dict[str, Column] = {}
    given = [name for name in values if name not in times]
    for name in given or schema.modality_names[:1]:
        value: Any = values.get(name)
        if isinstance(value, Mapping):
            named = {name: list(value)}
            records = MultimodalStream.from_iterable([value], modalities=named, y=None)
            columns |= records.load().columns
            continue
        rows = _num_rows(value)
        if name in sequences and rows is None and np.ndim(value) == 1:
            value = np.asarray(value)[:, None]
        elif name not in sequences and rows not in (None, 1):
            raise DataError(
                f"A dict must hold one sample, got {rows} rows of {name!r}. Build it "
                "with MultimodalData.from_arrays(X) for several samples."
            )
        stamps = {name: [values[f"{name}.time"]]} if f"{name}.time" in times else None
        columns |= MultimodalData.from_arrays({name: [value]}, times=stamps).columns
    return MultimodalData.from_columns(columns)


def _num_rows(value: Any) -> int | None:  # noqa: ANN401
    """Return the number of rows of a table, or None for other values."""
    nested = isinstance(value, list | tuple) and value and _is_list(value[0])
    return len(value) if nested or getattr(value, "ndim", 0) == 2 else None


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


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


def check_sample_weight(sample_weight: Any, num: int) -> FloatArray | None:  # noqa: ANN401
    """Return sample weights ``[N]``, or None without any.

    Raises:
        DataError: If they are not ``num`` finite numbers of at least 0, or all are 0.
    """
    if sample_weight is None:
        return None
    rule = f"sample_weight must hold {num} finite numbers of at least 0"
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"{rule}, got other values. Give one number per sample."
        ) from None
    if weight.shape != (num,):
        raise DataError(
            f"{rule}, got shape {list(weight.shape)}. Give one number per sample."
        )
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(wrong):
        raise DataError(
            f"{rule}, got {weight[wrong[0]]} in row {wrong[0]}. Leave samples out by 0."
        )
    if num and not weight.any():
        raise DataError(f"{rule}, got only zeros.")
    return weight


def class_weights(
    class_weight: Mapping[Any, float | int] | str,
    classes: npt.NDArray[Any],
    codes: npt.NDArray[np.integer[Any]],
    weight: FloatArray | None,
) -> FloatArray:
    """Return the weight of each class, ``[K]``.

    Args:
        class_weight: "balanced" for weights inversely proportional to the (weighted)
            frequency of a class, or a dict of weights, 1 for other classes.
        classes: ``[K]`` classes.
        codes: ``[N]`` class indices, -1 where unknown.
        weight: ``[N]`` sample weights, or None.

    Raises:
        ConfigError: If a class of the dict does not exist.
    """
    names = classes.tolist()
    if isinstance(class_weight, Mapping):
        unknown = [name for name in class_weight if name not in names]
        if unknown:
            raise ConfigError(
                f"class_weight must be of classes such as {names[0]!r}, got "
                f"{unknown[0]!r}. Use the labels of y."
            )
        return np.array([float(class_weight.get(name, 1)) for name in names])
    known = codes >= 0
    weights = None if weight is None else weight[known]
    count = np.bincount(codes[known], weights, minlength=len(names))
    present = count > 0
    balanced = count.sum() / (present.sum() * np.where(present, count, 1))
    return np.where(present, balanced, 1.0)


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
