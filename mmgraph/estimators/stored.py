"""Estimators that are written to folders and read again."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from mmgraph import checkpoint
from mmgraph.errors import CheckpointError
from mmgraph.estimators import saving
from mmgraph.estimators.options import check_options, resolve_device
from mmgraph.estimators.raw import Encoder, RawInputs
from mmgraph.schema import Schema

SelfT = TypeVar("SelfT", bound="StoredEstimator")


class StoredEstimator(BaseEstimator):
    """What can be saved of an estimator: arguments, schema, and one model's tensors."""

    device: str | None
    encoders: Mapping[str, Encoder] | None
    num_layers: int
    schema_: Schema
    feature_widths_: list[int]
    unseen_: list[str]
    channels_: dict[str, tuple[str, ...]]
    raw_: RawInputs
    model_: Any  # the module of the estimator

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted estimator as safetensors and JSON; never pickle."""
        check_is_fitted(self, "model_")
        params = saving.plain_params(self)
        schema = params.pop("schema")
        manifest = {
            "estimator": type(self).__name__,
            "params": params,
            "given_schema": None if schema is None else schema.to_json(),
            "schema": self.schema_.to_json(),
            "schema_hash": self.schema_.hash,
            "feature_widths": self.feature_widths_,
            "unseen": self.unseen_,
            "channels": self.channels_,
            "raw": self.raw_.describe(),
            **self._described(),
        }
        checkpoint.save(folder, self.model_.state_dict(), manifest)

    def _described(self) -> dict[str, Any]:
        """Return what :meth:`_empty_model` needs, as JSON."""
        raise AssertionError("an estimator says what its model is made of")

    def _empty_model(self, manifest: dict[str, Any]) -> nn.Module:
        """Build the model that was described; its tensors are loaded later."""
        raise AssertionError("an estimator says how its model is built")

    @classmethod
    def from_pretrained(
        cls: type[SelfT],
        folder: str | os.PathLike[str],
        *,
        device: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        encoders: Mapping[str, Encoder] | None = None,
    ) -> SelfT:
        """Read an estimator that :meth:`save_pretrained` wrote.

        Args:
            folder: Where it was saved.
            device: Where to compute; default: a GPU if there is one.
            functions: The function of every Custom topology of the schema, by name.
            encoders: Where pretrained encoders are now, by modality; default: where
                they were when the estimator was fitted.

        Raises:
            CheckpointError: Damaged or foreign files, another estimator's, or a
                pretrained encoder that is not there or not the same.
            ConfigError: An unknown device.
        """
        where = resolve_device(device)
        tensors, manifest = checkpoint.load(folder)
        if manifest.get("estimator") != cls.__name__:
            raise CheckpointError(
                f"{folder} must hold a {cls.__name__}, got "
                f"{manifest.get('estimator')!r}."
            )
        try:
            estimator = cls._restored(tensors, manifest, dict(functions or {}))
        except saving.WRONG_CONTENT as error:
            raise CheckpointError(
                f"{folder} does not describe a model of this version: {error}"
            ) from None
        estimator.device = device
        estimator.model_.to(where)
        raw = RawInputs.restore(folder, manifest.get("raw"), encoders, device)
        estimator.raw_, estimator.encoders = raw, dict(raw.encoders) or None
        return estimator

    @classmethod
    def _restored(
        cls: type[SelfT],
        tensors: dict[str, Tensor],
        manifest: dict[str, Any],
        functions: dict[str, Callable[..., Any]],
    ) -> SelfT:
        given = manifest["given_schema"]
        schema = None if given is None else Schema.from_json(given, functions)
        params = {**manifest["params"], "schema": schema}
        estimator = cls(**{**params, "experts": tuple(params["experts"])})
        check_options(estimator.get_params(deep=False))
        if estimator.num_layers > len(tensors):
            raise CheckpointError("A graph layer must have tensors, got too few.")
        estimator.schema_ = Schema.from_json(manifest["schema"], functions)
        if estimator.schema_.hash != manifest["schema_hash"]:
            raise CheckpointError("The schema must have the hash that was saved.")
        estimator.feature_widths_ = [int(width) for width in manifest["feature_widths"]]
        unseen: list[str] = manifest["unseen"]
        estimator.unseen_ = [estimator.schema_.modality(m).name for m in unseen]
        channels: dict[str, list[str]] = manifest["channels"]
        estimator.channels_ = {m: tuple(names) for m, names in channels.items()}
        with torch.device("meta"):  # shapes are compared before memory is taken
            model = estimator._empty_model(manifest)
        saving.fill(model, tensors)
        estimator.model_ = model.requires_grad_(False)
        return estimator
