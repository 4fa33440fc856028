"""What retriever and matcher share: a fitted space of embeddings, read and saved.

Letters: ``N`` samples, ``M`` modalities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.data import MultimodalData
from mmgraph.data.labels import class_numbers
from mmgraph.errors import DataError
from mmgraph.estimators.aligned import AlignedMap, aligned_modalities
from mmgraph.estimators.base import FusionEstimator
from mmgraph.estimators.folds import assign_folds, count_folds, number_groups
from mmgraph.estimators.inputs import check_modalities
from mmgraph.estimators.saving import build_experts, describe_experts
from mmgraph.estimators.sharing import fill_from_groups
from mmgraph.estimators.space import EmbeddingSpace, empty_space
from mmgraph.estimators.spacing import FittedSpace, Supervision, fit_space
from mmgraph.estimators.trust import Samples
from mmgraph.nn.heads import Classification
from mmgraph.nn.radial import RadialMap


class PairedEstimator(FusionEstimator):
    """What retriever and matcher share.

    Their constructors name every argument; types are those of the attributes.
    """

    supervision: Supervision
    out_channels: int
    aligned: Sequence[str] | None
    completion = False
    model_: nn.Module  # type: ignore[assignment]

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Keep the arguments of a constructor as they are, as scikit-learn asks.

        Args:
            given: What ``locals()`` is at its first line.
        """
        self.__dict__.update({k: v for k, v in given.items() if k != "self"})

    def _fit_space(
        self, data: MultimodalData
    ) -> tuple[MultimodalData, Samples, FittedSpace]:
        """Fit the space; return it with the data in the order of the schema.

        Modalities that nothing was learned about count as missing.
        """
        self.schema_ = data.schema
        check_modalities(data, self.schema_)
        data = fill_from_groups(data.select(self.schema_.modality_names))
        samples = samples_of(data, self.supervision, int(self.seed))
        self.feature_widths_ = [x.shape[1] for x in samples.features.values()]
        fitted = fit_space(
            samples,
            supervision=self.supervision,
            channels=int(self.out_channels),
            kinds=tuple(self.experts),
            aligned=aligned_modalities(self.aligned, self.schema_, self.raw_),
            seed=int(self.seed),
        )
        self.unseen_ = self._unseen(fitted)
        seen = torch.tensor([name not in self.unseen_ for name in data.modalities])
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

    def _described(self) -> dict[str, Any]:
        return {"space": describe_space(self._space)}

    def _empty_model(  # type: ignore[override]
        self, manifest: dict[str, Any]
    ) -> nn.Module:
        return self._build(build_space(manifest["space"], self.feature_widths_))


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
    num_folds = count_folds(data.groups, len(data))
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
        "experts": describe_experts(
            experts for experts in space.experts if isinstance(experts, nn.ModuleList)
        ),
        "aligned": list(space.aligned.aligned),
        "aligned_channels": space.aligned.channels,
        "channels": space.channels,
        "num_classes": space.num_classes,
    }


def build_space(described: dict[str, Any], widths: Sequence[int]) -> EmbeddingSpace:
    """Build the space that :func:`describe_space` describes, with empty tensors."""
    task = Classification(max(int(described["num_classes"]), 1))
    return empty_space(
        widths,
        described["landmarks"],
        build_experts(described["experts"], widths, task),
        AlignedMap(described["aligned"], int(described["aligned_channels"])),
        int(described["channels"]),
        int(described["num_classes"]),
    )


def modalities_without_partner(present: Tensor, names: Sequence[str]) -> list[str]:
    """Name the modalities that no sample has together with another."""
    paired = present & (present.sum(1) > 1)[:, None]
    return [name for name, seen in zip(names, paired.any(0), strict=True) if not seen]
