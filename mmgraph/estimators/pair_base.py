"""Base class of retriever and matcher: fit and saving of an embedding space.

Letters: ``N`` samples, ``M`` modalities.
"""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from mmgraph.data import MultimodalData
from mmgraph.data.splits import assign_folds, encode_groups, num_feasible_folds
from mmgraph.data.targets import class_numbers
from mmgraph.embedding.aligned import AlignedMap
from mmgraph.embedding.fit import FittedSpace, Supervision, fit_space
from mmgraph.embedding.group_imputation import impute_from_group
from mmgraph.embedding.space import EmbeddingSpace, empty_space
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.embedding.windows import NUM_COMPONENTS, WindowMap
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.estimators.base import FusionEstimator
from mmgraph.estimators.featurize import Featurizer
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.estimators.validation import PAIR_CONSTRAINTS, Constraint
from mmgraph.experts.serialization import experts_config, experts_from_config
from mmgraph.files import shorten
from mmgraph.model_card import model_card
from mmgraph.nn.heads import Classification
from mmgraph.nn.radial import RBFMap
from mmgraph.schema import Modality, Schema
from mmgraph.typing import PathLike


class PairEstimator(FusionEstimator):
    """Base class of retriever and matcher."""

    supervision: Supervision
    out_channels: int
    aligned: Sequence[str] | None
    model_: nn.Module
    _constraints: ClassVar[Mapping[str, Constraint]] = PAIR_CONSTRAINTS

    def _fit_space(
        self, data: MultimodalData, mixing: Mapping[str, Tensor] | None = None
    ) -> tuple[MultimodalData, EmbeddingTrainingData, FittedSpace]:
        """Fit the embedding space.

        Modalities to which nothing could be fitted count as missing.

        Args:
            data: Samples.
            mixing: As in :class:`EmbeddingTrainingData`.

        Returns:
            The samples with the modalities of the schema, the training data of the
            space, and the fitted space.
        """
        if self.schema is not None:
            data = data.with_schema(self.schema)
        spec, data = InputSpec.fit(
            data,
            encoders=self.encoders,  # type: ignore[arg-type]
            device=self.device,
            progress=self.verbose,
            categories_as_text=True,
        )
        self.input_spec_ = spec
        data = impute_from_group(data)
        samples = to_training_data(data, self.supervision, int(self.seed))
        samples = replace(samples, mixing=mixing or {})
        fitted = fit_space(
            samples,
            supervision=self.supervision,
            channels=int(self.out_channels),
            kinds=tuple(self.experts),
            aligned=aligned_modalities(self.aligned, spec.schema, spec.featurizer),
            seed=int(self.seed),
        )
        unseen = self._unseen(fitted)
        self.input_spec_ = replace(spec, unseen=tuple(unseen))
        seen = torch.tensor([name not in unseen for name in data.modalities])
        return data, samples, replace(fitted, present=fitted.present & seen)

    def _unseen(self, fitted: FittedSpace) -> list[str]:
        """Return the modalities to which nothing could be fitted."""
        names, present = self.schema_.modality_names, fitted.present
        if fitted.space.num_classes:
            return [
                n for n, seen in zip(names, present.any(0), strict=True) if not seen
            ]
        alone = modalities_without_partner(present, names)
        aligned = dict(zip(names, fitted.space.aligned.aligned, strict=True))
        known = dict(zip(names, present.any(0).tolist(), strict=True))
        return [n for n in alone if not (aligned[n] and known[n])]

    def _build(self, space: EmbeddingSpace) -> nn.Module:
        raise AssertionError("defined by retriever and matcher")

    @property
    def _space(self) -> EmbeddingSpace:
        raise AssertionError("defined by retriever and matcher")

    # Saving

    def save_pretrained(self, folder: PathLike, *, training_rows: bool = True) -> None:
        """Save the fitted estimator as safetensors and JSON.

        The landmarks of kernel ridge regression are rows of the training data, which
        the saved model contains. They can be replaced by means of similar rows.

        Args:
            folder: Folder; created if necessary. A model in the folder is replaced.
            training_rows: Save landmarks as they are. False saves means of at least
                five training rows in their place, and embeddings change slightly. This
                is no guarantee of privacy: means, weights and, in a matcher, embeddings
                of training samples still depend on the training data.

        Raises:
            CheckpointError: If the folder cannot be written.
            NotFittedError: If the estimator is not fitted.
        """
        check_is_fitted(self, "model_")
        saved = self
        if not training_rows:
            saved = copy(self)
            saved.model_ = deepcopy(self.model_)
            for maps in (saved._space.pair_maps, saved._space.class_maps):
                for number, each in enumerate(maps):
                    if isinstance(each, RBFMap):
                        maps[number] = each.averaged()
        super(PairEstimator, saved).save_pretrained(folder)

    @property
    def summary_(self) -> str:
        """Inputs of the model as Markdown, without sample values."""
        check_is_fitted(self, "model_")
        return model_card(
            type(self).__name__, self.input_spec_.inputs, predicts=self._card_target()
        )

    def _card_target(self) -> str:
        """Return what the model predicts."""
        raise AssertionError("defined by retriever and matcher")

    def _model_config(self) -> dict[str, Any]:
        return {"space": space_config(self._space)}

    def _model_from_config(self, manifest: dict[str, Any]) -> nn.Module:
        return self._build(space_from_config(manifest["space"], self.input_spec_))


def check_multimodal(data: Any) -> MultimodalData:  # noqa: ANN401
    """Return multimodal data unchanged.

    Raises:
        DataError: If the data are of another type, such as an array.
    """
    if not isinstance(data, MultimodalData):
        raise DataError(
            f"Data must be MultimodalData, got {type(data).__name__}. Build it with "
            "MultimodalData.from_arrays."
        )
    return data


def to_training_data(
    data: MultimodalData, supervision: Supervision, seed: int
) -> EmbeddingTrainingData:
    """Return the training data of an embedding space.

    Raises:
        DataError: If ``supervision`` is "labels" and there are no classes.
    """
    classes = None if supervision == "pairs" else class_numbers(data.y)
    if supervision == "labels" and classes is None:
        raise DataError(
            "supervision='labels' needs y with at least two classes, one label per "
            "sample, got none. Give labels, or use supervision='pairs'."
        )
    keys = np.zeros(len(data)) if classes is None else classes
    num_folds = num_feasible_folds(data.groups, len(data))
    return EmbeddingTrainingData(
        {name: torch.from_numpy(x) for name, x in data.features().items()},
        torch.from_numpy(encode_groups(data.groups, len(data))),
        None if classes is None else torch.from_numpy(classes),
        torch.from_numpy(assign_folds(keys, data.groups, num_folds, seed=seed)),
        data.schema,
        lambda rows: data.batch(rows.numpy()),
    )


def space_config(space: EmbeddingSpace) -> dict[str, Any]:
    """Return the configuration of a space, as JSON."""
    aligned, windows = space.aligned, {}
    if isinstance(aligned, WindowMap):
        windows = {"windows": [aligned.widths, aligned.num_components]}
    return {
        "landmarks": [
            [len(m.landmark) for m in maps if isinstance(m, RBFMap)]
            for maps in (space.pair_maps, space.class_maps)
        ],
        "experts": experts_config(
            experts for experts in space.experts if isinstance(experts, nn.ModuleList)
        ),
        "aligned": list(aligned.aligned),
        "aligned_channels": aligned.channels,
        "channels": space.channels,
        "num_classes": space.num_classes,
        **windows,
    }


def space_from_config(config: dict[str, Any], spec: InputSpec) -> EmbeddingSpace:
    """Build a space from its configuration, with empty tensors.

    Raises:
        CheckpointError: If windows do not fit the modalities.
    """
    task = Classification(max(int(config["num_classes"]), 1))
    aligned: AlignedMap | WindowMap
    if "windows" in config:
        widths, num_components = config["windows"]
        _check_windows(widths, num_components, spec)
        aligned = WindowMap(spec.schema.modality_names, widths, num_components)
    else:
        aligned = AlignedMap(config["aligned"], int(config["aligned_channels"]))
    return empty_space(
        spec.widths,
        config["landmarks"],
        experts_from_config(config["experts"], spec.widths, task),
        aligned,
        int(config["channels"]),
        int(config["num_classes"]),
    )


def _check_windows(widths: Sequence[int], num_components: int, spec: InputSpec) -> None:
    """Check the number of channels of modalities that are compared in windows.

    Raises:
        CheckpointError: If it is not that of the schema, or 0.
    """
    known = [(0, int(m.channels or 0)) for m in spec.schema.modalities]
    if num_components not in range(1, NUM_COMPONENTS + 1) or not (
        len(widths) == len(known)
        and all(width in own for width, own in zip(widths, known, strict=True))
    ):
        raise CheckpointError(
            f"windows must have the channels of each modality or 0, and 1 to "
            f"{NUM_COMPONENTS} components, got {shorten(widths)} and "
            f"{shorten(num_components)}."
        )


def modalities_without_partner(present: Tensor, names: Sequence[str]) -> list[str]:
    """Return the modalities that no sample has together with another one."""
    paired = present & (present.sum(1) > 1)[:, None]
    return [name for name, seen in zip(names, paired.any(0), strict=True) if not seen]


def aligned_modalities(
    given: Sequence[str] | None, schema: Schema, featurizer: Featurizer
) -> list[str]:
    """Return the modalities in a shared embedding space.

    Args:
        given: Names of the modalities, none or at least two; None: those that one
            pretrained model encodes.
        schema: Schema with vectors in place of texts, images and audio.
        featurizer: Featurizer with the pretrained encoders.

    Raises:
        ConfigError: If there is an unknown modality, a single one, a sequence, or
            vectors have different lengths.
    """
    names = featurizer.shared_space() if given is None else list(given)
    known = {m.name: m for m in schema.modalities}
    unknown = [name for name in names if name not in known]
    if unknown or len(names) == 1 or len(set(names)) < len(names):
        raise ConfigError(
            "aligned must name none or at least two different modalities, of "
            f"{', '.join(known)}, got {', '.join(map(repr, names))}.",
            parameter="aligned",
        )
    widths = {name: _width(known[name]) for name in names}
    if len(set(widths.values())) > 1 or None in widths.values():
        got = ", ".join(f"{name} ({n or 'a sequence'})" for name, n in widths.items())
        raise ConfigError(
            "aligned must name modalities of one vector per sample, all of one length, "
            f"got {got}. Name those that one model maps into one space.",
            parameter="aligned",
        )
    return names


def _width(modality: Modality) -> int | None:
    return None if modality.tokens == "ragged" else modality.channels
