"""What retriever and matcher share: a fitted space of embeddings, read and saved.

Letters: ``N`` samples, ``M`` modalities.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from mmgraph import checkpoint
from mmgraph.data import MultimodalData
from mmgraph.data.labels import class_numbers
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.base import OF_THE_MACHINE, FusionEstimator
from mmgraph.estimators.folds import assign_folds, number_groups
from mmgraph.estimators.options import check_options
from mmgraph.estimators.saving import build_expert, describe_expert, fill, plain_value
from mmgraph.estimators.sharing import fill_from_groups
from mmgraph.estimators.space import EmbeddingSpace, empty_space
from mmgraph.estimators.spacing import FittedSpace, Supervision, fit_space
from mmgraph.estimators.trust import Samples
from mmgraph.model import FusionModel
from mmgraph.nn.heads import Classification, Task
from mmgraph.nn.radial import RadialMap
from mmgraph.schema import Schema

NUM_FOLDS = 5
SelfT = TypeVar("SelfT", bound="PairedEstimator")


class PairedEstimator(FusionEstimator):
    """What retriever and matcher share."""

    model_: nn.Module  # type: ignore[assignment]

    def _fit_space(
        self, data: MultimodalData
    ) -> tuple[MultimodalData, Samples, FittedSpace]:
        """Fit the space; return it with the data in the order of the schema."""
        self.schema_ = data.schema
        self._check_modalities(data)
        data = fill_from_groups(data.select(self.schema_.modality_names))
        samples = samples_of(data, self.supervision, int(self.seed))
        self.feature_widths_ = [x.shape[1] for x in samples.features.values()]
        fitted = fit_space(
            samples,
            supervision=self.supervision,
            channels=int(self.out_channels),
            kinds=tuple(self.experts),
            seed=int(self.seed),
        )
        self.unseen_ = self._unseen(fitted)
        return data, samples, fitted

    def _check_modalities(self, data: MultimodalData) -> None:
        absent = [m for m in self.schema_.modality_names if m not in data.columns]
        if absent:
            raise DataError(
                f"Training data must have the modality {absent[0]!r} of the schema, "
                f"got {', '.join(data.modalities)}."
            )

    def _unseen(self, fitted: FittedSpace) -> list[str]:
        """Name the modalities that nothing was learned about."""
        names, present = self.schema_.modality_names, fitted.present
        if fitted.space.num_classes:
            return [
                n for n, seen in zip(names, present.any(0), strict=True) if not seen
            ]
        return modalities_without_partner(present, names)

    def _graph_of(self, space: EmbeddingSpace, task: Task) -> FusionModel:
        return FusionModel(
            self.schema_,
            task,
            hidden_channels=self.hidden_channels,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            capacity=self.capacity,
            feed_forward=self.feed_forward,  # type: ignore[arg-type]
            evidence_channels=space.evidence_channels,
            members=int(self.members),
            seed=int(self.seed),
        )

    def _build(self, space: EmbeddingSpace) -> nn.Module:
        raise AssertionError("a paired estimator says what is built on its space")

    @property
    def _space(self) -> EmbeddingSpace:
        raise AssertionError("a paired estimator says where its space is")

    # Saving

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted estimator as safetensors and JSON; never pickle."""
        check_is_fitted(self, "model_")
        params = self.get_params(deep=False)
        schema = params.pop("schema")
        params = {k: v for k, v in params.items() if k not in OF_THE_MACHINE}
        manifest = {
            "estimator": type(self).__name__,
            "params": {name: plain_value(value) for name, value in params.items()},
            "given_schema": None if schema is None else schema.to_json(),
            "schema": self.schema_.to_json(),
            "schema_hash": self.schema_.hash,
            "feature_widths": self.feature_widths_,
            "unseen": self.unseen_,
            "raw": self.raw_.describe(),
            "space": describe_space(self._space),
        }
        checkpoint.save(folder, self.model_.state_dict(), manifest)

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
        with torch.device("meta"):  # shapes are compared before memory is taken
            space = build_space(manifest["space"], estimator.feature_widths_)
            model = estimator._build(space)
        fill(model, tensors)
        estimator.model_ = model.requires_grad_(False)
        return estimator


def check_multimodal(data: Any) -> MultimodalData:  # noqa: ANN401
    """Return the data.

    Raises:
        DataError: Something else, such as an array.
    """
    if not isinstance(data, MultimodalData):
        raise DataError(
            f"Data must be MultimodalData, got {type(data).__name__}. Build it with "
            "MultimodalData.from_arrays."
        )
    return data


def samples_of(data: MultimodalData, supervision: Supervision, seed: int) -> Samples:
    """Return what a space is fitted on.

    Raises:
        DataError: ``supervision="labels"`` without labels that are classes.
    """
    classes = None if supervision == "pairs" else class_numbers(data.y)
    if supervision == "labels" and classes is None:
        raise DataError(
            "supervision='labels' must come with y of at least two classes, one label "
            "a sample, got none. Give labels, or use supervision='pairs'."
        )
    keys = np.zeros(len(data)) if classes is None else classes
    num_folds = min(NUM_FOLDS, len(data))
    return Samples(
        {name: torch.from_numpy(x) for name, x in data.features().items()},
        torch.from_numpy(number_groups(data.groups, len(data))),
        None if classes is None else torch.from_numpy(classes),
        torch.from_numpy(assign_folds(keys, data.groups, num_folds, seed=seed)),
    )


def describe_space(space: EmbeddingSpace) -> dict[str, Any]:
    """Return what :func:`build_space` needs, as JSON."""
    return {
        "landmarks": [
            [len(m.landmark) for m in maps if isinstance(m, RadialMap)]
            for maps in (space.pair_maps, space.class_maps)
        ],
        "experts": [
            [describe_expert(e) for e in experts]
            for experts in space.experts
            if isinstance(experts, nn.ModuleList)
        ],
        "channels": space.channels,
        "num_classes": space.num_classes,
    }


def build_space(described: dict[str, Any], widths: Sequence[int]) -> EmbeddingSpace:
    """Build the space that :func:`describe_space` describes, with empty tensors."""
    task = Classification(max(int(described["num_classes"]), 1))
    pairs = zip(described["experts"], widths, strict=True)
    experts = nn.ModuleList(
        nn.ModuleList(build_expert(item, width, task) for item in items)
        for items, width in pairs
    )
    return empty_space(
        widths,
        described["landmarks"],
        experts,
        int(described["channels"]),
        int(described["num_classes"]),
    )


def modalities_without_partner(present: Tensor, names: Sequence[str]) -> list[str]:
    """Name the modalities that no sample has together with another."""
    paired = present & (present.sum(1) > 1)[:, None]
    return [name for name, seen in zip(names, paired.any(0), strict=True) if not seen]
