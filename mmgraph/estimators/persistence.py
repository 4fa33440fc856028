"""Saving fitted estimators as safetensors and JSON, and loading them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from mmgraph import checkpoint
from mmgraph._trace import describe_failure, trace
from mmgraph.errors import CheckpointError
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.estimators.validation import (
    CONSTRAINTS,
    Constraint,
    check_params,
    resolve_device,
)
from mmgraph.experts.serialization import count_objects, load_tensors
from mmgraph.files import shorten
from mmgraph.model.custom_modules import (
    AnyEncoder,
    CustomModules,
    ModuleBuilder,
    pretrained_encoders,
)
from mmgraph.model_card import write_card
from mmgraph.schema import Schema
from mmgraph.typing import PathLike

SelfT = TypeVar("SelfT", bound="PersistenceMixin")

# parameters that do not affect the model, or are saved separately
RUNTIME_PARAMS = ("device", "verbose", "checkpoint_dir", "encoders", "conv")
# entries of a manifest that do not describe modules
NOT_MODULES = (
    *("inputs", "params", "parts_sha256", "parts_bytes"),
    *("conformal", "training_summary", "columns", "modules"),
)


class PersistenceMixin(BaseEstimator):
    """Saving and loading of parameters, input description and tensors.

    Attributes:
        input_spec_: Description of the inputs.
        model_: Fitted module.
    """

    device: str | None
    encoders: Mapping[str, AnyEncoder] | None
    num_layers: int
    input_spec_: InputSpec
    model_: Any  # the module of the estimator
    _constraints: ClassVar[Mapping[str, Constraint]] = CONSTRAINTS

    def _set_modules(self, modules: CustomModules) -> None:
        """Set the parameters that are custom modules, before a model is built."""

    def _check_params(self) -> None:
        """Check the parameters of the constructor."""
        check_params(self.get_params(deep=False), self._constraints)

    def save_pretrained(self, folder: PathLike) -> None:
        """Save the fitted estimator as safetensors and JSON, with a model card.

        The model card is a README.md with the modalities, scores and calibration, and
        no value of a sample. A README.md of other origin is kept.

        Args:
            folder: Folder; created if necessary. A model in the folder is replaced.

        Raises:
            CheckpointError: If the folder cannot be written, or the model has base
                learners of scikit-learn.
            NotFittedError: If the estimator is not fitted.
        """
        self._save(folder, {})

    def _save(self, folder: PathLike, entries: Mapping[str, Any]) -> None:
        """Save the estimator with further entries of its manifest."""
        check_is_fitted(self, "model_")
        params = model_params(self)
        schema = params.pop("schema")
        manifest = {
            **entries,
            "estimator": type(self).__name__,
            "params": params,
            "given_schema": None if schema is None else schema.to_json(),
            "inputs": self.input_spec_.to_json(),
            **self._model_config(),
        }
        checkpoint.save(folder, self.model_.state_dict(), manifest)
        write_card(Path(folder), self.summary_)

    @property
    def summary_(self) -> str:
        """Description of the model as Markdown."""
        raise AssertionError("defined by every estimator")

    def _model_config(self) -> dict[str, Any]:
        """Return what :meth:`_model_from_config` needs, as JSON."""
        raise AssertionError("defined by every estimator")

    def _model_from_config(self, manifest: dict[str, Any]) -> nn.Module:
        """Build the model of a manifest. Its tensors are loaded later."""
        raise AssertionError("defined by every estimator")

    @classmethod
    def from_pretrained(
        cls: type[SelfT],
        folder: PathLike,
        *,
        device: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        encoders: Mapping[str, AnyEncoder] | None = None,
        conv: ModuleBuilder | None = None,
    ) -> SelfT:
        """Load an estimator that :meth:`save_pretrained` wrote.

        Args:
            folder: Folder of the saved estimator.
            device: Device of the model; default: a GPU if there is one.
            functions: Function of each Custom topology of the schema, by name.
            encoders: Pretrained encoder, or its path or name, by modality; default: the
                locations at the time of the fit. Also the custom encoders of the fit,
                whose parameters are saved without their code.
            conv: The ``conv`` of the fit, likewise.

        Raises:
            CheckpointError: If files are damaged, of another program or of another
                estimator, a pretrained encoder is not found or is another one, or a
                custom module of the fit is not given.
            ConfigError: If the device is unknown, or a custom module is given to a
                model without one.
        """
        saved = checkpoint.load(folder)
        if saved.manifest.get("estimator") != cls.__name__:
            raise CheckpointError(
                f"{folder} must hold a {cls.__name__}, got "
                f"{shorten(saved.manifest.get('estimator'))}."
            )
        return cls.from_saved(folder, saved, device, functions, encoders, conv)

    @classmethod
    def from_saved(
        cls: type[SelfT],
        folder: PathLike,
        saved: checkpoint.SavedModel,
        device: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        encoders: Mapping[str, AnyEncoder] | None = None,
        conv: ModuleBuilder | None = None,
    ) -> SelfT:
        """Build an estimator of this class from the content of its folder.

        Args:
            folder: Folder, for messages.
            saved: Content of the folder.
            device: As in :meth:`from_pretrained`.
            functions: As in :meth:`from_pretrained`.
            encoders: As in :meth:`from_pretrained`.
            conv: As in :meth:`from_pretrained`.

        Raises:
            CheckpointError: As in :meth:`from_pretrained`.
            ConfigError: If the device is unknown.
        """
        where, manifest = resolve_device(device), trace(saved.manifest)
        modules = CustomModules.of(conv, encoders)
        modules.check(folder, saved.manifest.get("modules", {}))
        try:
            estimator = cls._restored(
                saved.tensors, manifest, dict(functions or {}), modules
            )
        except checkpoint.LOAD_ERRORS as error:
            raise CheckpointError(
                f"{folder} must describe a model of this version: "
                f"{describe_failure(error, manifest)}."
            ) from None
        estimator.device = device
        estimator.model_.to(where)
        spec = estimator.input_spec_
        given = pretrained_encoders(encoders)
        spec = spec.with_encoders(folder, manifest["inputs"], given, device)
        estimator.input_spec_ = spec
        loaded: dict[str, AnyEncoder] = {
            k: v for k, v in spec.featurizer.encoders.items() if v is not None
        }
        estimator.encoders = (loaded | dict(modules.encoders)) or None
        return estimator

    @classmethod
    def _restored(
        cls: type[SelfT],
        tensors: dict[str, Tensor],
        manifest: dict[str, Any],
        functions: dict[str, Callable[..., Any]],
        modules: CustomModules,
    ) -> SelfT:
        given = manifest["given_schema"]
        schema = None if given is None else Schema.from_json(given, functions)
        params = {**manifest["params"], "schema": schema}
        if isinstance(params.get("class_weight"), list):
            params["class_weight"] = dict(params["class_weight"])
        for name in ("experts", "base_learners"):
            if params.get(name) is not None:
                params[name] = tuple(params[name])
        estimator = cls(**params)
        estimator._set_modules(modules)
        estimator._check_params()
        inputs = manifest["inputs"]
        spec = InputSpec.from_json(inputs, functions=functions)
        estimator.input_spec_ = spec
        if len(spec.widths) != len(spec.schema.modalities):
            raise CheckpointError("Every modality must have a width, got others.")
        described = {k: v for k, v in manifest.items() if k not in NOT_MODULES}
        num = max(estimator.num_layers, len(spec.widths), count_objects(described))
        if num > len(tensors):  # compared before modules are built
            raise CheckpointError(
                f"Every layer, modality and base learner must have tensors, got {num} "
                f"for {len(tensors)} tensors."
            )
        with torch.device("meta"):  # shapes are compared before memory is taken
            model = estimator._model_from_config(manifest)
        load_tensors(model, tensors)
        estimator.model_ = model.requires_grad_(False).eval()
        return estimator


def save_with_columns(
    estimator: PersistenceMixin, folder: PathLike, columns: Mapping[str, Any]
) -> None:
    """Save a fitted estimator and the columns of its training data in one manifest.

    Args:
        estimator: Fitted estimator.
        folder: Folder; created if necessary. A model in the folder is replaced.
        columns: Columns by role, as JSON.

    Raises:
        CheckpointError: If the folder cannot be written.
    """
    estimator._save(folder, {"columns": columns})


def model_params(estimator: BaseEstimator) -> dict[str, Any]:
    """Return the parameters of an estimator that belong to its model."""
    params = estimator.get_params(deep=False)
    return to_json_values({k: v for k, v in params.items() if k not in RUNTIME_PARAMS})


def to_json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert NumPy scalars, tuples and dicts to values that JSON can represent."""
    return {name: _to_json(value) for name, value in values.items()}


def _to_json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):  # keys of JSON are strings, classes may be numbers
        return [[_to_json(key), _to_json(item)] for key, item in value.items()]
    return value
