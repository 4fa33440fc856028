"""Loading of any saved estimator."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmgraph import checkpoint
from mmgraph.errors import CheckpointError
from mmgraph.files import shorten
from mmgraph.typing import PathLike

if TYPE_CHECKING:
    from mmgraph.estimators.base import FusionEstimator
    from mmgraph.model.custom_modules import AnyEncoder, ModuleBuilder

# module of each class, imported when a model of the class is loaded
MODULES = {
    "FusionClassifier": "mmgraph.estimators.classifier",
    "FusionMatcher": "mmgraph.estimators.matcher",
    "FusionRegressor": "mmgraph.estimators.regressor",
    "FusionRetriever": "mmgraph.estimators.retriever",
    "FusionSurvival": "mmgraph.estimators.survival",
}


def load_estimator(
    folder: PathLike,
    *,
    device: str | None = None,
    encoders: "Mapping[str, AnyEncoder] | None" = None,
    conv: "ModuleBuilder | None" = None,
) -> "FusionEstimator":
    """Load an estimator that ``save_pretrained`` wrote, whatever its class.

    Args:
        folder: Folder of the saved estimator.
        device: Device of the model; default: a GPU if there is one.
        encoders: Pretrained encoder, or its path or name, by modality; default: the
            locations at the time of the fit. Also the custom encoders of the fit.
        conv: The ``conv`` of the fit.

    Returns:
        The fitted estimator.

    Raises:
        CheckpointError: If files are damaged or of another program, the class is
            unknown, a pretrained encoder is not found or is another one, or a custom
            module of the fit is not given.
        ConfigError: If an encoder or convolution is given to a model that had none.
    """
    saved = checkpoint.load(folder)
    name = kind_of(folder, saved.manifest)
    kind = getattr(import_module(MODULES[name]), name)
    estimator: FusionEstimator = kind.from_saved(
        folder, saved, device=device, encoders=encoders, conv=conv
    )
    return estimator


def kind_of(folder: PathLike, manifest: Mapping[str, Any]) -> str:
    """Return the class name of a saved estimator.

    Args:
        folder: Folder, for messages.
        manifest: Its manifest.

    Raises:
        CheckpointError: If the class is unknown.
    """
    name = manifest.get("estimator")
    if not isinstance(name, str) or name not in MODULES:
        raise CheckpointError(
            f"{folder} must hold one of {', '.join(MODULES)}, got {shorten(name)}."
        )
    return name
