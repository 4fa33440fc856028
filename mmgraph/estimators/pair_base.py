"""What retriever and matcher share: a fitted space of embeddings, read and saved.

Letters: ``N`` samples, ``M`` modalities.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.data import MultimodalData
from mmgraph.data.splits import assign_folds, encode_groups, num_feasible_folds
from mmgraph.data.targets import class_numbers
from mmgraph.embedding.aligned import AlignedMap
from mmgraph.embedding.fit import FittedSpace, Supervision, fit_space
from mmgraph.embedding.group_imputation import impute_from_group
from mmgraph.embedding.kernel_ridge import RBFMap
from mmgraph.embedding.space import EmbeddingSpace, empty_space
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators.base import FusionEstimator
from mmgraph.estimators.featurize import Featurizer
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.experts.serialization import experts_config, experts_from_config
from mmgraph.nn.heads import Classification
from mmgraph.schema import Modality, Schema


class PairEstimator(FusionEstimator):
    """What retriever and matcher share.

    Their constructors name every argument; types are those of the attributes.
    """

    supervision: Supervision
    out_channels: int
    aligned: Sequence[str] | None
    model_: nn.Module

    def _fit_space(
        self, data: MultimodalData
    ) -> tuple[MultimodalData, EmbeddingTrainingData, FittedSpace]:
        """Fit the space; return it with the data in the order of the schema.

        Modalities that nothing was learned about count as missing.
        """
        if self.schema is not None:
            data = data.with_schema(self.schema)
        spec, data = InputSpec.fit(
            data, encoders=self.encoders, device=self.device, progress=self.verbose
        )
        self.input_spec_ = spec
        data = impute_from_group(data)
        samples = samples_of(data, self.supervision, int(self.seed))
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
        """Name the modalities that nothing was learned about."""
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
        raise AssertionError("a paired estimator says what is built on its space")

    @property
    def _space(self) -> EmbeddingSpace:
        raise AssertionError("a paired estimator says where its space is")

    # Saving

    def _model_config(self) -> dict[str, Any]:
        return {"space": space_config(self._space)}

    def _model_from_config(self, manifest: dict[str, Any]) -> nn.Module:
        return self._build(
            space_from_config(manifest["space"], self.input_spec_.widths)
        )


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


def samples_of(
    data: MultimodalData, supervision: Supervision, seed: int
) -> EmbeddingTrainingData:
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
    num_folds = num_feasible_folds(data.groups, len(data))
    return EmbeddingTrainingData(
        {name: torch.from_numpy(x) for name, x in data.features().items()},
        torch.from_numpy(encode_groups(data.groups, len(data))),
        None if classes is None else torch.from_numpy(classes),
        torch.from_numpy(assign_folds(keys, data.groups, num_folds, seed=seed)),
    )


def space_config(space: EmbeddingSpace) -> dict[str, Any]:
    """Return what :func:`space_from_config` needs, as JSON."""
    return {
        "landmarks": [
            [len(m.landmark) for m in maps if isinstance(m, RBFMap)]
            for maps in (space.pair_maps, space.class_maps)
        ],
        "experts": experts_config(
            experts for experts in space.experts if isinstance(experts, nn.ModuleList)
        ),
        "aligned": list(space.aligned.aligned),
        "aligned_channels": space.aligned.channels,
        "channels": space.channels,
        "num_classes": space.num_classes,
    }


def space_from_config(
    described: dict[str, Any], widths: Sequence[int]
) -> EmbeddingSpace:
    """Build the space that :func:`space_config` describes, with empty tensors."""
    task = Classification(max(int(described["num_classes"]), 1))
    return empty_space(
        widths,
        described["landmarks"],
        experts_from_config(described["experts"], widths, task),
        AlignedMap(described["aligned"], int(described["aligned_channels"])),
        int(described["channels"]),
        int(described["num_classes"]),
    )


def modalities_without_partner(present: Tensor, names: Sequence[str]) -> list[str]:
    """Name the modalities that no sample has together with another."""
    paired = present & (present.sum(1) > 1)[:, None]
    return [name for name, seen in zip(names, paired.any(0), strict=True) if not seen]


def aligned_modalities(
    given: Sequence[str] | None, schema: Schema, featurizer: Featurizer
) -> list[str]:
    """Return the modalities that share a space, of a schema of numbers.

    Args:
        given: Their names, none or at least two; None: those that one pretrained model
            encodes.
        schema: What was read, pretrained vectors in the place of texts and pictures.
        featurizer: Featurizer with the pretrained encoders.

    Raises:
        ConfigError: An unknown modality, one alone, or such as cannot share a space:
            sequences, or vectors of different lengths.
    """
    names = featurizer.shared_space() if given is None else list(given)
    known = {m.name: m for m in schema.modalities}
    unknown = [name for name in names if name not in known]
    if unknown or len(names) == 1 or len(set(names)) < len(names):
        raise ConfigError(
            "aligned must name none or at least two different modalities, of "
            f"{', '.join(known)}, got {', '.join(map(repr, names))}."
        )
    widths = {name: _width(known[name]) for name in names}
    if len(set(widths.values())) > 1 or None in widths.values():
        told = ", ".join(
            f"{name} ({of or 'a sequence'})" for name, of in widths.items()
        )
        raise ConfigError(
            "aligned must name modalities of one vector a sample, all of one length, "
            f"got {told}. Name those that one model put into one space."
        )
    return names


def _width(modality: Modality) -> int | None:
    return None if modality.tokens == "ragged" else modality.channels
