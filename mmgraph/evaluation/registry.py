"""Models of users that the benchmark fits by name."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from mmgraph.baselines import BASELINES, RETRIEVAL_BASELINES
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError
from mmgraph.experts.links import Level

ModelFactory: TypeAlias = Callable[[MultimodalData, int], Any]

GROUP = "mmgraph.models"  # of entry points
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # names are part of keys of results
REFERENCE_MODELS = ("mmgraph", "mmgraph_no_edges")
LEVELS: dict[str, Level] = {
    "mmgraph_data": "data",
    "mmgraph_feature": "feature",
    "mmgraph_model": "model",
}
"""Models with one level of fusion, which are fitted only where they are named."""
_REGISTERED: dict[str, ModelFactory] = {}


def register_model(name: str, factory: ModelFactory) -> None:
    """Add a classifier to the benchmark, by a name that ``models`` can contain.

    Packages add models by entry points of the group ``mmgraph.models``, which the
    command line finds, too. Registered models are fitted only where they are named, and
    in the process that registered them.

    Args:
        name: Name of letters, digits, "_", "-" and ".".
        factory: Function ``(data, seed)`` of the training samples and the seed of the
            split that returns an unfitted model. Its ``fit(data)`` returns an object
            with ``classes_`` and ``predict_proba(data)``, as :func:`mmgraph.evaluate`
            needs. The first paragraph of its docstring describes it in the report.

    Raises:
        ConfigError: If the name is taken by another model or has other characters, or
            ``factory`` is not a function.

    Example:
        >>> import mmgraph as mg
        >>> def graph_only(data, seed):
        ...     return mg.FusionClassifier(graph="only", seed=seed)
        >>> mg.register_model("graph_only", graph_only)
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"name must be letters, digits, '_', '-' and '.', got {name!r}. Give one "
            "such as 'my_layer'."
        )
    if not callable(factory):
        raise ConfigError(
            "factory must be a function (data, seed) that returns a model, got "
            f"{type(factory).__name__}. Give lambda data, seed: model."
        )
    if _REGISTERED.get(name) is factory:
        return
    if name in _taken() or name in registered_models():
        raise ConfigError(
            f"name must be that of no other model, got {name!r}, which is taken. "
            "Choose another name."
        )
    _REGISTERED[name] = factory


def registered_models() -> dict[str, ModelFactory | EntryPoint]:
    """Return the models of users by name: registered ones, then entry points.

    Raises:
        ConfigError: If two of them, or one and a model of mmgraph, have one name.
    """
    models: dict[str, ModelFactory | EntryPoint] = dict(_REGISTERED)
    taken = _taken()
    for point in entry_points(group=GROUP):
        if point.name in models or point.name in taken:
            package = point.dist.name if point.dist else point.module
            raise ConfigError(
                "Entry points of mmgraph.models must have unused names, got "
                f"{point.name!r} of {package}, which is taken. Uninstall the package, "
                "or rename its entry point."
            )
        models[point.name] = point
    return models


def factory_of(name: str) -> ModelFactory:
    """Return the function of a registered model or entry point.

    Raises:
        ConfigError: If an entry point is not a function.
    """
    found = registered_models()[name]
    if isinstance(found, EntryPoint):
        found = found.load()
    if not callable(found):
        raise ConfigError(
            f"Entry point {name!r} must be a function (data, seed), got "
            f"{type(found).__name__}."
        )
    return found


def is_local(name: str) -> bool:
    """Return True for a model that other processes do not have."""
    return name in _REGISTERED


def _taken() -> set[str]:
    """Return the names of the models of mmgraph."""
    return {*REFERENCE_MODELS, *LEVELS, *BASELINES, *RETRIEVAL_BASELINES}
