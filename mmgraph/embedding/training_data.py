"""Training data of an embedding space."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mmgraph.data.batch import Batch
from mmgraph.ops import present_rows
from mmgraph.schema import Schema


@dataclass(frozen=True)
class EmbeddingTrainingData:
    """Training samples of an embedding space.

    Attributes:
        features: ``[N, F_m]`` by modality; a missing modality is an all-NaN row.
        groups: ``[N]`` group numbers; samples of one group are left out together.
        classes: ``[N]`` class numbers, -1 if unknown; None without classes.
        folds: ``[N]`` fold of each sample.
        schema: Schema of the inputs.
        batch: Returns the packed rows of samples by index.
        mixing: ``[N, N]`` by modality, weights of the samples to which its rows belong;
            modalities that are not named belong to their own sample.
    """

    features: Mapping[str, Tensor]
    groups: Tensor
    classes: Tensor | None
    folds: Tensor
    schema: Schema
    batch: Callable[[Tensor], Batch]
    mixing: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def present(self) -> Tensor:
        """Availability, ``[N, M]`` Bool."""
        return present_rows(self.features.values())
