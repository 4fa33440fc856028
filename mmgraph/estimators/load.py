"""Any saved estimator, without knowing which one it is."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmgraph import checkpoint
from mmgraph.errors import CheckpointError

if TYPE_CHECKING:
    from mmgraph.estimators.base import FusionEstimator
    from mmgraph.estimators.featurize import Encoder

# the module of each class, imported when a model of it is loaded
HOMES = {
    "FusionClassifier": "mmgraph.estimators.classifier",
    "FusionMatcher": "mmgraph.estimators.matcher",
    "FusionRegressor": "mmgraph.estimators.regressor",
    "FusionRetriever": "mmgraph.estimators.retriever",
}


def load_estimator(
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    encoders: "Mapping[str, Encoder] | None" = None,
) -> "FusionEstimator":
    """Read whatever estimator ``save_pretrained`` wrote into a folder.

    Args:
        folder: Where it was saved.
        device: Where to compute; default: a GPU if there is one.
        encoders: Where pretrained encoders are now, by modality; default: where they
            were when the estimator was fitted.

    Raises:
        CheckpointError: Damaged or foreign files, an unknown kind of estimator, or a
            pretrained encoder that is not there or not the same.
        ConfigError: An encoder of a modality that had none.
    """
    name = read_kind(folder)
    kind = getattr(import_module(HOMES[name]), name)
    estimator: FusionEstimator = kind.from_pretrained(
        folder, device=device, encoders=encoders
    )
    return estimator


def read_kind(folder: str | os.PathLike[str]) -> str:
    """Return the name of the estimator that ``save_pretrained`` wrote into a folder.

    Raises:
        CheckpointError: Damaged or foreign files, or an unknown kind of estimator.
    """
    name: Any = checkpoint.read_manifest(folder).get("estimator")
    if not isinstance(name, str) or name not in HOMES:
        raise CheckpointError(
            f"{folder} must hold one of {', '.join(HOMES)}, got {name!r}."
        )
    return name
