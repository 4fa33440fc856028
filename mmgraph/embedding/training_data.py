"""Training data of an embedding space."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmgraph.ops import present_rows


@dataclass(frozen=True)
class EmbeddingTrainingData:
    """What a space is fitted on.

    Attributes:
        features: ``[N, F_m]`` by modality; a missing one is an all-NaN row.
        groups: ``[N]`` numbers of what belongs together.
        classes: ``[N]`` class numbers, -1 where unknown; or None.
        folds: ``[N]`` for experts that need them.
    """

    features: Mapping[str, Tensor]
    groups: Tensor
    classes: Tensor | None
    folds: Tensor

    @property
    def present(self) -> Tensor:
        """``[N, M]`` Bool."""
        return present_rows(self.features.values())
